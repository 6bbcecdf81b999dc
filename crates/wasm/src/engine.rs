//! The engine: how modules are checked, compiled and cached, and how much an instance may take.
//!
//! One per process, made when the first function is configured: it costs a thread and the address
//! space of the pool.

mod cache;
mod code;
mod ticker;

use std::{fmt, io, path::PathBuf, time::Duration};

use thiserror::Error;
use tracing::warn;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, Module, PoolingAllocationConfig};

use self::{cache::Cache, ticker::Ticker};
pub(crate) use self::{
    code::Code,
    ticker::{Pace, Running},
};
use crate::sha256;

const MIB: usize = 1 << 20;

/// The longest module, in bytes.
pub const LONGEST_MODULE: usize = 64 * MIB;

/// How much of what an instance wrote to its memory, and to its table, stays mapped for the next, in
/// bytes. The pool has a hundred places of instances that ended, at most.
const KEPT: usize = MIB / 2;

/// How an engine is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder that holds compiled modules; made when it is not there. `None`: every start
    /// compiles anew.
    pub cache: Option<PathBuf>,
    /// The most instances that live at a time, of all functions together, at least 1.
    pub instances: u32,
    /// How often a guest that runs is looked at, and gives way to others.
    pub tick: Duration,
    /// The same, while there is a guest that runs for longer than a tick: how much longer the others
    /// take beside it.
    pub turn: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache: None,
            instances: 2048,
            tick: Duration::from_millis(2),
            turn: Duration::from_micros(200),
        }
    }
}

/// The engine cannot be had.
#[derive(Debug, Error)]
#[error("the WebAssembly engine does not start")]
pub struct EngineError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl EngineError {
    pub(crate) fn new(cause: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self(cause)
    }
}

/// Bytes that are no module of ours.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum ModuleError {
    #[error("not a WebAssembly module: it does not begin with \\0asm")]
    NotWasm,
    #[error("a WebAssembly component, where a core module is expected")]
    Component,
    #[error("{length} bytes long, {LONGEST_MODULE} are allowed")]
    TooLong { length: usize },
    #[error("not a valid module")]
    Invalid(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no memory is exported as `memory`")]
    NoMemory,
    #[error("an import cannot be linked")]
    Link(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The engine.
pub struct Engine {
    wasmtime: wasmtime::Engine,
    ticker: Ticker,
    cache: Option<Cache>,
}

impl Engine {
    /// Starts one. Where the address space does not hold the pool, instances are made one by one,
    /// which takes longer; a folder for the cache that cannot be used is done without.
    pub fn new(settings: &Settings) -> Result<Self, EngineError> {
        let wasmtime = pooled(settings).or_else(|error| {
            warn!(%error, "no pool of instances");
            wasmtime::Engine::new(&config()).map_err(|error| EngineError(error.into_boxed_dyn_error()))
        })?;
        let cache = settings
            .cache
            .clone()
            .and_then(|folder| open_cache(folder, &wasmtime));
        let ticker = Ticker::start(wasmtime.clone(), settings.tick, settings.turn)
            .map_err(|error| EngineError(Box::new(error)))?;
        Ok(Self {
            wasmtime,
            ticker,
            cache,
        })
    }

    /// Checks and compiles a module, or takes it from the cache. Works for as long as a compiler
    /// does: not for a thread that serves requests.
    pub fn load(&self, bytes: &[u8]) -> Result<Module, ModuleError> {
        Ok(self.code(bytes, &sha256(bytes))?.module)
    }

    /// The same, of bytes whose checksum is known.
    pub(crate) fn code(&self, bytes: &[u8], sha256: &str) -> Result<Code, ModuleError> {
        recognise(bytes)?;
        let code = self.cached(bytes, sha256)?;
        match code.module.get_export("memory") {
            Some(wasmtime::ExternType::Memory(_)) => Ok(code),
            _ => Err(ModuleError::NoMemory),
        }
    }

    fn cached(&self, bytes: &[u8], sha256: &str) -> Result<Code, ModuleError> {
        let Some(cache) = &self.cache else {
            return Ok(Code::compiled(self.compile(bytes)?));
        };
        let key = cache.key(sha256);
        if let Some(module) = cache.load(&self.wasmtime, &key) {
            return Ok(Code::mapped(module));
        }
        let module = self.compile(bytes)?;
        if let Err(error) = cache.store(&module, &key) {
            warn!(error = %error.display(), "compiled module not kept");
        }
        // Mapped from the file, its pages are shared and can be dropped; the compiler's are not.
        Ok(match cache.load(&self.wasmtime, &key) {
            Some(mapped) => Code::mapped(mapped),
            None => Code::compiled(module),
        })
    }

    fn compile(&self, bytes: &[u8]) -> Result<Module, ModuleError> {
        Module::from_binary(&self.wasmtime, bytes)
            .map_err(|error| ModuleError::Invalid(error.into_boxed_dyn_error()))
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }

    /// Time passes for guests while any of these lives.
    pub(crate) fn running(&self) -> Running {
        self.ticker.running()
    }

    /// What is told of guests that run for long.
    pub(crate) fn pace(&self) -> Pace {
        self.ticker.pace()
    }
}

fn recognise(bytes: &[u8]) -> Result<(), ModuleError> {
    if bytes.len() > LONGEST_MODULE {
        return Err(ModuleError::TooLong { length: bytes.len() });
    }
    match bytes.get(..8) {
        Some(b"\0asm\x01\0\0\0") => Ok(()),
        Some([b'\0', b'a', b's', b'm', _, _, 1, 0]) => Err(ModuleError::Component),
        _ => Err(ModuleError::NotWasm),
    }
}

/// What decides how code is compiled is here, and with it in the key of the cache.
fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(MIB / 2)
        .async_stack_size(2 * MIB)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        // Names of functions come from the module itself; lines of source are not shown.
        .generate_address_map(false)
        .native_unwind_info(false);
    config
}

fn pooled(settings: &Settings) -> wasmtime::Result<wasmtime::Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(settings.instances)
        .total_memories(settings.instances)
        .total_tables(settings.instances)
        .total_stacks(settings.instances)
        .max_tables_per_module(4)
        .max_core_instance_size(4 * MIB)
        .max_memory_size(4096 * MIB);
    // What an instance wrote is written over with what was there at the start, and stays mapped: the
    // next does without the faults of its pages. Without the system call that finds these pages, all
    // of the memory would be written.
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Auto)
            .linear_memory_keep_resident(KEPT)
            .table_keep_resident(KEPT);
    }
    let mut config = config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    wasmtime::Engine::new(&config)
}

fn open_cache(folder: PathBuf, engine: &wasmtime::Engine) -> Option<Cache> {
    let shown = folder.display().to_string();
    let found: io::Result<Cache> = Cache::open(folder, engine);
    found
        .inspect_err(|error| warn!(folder = shown, %error, "no cache of compiled modules"))
        .ok()
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("cache", &self.cache).finish()
    }
}

#[cfg(test)]
mod tests;
