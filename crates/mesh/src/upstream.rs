//! Connections to upstream hosts: made when needed, kept while they are good, pooled per cluster
//! and host.

/// What is spoken to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, by prior knowledge or ALPN.
    Http2,
}

/// The connections to one host of one cluster.
#[derive(Debug, Default)]
pub struct Pool(());
