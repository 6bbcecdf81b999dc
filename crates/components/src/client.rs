//! Clients that back ends of several building blocks share.

pub(crate) mod embedded;
