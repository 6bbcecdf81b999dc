//! Output bindings: one operation on an outside system.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Component, Metadata, Result};

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Its name, one of [`Binding::operations`].
    pub operation: String,
    /// Its payload.
    pub data: Bytes,
    /// Settings of this call.
    pub metadata: Metadata,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Response {
    /// The payload.
    pub data: Bytes,
    /// What the system said besides.
    pub metadata: Metadata,
}

/// A component that acts on an outside system.
#[async_trait]
pub trait Binding: Component {
    /// The operations offered, in the order in which error texts list them.
    fn operations(&self) -> &'static [&'static str];

    /// Carries out one of the operations offered.
    async fn invoke(&self, request: Request) -> Result<Response>;
}
