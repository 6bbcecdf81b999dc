//! Functions and filters compiled to WebAssembly: a Proxy-Wasm host on wasmtime.
//!
//! It knows modules, instances and their limits. What a guest asks of the runtime or of the data plane
//! is behind the trait [`host::Host`]; HTTP, configuration files and components are not known here.

pub mod abi;
mod caller;
mod calls;
mod clock;
mod engine;
mod exchange;
mod functions;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod grpc;
mod guest;
mod headers;
mod health;
pub mod host;
mod hostcalls;
mod instance;
mod memory;
#[cfg(any(test, fuzzing))]
mod mirror;
pub mod pairs;
mod plugin;
mod shared;
mod stream;
#[cfg(test)]
mod testing;
mod trap;
mod wasi;

pub use clock::OverTime;
pub use engine::{Engine, EngineError, LONGEST_MODULE, ModuleError, Settings};
pub use exchange::{Exchange, Lane, Piece, Stop};
pub use functions::{
    Config, Fetch, Filter, Function, Functions, InstallError, Origin, Source, SourceError, Status, Version,
};
pub use guest::{Allowed, Limits, allows};
pub use headers::Headers;
pub use plugin::{CallError, DEEPEST, LONGEST_HELD, Serving, StartError};
pub use shared::{BOUNDS, Metric, Shared, Value};
pub use stream::{Reply, Request};
pub use trap::Trap;
pub use wasi::Exited;

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256, in lower-case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}
