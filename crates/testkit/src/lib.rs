//! Conformance suites for every kind of building block, and servers to test against.
//!
//! Depends on `layotto-core` alone, so that every other crate can use it in its tests.

pub mod broken;
pub mod conformance;
pub mod fixture;
pub mod http_server;
pub mod matrix;
pub mod raw_tcp;

pub use http_server::HttpService;
