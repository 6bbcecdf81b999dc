//! Brokers of messages.

mod broker;
mod delivery;
pub mod embedded;
pub mod kafka;
pub mod memory;
mod policy;
mod queue;
pub mod redis;

pub use self::{embedded::Embedded, kafka::Kafka, memory::Memory, redis::Redis};

#[cfg(test)]
mod probe;
#[cfg(test)]
mod tests;
