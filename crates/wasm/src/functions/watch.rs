//! Files that change: looked at every now and then, and loaded when two looks saw the same, so that a
//! file that is still being written is left alone. Functions that nobody calls are found on the way.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};

use super::{
    Config, Entry, Functions,
    config::{Origin, Source},
};

/// How often files are looked at.
const EVERY: Duration = Duration::from_millis(100);

/// How often it is looked for functions that nobody calls, where there are no files.
const WITHOUT_FILES: Duration = Duration::from_secs(1);

/// What one look at a file saw: nothing, or what changes with its content.
type Look = Option<(u64, u64, i64, i64)>;

/// What was seen of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// When it was loaded last.
    loaded: Look,
    /// The last time.
    last: Look,
}

fn is_file(entry: &Entry) -> bool {
    matches!(entry.config.source.origin, Origin::File(_))
}

fn look(source: &Source) -> Look {
    let Origin::File(path) = &source.origin else {
        return None;
    };
    let facts = fs::metadata(path).ok()?;
    Some((facts.ino(), facts.len(), facts.mtime(), facts.mtime_nsec()))
}

impl Seen {
    pub(super) fn now(source: &Source) -> Self {
        let now = look(source);
        Self {
            loaded: now,
            last: now,
        }
    }

    /// Takes note of another look; whether the file is to be loaded. One that is gone is not.
    fn again(&mut self, now: Look) -> bool {
        let settled = self.last == now;
        self.last = now;
        let load = settled && now.is_some() && now != self.loaded;
        if load {
            self.loaded = now;
        }
        load
    }
}

impl Functions {
    /// Loads files that change and lets those rest that nobody calls, until the functions are gone.
    /// Without functions it does nothing.
    pub async fn watch(functions: Weak<Self>) {
        let Some(mut changes) = functions.upgrade().map(|functions| functions.changes()) else {
            return;
        };
        while let Some(functions) = functions.upgrade() {
            functions.look().await;
            let is_empty = functions.plugins().is_empty();
            let has_files = functions.has_files();
            drop(functions);
            let told = if has_files {
                sleep(EVERY).await;
                Ok(())
            } else if is_empty {
                changes.changed().await
            } else {
                // It may be told of a file.
                timeout(WITHOUT_FILES, changes.changed()).await.unwrap_or(Ok(()))
            };
            if told.is_err() {
                return;
            }
        }
    }

    /// Lets those rest that nobody calls.
    pub(super) fn rest(&self, now: Instant) {
        let all = |entry: &Entry| entry.slot.load_full();
        let plugins: Vec<_> = self.plugins().values().filter_map(all).collect();
        for plugin in plugins {
            plugin.rest(now);
        }
    }

    fn has_files(&self) -> bool {
        self.plugins().values().any(is_file)
    }

    /// Looks at all files once, and loads those that changed and have settled; lets those rest that
    /// nobody calls.
    pub(super) async fn look(self: &Arc<Self>) {
        for (name, config) in self.settled().await {
            let entry = self
                .plugins()
                .get(&name)
                .map(|entry| (entry.counts.clone(), entry.loads == 0));
            let Some((counts, first)) = entry else {
                continue;
            };
            match self.load(&name, &config, counts, first).await {
                Ok(loaded) => self.put(&name, &config, loaded),
                Err(error) => self.failed(&name, Some(&config), &error),
            }
        }
    }

    async fn settled(self: &Arc<Self>) -> Vec<(String, Arc<Config>)> {
        if self.plugins().is_empty() {
            return Vec::new();
        }
        let functions = self.clone();
        let now = tokio::time::Instant::now().into_std();
        // The disk may be slow.
        let changed = tokio::task::spawn_blocking(move || {
            functions.rest(now);
            let named = |(name, entry): (&String, &Entry)| {
                is_file(entry).then(|| (name.clone(), entry.config.source.clone()))
            };
            let known: Vec<_> = functions.plugins().iter().filter_map(named).collect();
            // Nobody waits for it: requests take the same lock.
            let looks: Vec<_> = known.iter().map(|(_, source)| look(source)).collect();
            let mut plugins = functions.plugins();
            let changed = known.into_iter().zip(looks).filter_map(|((name, source), now)| {
                let entry = plugins.get_mut(&name)?;
                let same = Arc::ptr_eq(&entry.config.source, &source);
                (same && entry.seen.again(now)).then(|| (name, entry.config.clone()))
            });
            changed.collect()
        });
        changed.await.unwrap_or_default()
    }
}
