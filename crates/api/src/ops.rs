//! The operations of the runtime API, free of transport: each validates, prefixes keys, calls the
//! component and shapes its errors. Texts are those of Go Layotto, which clients may match.

pub mod binding;
pub mod configuration;
pub mod file;
pub mod hello;
pub mod invoke;
pub mod lifecycle;
pub mod lock;
pub mod pubsub;
pub mod secret;
pub mod sequencer;
pub mod state;

#[cfg(test)]
pub(crate) mod fake;
