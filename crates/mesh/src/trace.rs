//! Tracing of proxied calls: a driver reads the trace that a request carries, hands it on to the
//! next hop, and is told how the call ended.

pub mod b3;
mod ids;
pub mod sofa;
pub mod zipkin;

use std::time::Duration;

use http::request;

use crate::exchange::Exchange;

/// A tracing driver.
pub trait Tracer: Send + Sync + 'static {
    /// A call begins. Reads the trace that `head` carries, or begins one, writes what the next hop
    /// needs into `head`, and the trace's id into the facts of `exchange`. `None`: the call is not
    /// recorded.
    fn begin(&self, head: &mut request::Parts, exchange: &Exchange) -> Option<Box<dyn Span>>;
}

/// A call that is recorded.
pub trait Span: Send + 'static {
    /// The call ended; must not wait.
    fn end(self: Box<Self>, ended: &Ended<'_>);
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// The status of its reply, 499 if the client left before there was one.
    pub status: u16,
    /// The value of `grpc-status`, where the reply had one.
    pub grpc_status: Option<u16>,
    /// Whether it was cut, or failed here or at an upstream.
    pub failed: bool,
    /// From the request's head to the reply's end.
    pub took: Duration,
    /// What else is known.
    pub exchange: &'a Exchange,
}

impl Ended<'_> {
    /// Whether the caller got what it asked for.
    pub fn is_ok(&self) -> bool {
        !self.failed && self.status < 400 && self.grpc_status.is_none_or(|status| status == 0)
    }
}
