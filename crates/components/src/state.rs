//! State stores.

pub mod embedded;
pub mod memory;
mod change;

pub use self::{embedded::Embedded, memory::Memory};
