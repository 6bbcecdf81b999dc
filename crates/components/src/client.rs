//! Clients that back ends of several building blocks share.

pub(crate) mod apollo;
pub(crate) mod embedded;
pub(crate) mod etcd;
pub(crate) mod kafka;
pub(crate) mod pace;
pub(crate) mod postgres;
pub(crate) mod redis;
mod tls;
pub(crate) mod zookeeper;
