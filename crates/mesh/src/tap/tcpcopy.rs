//! The network filter `tcpcopy`: in sampling windows, what clients send is copied into files.
//!
//! Nothing is done on the way of a read but a copy into a bounded queue: a task of its own writes,
//! and what finds no room is counted and lost. Sampling is stopped while the machine is busy.
//! Values of configured headers never reach the queue; see the module `redact`.

pub mod config;
mod dumps;
mod files;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod hpack;
pub mod http2;
mod redact;
mod usage;
mod window;
mod writer;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicU16, AtomicU64,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::SystemTime,
};

use serde_json::{Value, json};
use tokio::sync::watch;

pub use self::{
    config::{Config, Strategy, Switch},
    dumps::Dumps,
};
use self::{
    files::{Directories, Directory},
    hpack::HiddenNames,
    redact::Redactor,
    usage::Probe,
    window::{Gate, Window},
    writer::{Queue, Record, What},
};
use super::{ConnectionTap, ReadTap};
use crate::connection::Info;

/// Tells the configuration in effect, as JSON without secrets. Called by the task that writes.
pub type ConfigDump = Arc<dyn Fn() -> String + Send + Sync>;

/// Of what part of the runtime a portrait tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Business {
    /// Calls of services.
    Rpc,
    /// Calls of configuration stores.
    Configuration,
    /// Calls of state stores.
    State,
}

/// The traffic dump of one listener. Ends with the value; what is queued then is still written.
pub struct Tcpcopy {
    listener: Box<str>,
    shared: Arc<Shared>,
    directories: Arc<Directories>,
    config: Config,
    own: Mutex<Strategy>,
    effective: watch::Sender<Option<Strategy>>,
}

/// What connections and tasks share.
struct Shared {
    gate: Arc<Gate>,
    hidden: HiddenNames,
    port: AtomicU16,
    /// There once the dump was switched on.
    directory: Arc<OnceLock<Arc<Directory>>>,
    queue: Queue,
    /// The number of the window that has a portrait already, by part of the runtime.
    portraits: [AtomicU64; 3],
    withheld: AtomicU64,
}

impl Shared {
    /// Whether a read of so many bytes is copied; if not, it counts as lost.
    fn takes(&self, bytes: usize) -> bool {
        match self.gate.spend(bytes) {
            true => self.queue.has_room(bytes),
            false => {
                self.queue.count_overflow(bytes);
                false
            }
        }
    }
}

/// Copies the bytes of one connection.
struct Copied {
    shared: Arc<Shared>,
    redactor: Redactor,
    port: u16,
    opening: u64,
    window: Arc<Window>,
}

impl Business {
    fn name(self) -> &'static str {
        match self {
            Self::Rpc => "RPC",
            Self::Configuration => "CONFIGURATION",
            Self::State => "STATE",
        }
    }
}

impl Tcpcopy {
    /// Must be called in a runtime, whose tasks sample and write.
    fn begin(
        listener: &str,
        port: u16,
        config: &Config,
        directories: Arc<Directories>,
        config_dump: ConfigDump,
        probe: Probe,
    ) -> Self {
        let (queue, writer) = writer::queue(config.limits(), config_dump);
        let shared = Arc::new(Shared {
            gate: Arc::new(Gate::new(config.max_bytes_per_second)),
            hidden: HiddenNames::new(&config.redact_headers),
            port: AtomicU16::new(port),
            directory: Arc::default(),
            queue,
            portraits: Default::default(),
            withheld: AtomicU64::new(0),
        });
        let (effective, strategy) = watch::channel(None);
        tokio::spawn(window::sample(shared.gate.clone(), strategy, probe));
        let directory = shared.directory.clone();
        tokio::spawn(writer.run(move || directory.get().cloned()));
        Self {
            listener: listener.into(),
            shared,
            directories,
            config: config.clone(),
            own: Mutex::new(config.strategy),
            effective,
        }
    }

