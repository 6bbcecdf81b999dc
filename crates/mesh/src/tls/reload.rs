//! Something built from files, built anew when they change.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, TryLockError},
};

use arc_swap::ArcSwap;

use super::material::Stamp;
use crate::config::ConfigError;

type Build<T> = Box<dyn Fn() -> Result<T, ConfigError> + Send + Sync>;

/// A value, and how to make it from files.
pub(super) struct Reloading<T> {
    current: ArcSwap<T>,
    files: Mutex<Vec<(PathBuf, Option<Stamp>)>>,
    has_files: bool,
    build: Build<T>,
}

impl<T> Reloading<T> {
    pub(super) fn new(
        files: impl IntoIterator<Item = PathBuf>,
        build: Build<T>,
    ) -> Result<Self, ConfigError> {
        // Before they are read: a change in between is then found at the next look.
        let stamp = |path: PathBuf| (path.clone(), Stamp::of(&path));
        let files: Vec<_> = files.into_iter().map(stamp).collect();
        Ok(Self {
            current: ArcSwap::from_pointee(build()?),
            has_files: !files.is_empty(),
            files: Mutex::new(files),
            build,
        })
    }

    /// The value, of the files as they are now; of earlier ones while those of now are no good.
    pub(super) fn get(&self) -> Arc<T> {
        if self.has_files && self.changed() {
            match (self.build)() {
                Ok(value) => {
                    tracing::info!("certificates changed, and are used from now on");
                    self.current.store(Arc::new(value));
                }
                // Once per change, as the next look finds what this one found.
                Err(error) => tracing::warn!(%error, "certificates changed, but stay unused"),
            }
        }
        self.current.load_full()
    }

    fn changed(&self) -> bool {
        let mut files = match self.files.try_lock() {
            Ok(files) => files,
            Err(TryLockError::Poisoned(files)) => files.into_inner(),
            // Somebody is looking already.
            Err(TryLockError::WouldBlock) => return false,
        };
        let mut changed = false;
        for (path, seen) in files.iter_mut() {
            let now = Stamp::of(path);
            changed |= now != *seen;
            *seen = now;
        }
        changed
    }
}

impl<T: fmt::Debug> fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}
