//! The runtime API over components: validates, prefixes keys, calls, and shapes answers.
//!
//! [`ops`] is free of transport, [`grpc`] converts protobuf messages to it and back. Knows no
//! configuration file and no listener: `layotto` assembles both sides.

pub mod callback;
pub mod event;
pub mod grpc;
pub mod listing;
pub mod metrics;
pub mod ops;
pub mod runtime;
pub mod slot;
pub mod status;

pub use runtime::{Components, Runtime};
pub use slot::{Slot, Store};
