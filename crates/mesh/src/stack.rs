//! A stack: one terminal service under layers, each a `tower` layer that knows no configuration
//! file. Written bottom to top: the layer pushed last sees a request first.
//!
//! Layers stay generic over the service and its body. What is chosen at run time is a
//! [`Filter`](crate::filter::Filter).

pub mod admin;
pub mod catch_panic;
pub mod deadline;

use hyper::body::Incoming;
use tower::Layer;

/// A request as a listener hands it over.
pub type Request = http::Request<Incoming>;

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
}
