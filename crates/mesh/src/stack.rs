//! A stack: one terminal service under layers, each a `tower` layer that knows no configuration
//! file. Written bottom to top: the layer pushed last sees a request first.
//!
//! Layers stay generic over the service and its body, so that the gRPC path pays for none of
//! them; [`Stack::boxed`] is for stacks whose layers are chosen at run time.

pub mod admin;
pub mod catch_panic;
pub mod deadline;

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use tower::{Layer, Service, ServiceExt, util::BoxCloneSyncService};

use crate::BoxError;

/// A request as a listener hands it over.
pub type Request = http::Request<Incoming>;

/// A reply body of a stack whose type is erased.
pub type BoxBody = UnsyncBoxBody<Bytes, BoxError>;

/// A reply of a stack whose type is erased.
pub type Response = http::Response<BoxBody>;

/// A stack whose type is erased.
pub type BoxService = BoxCloneSyncService<Request, Response, Infallible>;

/// A service with the layers pushed onto it so far.
#[derive(Debug, Clone)]
pub struct Stack<S>(S);

/// Begins a stack with its terminal service.
pub fn over<S>(terminal: S) -> Stack<S> {
    Stack(terminal)
}

impl<S> Stack<S> {
    /// Puts a layer on top.
    pub fn push<L: Layer<S>>(self, layer: L) -> Stack<L::Service> {
        Stack(layer.layer(self.0))
    }

    /// The service, its type in full.
    pub fn into_service(self) -> S {
        self.0
    }

    /// The service, its type erased: two allocations per request.
    pub fn boxed<B>(self) -> BoxService
    where
        S: Service<Request, Response = http::Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let erase =
            |response: http::Response<B>| response.map(|body| body.map_err(Into::into).boxed_unsync());
        BoxCloneSyncService::new(self.0.map_response(erase))
    }
}
