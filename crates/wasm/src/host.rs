//! What guests reach outside this crate, as a trait that the assembly implements.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    Allowed, Headers,
    abi::Level,
    grpc::{Call, Event},
};

/// gRPC's UNIMPLEMENTED.
const UNIMPLEMENTED: u32 = 12;

/// The guest that asks.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The name of its function.
    pub function: Arc<str>,
    /// What its settings allow it.
    pub allowed: Arc<Allowed>,
    /// How many functions called each other to get here, the first not counted.
    pub depth: u32,
    /// When whoever waits for the first of them stops doing so.
    pub deadline: Option<Instant>,
}

/// Why a guest does not get what it asked for.
#[derive(Debug, Clone, Error)]
pub enum Failure {
    /// There is nothing of that name to ask.
    #[error("not known")]
    Unknown,
    /// It was asked and failed, for this reason.
    #[error("{0}")]
    Failed(String),
}

/// A request that a guest sends by `proxy_http_call`.
#[derive(Debug, Clone)]
pub struct HttpCall {
    /// The cluster it goes to.
    pub cluster: String,
    /// With `:method`, `:path`, `:authority`.
    pub headers: Headers,
    /// Its body.
    pub body: Bytes,
    /// Its trailers.
    pub trailers: Headers,
    /// How long the guest waits for the reply.
    pub timeout: Duration,
}

/// The reply to an [`HttpCall`].
#[derive(Debug, Clone, Default)]
pub struct HttpReply {
    /// With `:status`.
    pub headers: Headers,
    /// Its body.
    pub body: Bytes,
    /// Its trailers.
    pub trailers: Headers,
}

/// The world of guests. What is not provided answers [`Failure::Unknown`]. Futures are dropped when
/// the guest ends: that stops the work.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// A text that a guest logs; it may have several lines.
    fn log(&self, function: &str, level: Level, text: &str) {
        log(function, level, text);
    }

    /// Less than this is not logged; guests ask so that they need not write it.
    fn log_level(&self) -> Level {
        Level::Info
    }

    /// Layotto's `proxy_get_state`; a key that is not there has an empty value.
    async fn get_state(&self, _asker: &Asker, _store: &str, _key: &str) -> Result<Bytes, Failure> {
        Err(Failure::Unknown)
    }

    /// Layotto's `proxy_invoke_service`, of a service that is no function of this process.
    async fn invoke_service(
        &self,
        _asker: &Asker,
        _id: &str,
        _method: &str,
        _param: Bytes,
    ) -> Result<Bytes, Failure> {
        Err(Failure::Unknown)
    }

    /// `proxy_call_foreign_function` of `layotto.<method>`, a method of the runtime API: request and
    /// reply are protobuf.
    async fn call_runtime(&self, _asker: &Asker, _method: &str, _request: Bytes) -> Result<Bytes, Failure> {
        Err(Failure::Unknown)
    }

    /// Whether `proxy_http_call` and gRPC can go to this cluster.
    fn has_cluster(&self, _cluster: &str) -> bool {
        false
    }

    /// `proxy_http_call`. Its timeout is kept by the caller.
    async fn http_call(&self, _asker: &Asker, _call: HttpCall) -> Result<HttpReply, Failure> {
        Err(Failure::Unknown)
    }

    /// `proxy_grpc_call` and `proxy_grpc_stream`. What comes ends with [`Event::Closed`]; dropping it
    /// gives the call up. The timeout is kept by the caller, too.
    fn grpc(&self, _asker: &Asker, _call: Call) -> BoxStream<'static, Event> {
        let unknown = Event::closed(UNIMPLEMENTED, Failure::Unknown.to_string());
        stream::iter([unknown]).boxed()
    }
}

/// Every line bears the name of the function: none passes for a line of the process.
fn log(function: &str, level: Level, text: &str) {
    for line in text.lines() {
        match level {
            Level::Trace => tracing::trace!(function, "{line}"),
            Level::Debug => tracing::debug!(function, "{line}"),
            Level::Info => tracing::info!(function, "{line}"),
            Level::Warn => tracing::warn!(function, "{line}"),
            Level::Error | Level::Critical => tracing::error!(function, "{line}"),
        }
    }
}
