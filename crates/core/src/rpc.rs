//! Calls to other services.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Component, Result};

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
