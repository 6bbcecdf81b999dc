//! The data plane: listeners, stacks of layers over one terminal service, drain.
//!
//! A [`Listener`] accepts connections and hands their requests to a `tower` service. That service
//! is a [`stack`]: one terminal (the gRPC API, the actuator, a proxy) under a few layers. A
//! [`drain`] ends listeners and connections without losing a request. Knows no component.

pub mod address;
pub mod connection;
pub mod drain;
pub mod listener;
pub mod reply;
pub mod stack;

pub use address::Address;
pub use listener::{BindError, Listener};

/// Any error, as bodies carry it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
