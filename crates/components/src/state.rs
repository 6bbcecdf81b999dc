//! State stores.

mod change;
pub mod embedded;
pub mod memory;

pub use self::{embedded::Embedded, memory::Memory};

#[cfg(test)]
mod tests;
