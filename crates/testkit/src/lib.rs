//! Conformance suites for every kind of building block, and servers to test against.
//!
//! Depends on `layotto-core` alone, so that every other crate can use it in its tests.

pub mod broken;
pub mod certificates;
pub mod conformance;
pub mod fault_proxy;
pub mod fixture;
pub mod history;
pub mod http_server;
pub mod load;
pub mod matrix;
pub mod process;
pub mod programs;
pub mod raw_tcp;
pub mod server;
pub mod soon;

pub use http_server::HttpService;