    /// The name of the listener.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// Writes data on a call of the runtime: the first one of each kind in each window. `json` is
    /// called for that one only, and must not hold secrets.
    pub fn portrait(&self, business: Business, json: impl FnOnce() -> String) {
        let shared = &*self.shared;
        if shared.gate.opening().is_none() {
            return;
        }
        let window = shared.gate.window();
        let last = &shared.portraits[business as usize];
        if last.load(Relaxed) == window.number() || last.swap(window.number(), AcqRel) == window.number() {
            return;
        }
        shared.queue.offer(Record {
            window,
            at: SystemTime::now(),
            port: shared.port.load(Relaxed),
            what: What::Portrait(business, json()),
        });
    }

    /// Waits until everything that was copied is written.
    pub async fn flush(&self) {
        self.shared.queue.flush().await;
    }

    /// What it does and did.
    fn status(&self, global: Option<Strategy>) -> Value {
        let (shared, own) = (&*self.shared, *self.own());
        let counts = shared.queue.counts();
        let strategy = Strategy::effective(own, global);
        json!({
            "listener": self.listener,
            "port": shared.port.load(Relaxed),
            "on": strategy.is_some(),
            "strategy": strategy.unwrap_or(own),
            "own_switch": own.switch,
            "window": shared.gate.window().id(),
            "open": shared.gate.opening().is_some(),
            "cpu_rate": shared.gate.usage().map(|usage| usage.cpu),
            "mem_rate": shared.gate.usage().map(|usage| usage.memory),
            "dump_dir": shared.directory.get().map(|directory| directory.path()),
            "written": counts.written.load(Relaxed),
            "written_bytes": counts.written_bytes.load(Relaxed),
            "overflowed": counts.overflowed.load(Relaxed),
            "overflowed_bytes": counts.overflowed_bytes.load(Relaxed),
            "withheld_bytes": shared.withheld.load(Relaxed),
            "failed": counts.failed.load(Relaxed),
        })
    }

    fn own(&self) -> MutexGuard<'_, Strategy> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that there is a directory, where the strategies ask for a dump.
    fn prepare(&self, own: Strategy, global: Option<Strategy>) -> Result<(), String> {
        if Strategy::effective(own, global).is_none() || self.shared.directory.get().is_some() {
            return Ok(());
        }
        let configured = self.config.dump_dir.as_deref();
        let directory = self.directories.open(configured).map_err(|error| {
            let path = configured.unwrap_or(&self.directories.own).display();
            format!("{path} cannot be written: {error}")
        })?;
        self.shared.directory.get_or_init(|| directory);
        Ok(())
    }

    /// Works by these strategies from now on; a window that is open goes on if nothing changes.
    fn set(&self, own: Strategy, global: Option<Strategy>) {
        *self.own() = own;
        let effective = Strategy::effective(own, global);
        self.effective.send_if_modified(|current| {
            let changed = *current != effective;
            *current = effective;
            changed
        });
    }
}

impl std::fmt::Debug for Tcpcopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Tcpcopy");
        debug.field("listener", &self.listener).field("own", &self.own());
        debug.finish_non_exhaustive()
    }
}

impl ReadTap for Tcpcopy {
    fn open(&self, connection: &Info) -> Option<Box<dyn ConnectionTap>> {
        let port = connection.local().tcp()?.port();
        // A listener whose port the system chose learns it here.
        self.shared.port.compare_exchange(0, port, Relaxed, Relaxed).ok();
        Some(Box::new(Copied {
            redactor: Redactor::new(self.shared.hidden.clone()),
            port,
            opening: 0,
            window: self.shared.gate.window(),
            shared: self.shared.clone(),
        }))
    }
}

impl ConnectionTap for Copied {
    fn read(&mut self, bytes: &[u8]) {
        match self.shared.gate.opening() {
            Some(opening) if self.shared.takes(bytes.len()) => self.copy(opening, bytes),
            _ => self.redactor.skip(bytes),
        }
    }
}

impl Copied {
    fn copy(&mut self, opening: u64, bytes: &[u8]) {
        if self.opening != opening {
            self.opening = opening;
            self.window = self.shared.gate.window();
        }
        let copy = self.redactor.copy(bytes);
        if copy.is_empty() {
            self.shared.withheld.fetch_add(bytes.len() as u64, Relaxed);
            return;
        }
        self.shared.queue.offer(Record {
            window: self.window.clone(),
            at: SystemTime::now(),
            port: self.port,
            what: What::Traffic(copy),
        });
    }
}

#[cfg(test)]
mod tests;
