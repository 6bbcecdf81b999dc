//! The gRPC face of [`ops`](crate::ops): converts messages, and dispatches calls to the servers.

mod binding;
mod configuration;
mod deadline;
mod dispatch;
mod file;
mod framework;
mod health;
mod hello;
mod invoke;
mod lifecycle;
mod lock;
mod methods;
pub(crate) mod pubsub;
mod reflection;
mod reply;
mod secret;
mod sequencer;
mod service;
mod state;
mod trace;
mod upload;

pub use self::{
    dispatch::{Dispatch, Options},
    health::follow,
    reply::Reply,
    trace::{SPAN_ID, Span, TRACE_ID, Tracer},
};

#[cfg(test)]
mod tests;
