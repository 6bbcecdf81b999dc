//! Listeners, drain and layers, seen by real clients over real sockets.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bind;
mod drain;
mod filters;
mod flood;
mod limits;
mod smuggling;
mod stack;
mod support;
mod tls;
mod unix;
