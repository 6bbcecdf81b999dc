//! Calls to other services.

pub mod mosn;

pub use mosn::Mosn;
