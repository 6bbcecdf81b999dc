//! Calls to other services.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Component, Error, Result};

/// Header fields, lower-case names; one entry for each value.
pub type Headers = Vec<(String, String)>;

/// A call to another service.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The service called.
    pub id: String,
    /// The method, or path.
    pub method: String,
    /// The HTTP verb; empty where the caller gave none.
    pub verb: String,
    /// The query string, without `?`; may be empty.
    pub query: String,
    /// The media type of `data`; may be empty.
    pub content_type: String,
    /// Header fields to pass on.
    pub headers: Headers,
    /// The body.
    pub data: Bytes,
    /// How long the call may take.
    pub timeout: Duration,
}

/// The answer of another service.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Response {
    /// The media type of `data`; may be empty.
    pub content_type: String,
    /// Header fields.
    pub headers: Headers,
    /// The body.
    pub data: Bytes,
}

/// A component that calls other services.
#[async_trait]
pub trait Invoker: Component {
    /// Makes one call; dropping the future cancels it.
    async fn invoke(&self, request: Request) -> Result<Response>;
}

/// The listeners of the process, as a component calls them: without a socket, and without a copy of
/// the body.
#[async_trait]
pub trait Listeners: Send + Sync {
    /// Hands a request to the listener called `name` and waits for the whole reply, of which the
    /// body may have `largest` bytes. Dropping the future cancels the exchange. No such listener,
    /// or a body that breaks off: [`Unavailable`](crate::ErrorKind::Unavailable).
    async fn call(
        &self,
        name: &str,
        request: http::Request<Bytes>,
        largest: usize,
    ) -> Result<http::Response<Bytes>>;
}

/// The listeners of the process, or none. Clones share them.
#[derive(Clone)]
pub struct Inside(Arc<dyn Listeners>);

impl Inside {
    /// These listeners.
    pub fn new(listeners: Arc<dyn Listeners>) -> Self {
        Self(listeners)
    }

    /// See [`Listeners::call`].
    pub async fn call(
        &self,
        name: &str,
        request: http::Request<Bytes>,
        largest: usize,
    ) -> Result<http::Response<Bytes>> {
        self.0.call(name, request, largest).await
    }
}

/// No listeners: a component outside of a process.
impl Default for Inside {
    fn default() -> Self {
        Self(Arc::new(Nothing))
    }
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inside")
    }
}

struct Nothing;

#[async_trait]
impl Listeners for Nothing {
    async fn call(&self, name: &str, _: http::Request<Bytes>, _: usize) -> Result<http::Response<Bytes>> {
        Err(no_listener(name))
    }
}

/// Whether a channel's `listener` is `host:port`; else it is the name of a listener of the process.
pub fn is_address(listener: &str) -> bool {
    listener
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// The error for a listener that there is not.
pub fn no_listener(name: &str) -> Error {
    Error::unavailable(format!("there is no listener {name:?}"))
}
