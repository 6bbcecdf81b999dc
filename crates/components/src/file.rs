//! File stores.

pub mod local;

pub use local::Local;
