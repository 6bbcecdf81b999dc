//! Output bindings.

pub mod http;

pub use http::Http;
