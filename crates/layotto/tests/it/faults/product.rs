//! Products that can be put under a sidecar.

use std::net::SocketAddr;

use futures::future::BoxFuture;
use layotto_testkit::{history::etag, server::Server};
use serde_json::Value;

/// A product that is back with its data after it was killed.
pub struct Product {
    /// What it is called.
    pub name: &'static str,
    /// The program that must be there.
    pub program: &'static str,
    /// Starts it. Where it tells its clients where it is, it tells this address.
    pub start: fn(SocketAddr) -> BoxFuture<'static, anyhow::Result<Server>>,
    /// The sections of `grpc_config` whose components use the server at an address.
    pub sections: fn(SocketAddr) -> Value,
    /// Asks it, past the sidecar, whether it takes work.
    pub answers: fn(&Server) -> bool,
    /// The most connections that a sidecar has to it, once all is well.
    pub pool: u64,
    /// What its components promise.
    pub promises: Promises,
}

/// What the components of a product promise.
pub struct Promises {
    /// Locks come with fencing tokens.
    pub fenced: bool,
    /// Reads see the last write.
    pub reads: etag::Reads,
}

impl Promises {
    /// All that can be promised.
    pub const ALL: Self = Self {
        fenced: true,
        reads: etag::Reads::Latest,
    };
}
