//! The proxies: terminal services that send requests, or bytes, to upstream hosts.

pub mod http;
