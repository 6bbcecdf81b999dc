//! Files that change: looked at when the system tells of their folders and every now and then, and loaded
//! when two looks saw the same, so that a file that is still being written is left alone. Functions that
//! nobody calls are found on the way.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{self, Duration},
};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Config, Entry, Functions,
    config::{Origin, Source},
    folders::Folders,
};

/// How often files are looked at that may have changed.
const EVERY: Duration = Duration::from_millis(100);

/// How often all is looked at where nothing is told: for functions that nobody calls, and for changes
/// that the system does not tell of, as of a file that is reached by a link.
const SELDOM: Duration = Duration::from_secs(1);

/// How long until a file is loaded again that was not loaded for a reason that may pass, at first and
/// at most.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// What one look at a file saw: nothing, or what changes with its content.
type Look = Option<(u64, u64, i64, i64)>;

/// What was seen of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// When it was loaded last.
    loaded: Look,
    /// The last time.
    last: Look,
    retry: Option<Retry>,
}

/// A file is loaded again though it did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Retry {
    pause: Duration,
    due: Instant,
}

pub(super) fn is_file(source: &Source) -> bool {
    matches!(source.origin, Origin::File(_))
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
            retry: None,
        }
    }

    /// It was not loaded, and may be some time later.
    pub(super) fn failed(&mut self) {
        let pause = self.retry.map_or(RETRY, |retry| retry.pause * 2);
        let pause = pause.min(LONGEST_RETRY);
        self.retry = Some(Retry {
            pause,
            due: Instant::now() + pause,
        });
    }

    /// There is nothing to be tried again.
    pub(super) fn worked(&mut self) {
        self.retry = None;
    }

    /// Takes note of another look; whether the file is to be loaded. One that is gone is not.
    fn again(&mut self, now: Look) -> bool {
        let settled = self.last == now;
        self.last = now;
        let is_due = self.retry.is_some_and(|retry| retry.due <= Instant::now());
        let load = settled && now.is_some() && (now != self.loaded || is_due);
        if load {
            self.loaded = now;
        }
        load
    }

    /// Whether the next look will find nothing to load, unless something changes.
    fn is_settled(&self) -> bool {
        self.last.is_none() || self.last == self.loaded
    }
}

impl Functions {
    /// Loads files that change and lets those rest that nobody calls, until the functions are gone.
    /// Without functions it does nothing.
    pub async fn watch(functions: Weak<Self>) {
        let Some(mut changes) = functions.upgrade().map(|functions| functions.changes()) else {
            return;
        };
        let mut folders = Folders::default();
        while let Some(functions) = functions.upgrade() {
            // First: what changes from here on is seen by the look, or told.
            changes.mark_unchanged();
            let is_told = functions.follow(&mut folders).await;
            let looked = Instant::now();
            let is_settled = functions.look().await;
            let is_empty = functions.plugins().is_empty();
            drop(functions);
            if is_empty {
                if changes.changed().await.is_err() {
                    return;
                }
            } else if !is_settled || !is_told {
                sleep(EVERY).await;
            } else {
                tokio::select! {
                    () = sleep(SELDOM) => {}
                    // No sooner, whatever else is written there.
                    () = folders.changed() => sleep_until(looked + EVERY).await,
                    told = changes.changed() => {
                        if told.is_err() {
                            return;
                        }
                        // Functions that come together are looked at together.
                        sleep(EVERY).await;
                    }
                }
            }
        }
    }

    /// Watches the folders of all files. Whether all changes in them are told from now on.
    async fn follow(&self, folders: &mut Folders) -> bool {
        let wanted = self.folders();
        if wanted.is_empty() && folders.is_empty() {
            return true;
        }
        let mut followed = std::mem::take(folders);
        // The disk may be slow.
        let following = tokio::task::spawn_blocking(move || {
            let is_told = followed.follow(&wanted);
            (followed, is_told)
        });
        let is_told;
        (*folders, is_told) = following.await.unwrap_or_default();
        is_told
    }

    /// The folders of all files.
    fn folders(&self) -> BTreeSet<PathBuf> {
        let folder = |entry: &Entry| match &entry.config.source.origin {
            Origin::File(path) => Some(match path.parent() {
                Some(folder) if folder != Path::new("") => folder.to_owned(),
                _ => PathBuf::from("."),
            }),
            _ => None,
        };
        self.plugins().values().filter_map(folder).collect()
    }

    /// Lets those rest that nobody calls.
    pub(super) fn rest(&self, now: time::Instant) {
        let all = |entry: &Entry| entry.slot.load_full();
        let plugins: Vec<_> = self.plugins().values().filter_map(all).collect();
        for plugin in plugins {
            plugin.rest(now);
        }
    }

    /// Looks at all files once, and loads those that changed and have settled; lets those rest that
    /// nobody calls. Whether all have settled.
    pub(super) async fn look(self: &Arc<Self>) -> bool {
        let (settled, is_all) = self.settled().await;
        for (name, config) in settled {
            let entry = self
                .plugins()
                .get(&name)
                .map(|entry| (entry.counts.clone(), entry.loads == 0));
            let Some((counts, first)) = entry else {
                continue;
            };
            match self.load(&name, &config, counts, first).await {
                // Whoever overtook it knows better what is to run.
                Ok(loaded) => drop(self.put(&name, &config, loaded)),
                Err(error) => self.failed(&name, Some(&config), &error),
            }
        }
        is_all
    }

    /// The files to be loaded, and whether there will be no others without another change.
    async fn settled(self: &Arc<Self>) -> (Vec<(String, Arc<Config>)>, bool) {
        if self.plugins().is_empty() {
            return (Vec::new(), true);
        }
        let functions = self.clone();
        let now = Instant::now().into_std();
        // The disk may be slow.
        let changed = tokio::task::spawn_blocking(move || {
            functions.rest(now);
            let named = |(name, entry): (&String, &Entry)| {
                is_file(&entry.config.source).then(|| (name.clone(), entry.config.source.clone()))
            };
            let known: Vec<_> = functions.plugins().iter().filter_map(named).collect();
            // Nobody waits for it: requests take the same lock.
            let looks: Vec<_> = known.iter().map(|(_, source)| look(source)).collect();
            let mut plugins = functions.plugins();
            let mut is_all = true;
            let changed = known.into_iter().zip(looks).filter_map(|((name, source), now)| {
                let entry = plugins.get_mut(&name)?;
                let same = Arc::ptr_eq(&entry.config.source, &source);
                let load = same && entry.seen.again(now);
                is_all &= entry.seen.is_settled();
                load.then(|| (name, entry.config.clone()))
            });
            (changed.collect(), is_all)
        });
        changed.await.unwrap_or_default()
    }
}
