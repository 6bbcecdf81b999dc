//! How a guest ends that does not end well.

use thiserror::Error;
use wasmtime::{PoolConcurrencyLimitError, WasmBacktrace};

use crate::{clock::OverTime, wasi::Exited};

/// The most frames that are shown.
const MOST_FRAMES: usize = 20;

/// A guest ended. Its instance is not used again.
#[derive(Debug, Clone, Error)]
pub enum Trap {
    /// It ran for too long.
    #[error(transparent)]
    OverTime(#[from] OverTime),
    /// It ended itself.
    #[error(transparent)]
    Exited(#[from] Exited),
    /// As many instances live as the engine has room for; it did not begin.
    #[error("no room for another instance")]
    NoRoom,
    /// It did what it may not do, or what it asked for failed; `backtrace` names the functions it was
    /// in, the innermost first.
    #[error("{reason}{}", backtrace.iter().map(|name| format!(", in {name}")).collect::<String>())]
    Failed {
        /// What happened.
        reason: String,
        /// The names of functions, or their numbers.
        backtrace: Vec<String>,
    },
}

impl From<wasmtime::Error> for Trap {
    fn from(error: wasmtime::Error) -> Self {
        if let Some(over) = error.downcast_ref::<OverTime>() {
            return (*over).into();
        }
        if let Some(exited) = error.downcast_ref::<Exited>() {
            return (*exited).into();
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return Self::NoRoom;
        }
        Self::Failed {
            reason: error.root_cause().to_string(),
            backtrace: error.downcast_ref().map(names).unwrap_or_default(),
        }
    }
}

fn names(backtrace: &WasmBacktrace) -> Vec<String> {
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        // Rust's are mangled; any other stays as it is.
        Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
        None => format!("function {}", frame.func_index()),
    };
    backtrace.frames().iter().take(MOST_FRAMES).map(name).collect()
}
