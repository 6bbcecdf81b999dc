//! The proxies: terminal services that send requests, or bytes, to upstream hosts.

pub mod config;
pub mod http;
pub mod tcp;
