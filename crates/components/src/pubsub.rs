//! Brokers of messages.

mod broker;
mod delivery;
pub mod embedded;
pub mod memory;
mod policy;
mod queue;

pub use self::{embedded::Embedded, memory::Memory};

#[cfg(test)]
mod tests;
