//! What is known of a plug-in, for whoever asks.

use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::watch;

use super::{Entry, Functions};
use crate::abi;

/// Which version of a plug-in runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// How often it was loaded.
    pub number: u64,
    /// SHA-256 of its module.
    pub sha256: String,
    /// The version of the ABI that it was written for.
    pub abi: abi::Version,
}

/// A plug-in and its function.
#[derive(Debug, Clone)]
pub struct Status {
    /// The name of the plug-in.
    pub name: String,
    /// The id of its function; until it is loaded that of its configuration, which may be "".
    pub id: String,
    /// What runs, if anything does.
    pub version: Option<Version>,
    /// Why the newest file does not run.
    pub problem: Option<String>,
    /// Whether it works: it is loaded, and does not trap again and again.
    pub up: bool,
    /// Whether it is a filter of proxied traffic and no function.
    pub is_filter: bool,
    /// How many requests it serves at a time.
    pub places: usize,
    /// How many it serves now.
    pub running: usize,
    /// How many it was given, calls by other functions too.
    pub calls: u64,
    /// How many of them it did not answer.
    pub errors: u64,
    /// What ended the last instance that did not end well.
    pub last_trap: Option<String>,
    /// The most memory that one instance had, in bytes.
    pub memory: usize,
}

impl Status {
    pub(super) fn of(name: &str, entry: &Entry) -> Self {
        let plugin = entry.slot.load();
        let plugin = plugin.as_ref();
        let counts = &entry.counts;
        Self {
            name: name.to_owned(),
            id: match plugin {
                Some(plugin) => plugin.id().to_string(),
                None => entry.config.name.clone().unwrap_or_default(),
            },
            version: plugin.map(|plugin| Version {
                number: entry.loads,
                sha256: entry.checksum.clone(),
                abi: plugin.version(),
            }),
            problem: entry.problem.clone(),
            up: plugin.is_some_and(|plugin| plugin.up()),
            is_filter: entry.config.is_filter,
            places: entry.config.serving.places,
            running: counts.running.load(Relaxed),
            calls: counts.calls.load(Relaxed),
            errors: counts.errors.load(Relaxed),
            last_trap: counts.last_trap().clone(),
            memory: counts.memory.load(Relaxed),
        }
    }
}

impl Functions {
    /// Tells when a plug-in comes or goes, or is loaded, fails to load, rests or works again.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(crate) fn changed(&self) {
        self.changes.send_replace(());
    }
}
