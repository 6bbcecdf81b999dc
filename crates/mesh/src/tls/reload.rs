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
pub(super) struct Reloading<T>(Arc<Inner<T>>);

struct Inner<T> {
    current: ArcSwap<T>,
    /// Held by whoever looks at the files.
    files: Mutex<Vec<(PathBuf, Option<Stamp>)>>,
    has_files: bool,
    build: Build<T>,
}

impl<T: Send + Sync + 'static> Reloading<T> {
    pub(super) fn new(
        files: impl IntoIterator<Item = PathBuf>,
        build: Build<T>,
    ) -> Result<Self, ConfigError> {
        // Before they are read: a change in between is then found at the next look.
        let stamp = |path: PathBuf| (path.clone(), Stamp::of(&path));
        let files: Vec<_> = files.into_iter().map(stamp).collect();
        Ok(Self(Arc::new(Inner {
            current: ArcSwap::from_pointee(build()?),
            has_files: !files.is_empty(),
            files: Mutex::new(files),
            build,
        })))
    }

    /// The value, of the files as they are now; of earlier ones while those of now are no good, or
    /// somebody else is looking. A file system that does not answer holds up this caller alone.
    pub(super) async fn get(&self) -> Arc<T> {
        if self.0.has_files && !self.0.is_looked_at() {
            let inner = self.0.clone();
            // An error says that the runtime is ending.
            tokio::task::spawn_blocking(move || inner.look()).await.ok();
        }
        self.0.current.load_full()
    }
}

impl<T> Inner<T> {
    fn is_looked_at(&self) -> bool {
        matches!(self.files.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Builds the value anew if a file has changed. Blocks.
    fn look(&self) {
        let mut files = match self.files.try_lock() {
            Ok(files) => files,
            Err(TryLockError::Poisoned(files)) => files.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let mut changed = false;
        for (path, seen) in files.iter_mut() {
            let now = Stamp::of(path);
            changed |= now != *seen;
            *seen = now;
        }
        if !changed {
            return;
        }
        match (self.build)() {
            Ok(value) => {
                tracing::info!("certificates changed, and are used from now on");
                self.current.store(Arc::new(value));
            }
            // Once per change, as the next look finds what this one found.
            Err(error) => tracing::warn!(%error, "certificates changed, but stay unused"),
        }
    }
}

impl<T> fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading")
            .field("has_files", &self.0.has_files)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[tokio::test]
    async fn a_file_that_does_not_come_back_holds_up_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "1").unwrap();
        let (begun, mut building) = tokio::sync::mpsc::channel(1);
        let (go_on, wait) = mpsc::sync_channel::<()>(1);
        let wait = Mutex::new(wait);
        let mut first = true;
        let count = Mutex::new(move || std::mem::take(&mut first));
        let build = move || {
            if !(count.lock().unwrap())() {
                begun.blocking_send(()).unwrap();
                wait.lock().unwrap().recv().unwrap();
                return Ok(2);
            }
            Ok(1)
        };
        let value = Arc::new(Reloading::new([path.clone()], Box::new(build)).unwrap());
        std::fs::write(&path, "22").unwrap();
        let looking = tokio::spawn({
            let value = value.clone();
            async move { value.get().await }
        });
        building.recv().await.unwrap();
        let other = tokio::time::timeout(Duration::from_secs(5), value.get()).await;
        assert_eq!(*other.unwrap(), 1);
        go_on.send(()).unwrap();
        assert_eq!(*looking.await.unwrap(), 2);
    }
}
