//! The folders of files: the system tells when something may have changed in one of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;

/// All that can change what a look at a file sees.
const CHANGES: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// Folders that are watched.
#[derive(Debug, Default)]
pub(super) struct Folders {
    told: Option<Receiver>,
    watched: BTreeMap<PathBuf, i32>,
}

impl Folders {
    /// Whether none is.
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_none()
    }

    /// Watches these from now on, each as the folder that it is now: it may have been made again.
    /// Whether all of them are. For a thread that may wait, in the context of a runtime.
    pub(super) fn follow(&mut self, paths: &BTreeSet<PathBuf>) -> bool {
        if paths.is_empty() {
            *self = Self::default();
            return true;
        }
        let told = match self.told.take().map_or_else(open, Ok) {
            Ok(told) => self.told.insert(told),
            Err(_) => return false,
        };
        let forget = |watch| inotify::remove_watch(&*told, watch).ok();
        self.watched.retain(|path, watch| {
            let stays = paths.contains(path);
            if !stays {
                forget(*watch);
            }
            stays
        });
        let mut is_all = true;
        for path in paths {
            let watch = inotify::add_watch(&*told, path, CHANGES).ok();
            let before = match watch {
                Some(watch) => self.watched.insert(path.clone(), watch),
                None => self.watched.remove(path),
            };
            // The system forgets one that was removed, but not one that was moved away.
            before.filter(|before| Some(*before) != watch).map(forget);
            is_all &= watch.is_some();
        }
        is_all
    }

    /// Waits until something may have changed. Losing the future loses nothing.
    pub(super) async fn changed(&mut self) {
        let changed = match &self.told {
            Some(told) => read(told).await,
            None => std::future::pending().await,
        };
        if changed.is_err() {
            *self = Self::default();
        }
    }
}

fn open() -> io::Result<Receiver> {
    let told = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    // Not a pipe, but read as one.
    Receiver::from_owned_fd_unchecked(told)
}

/// Waits until there is something to read, and reads some of it.
async fn read(told: &Receiver) -> io::Result<()> {
    loop {
        told.readable().await?;
        match told.try_read(&mut [0; 4096]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use tokio::time::timeout;

    use super::*;

    async fn is_told(folders: &mut Folders) -> bool {
        timeout(Duration::from_secs(10), folders.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn whatever_happens_to_a_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        let mut folders = Folders::default();
        assert!(folders.follow(&[folder.path().to_owned()].into()));
        for write in ["one", "two"] {
            fs::write(&file, write).unwrap();
            assert!(is_told(&mut folders).await, "{write}");
        }
        fs::rename(&file, folder.path().join("g")).unwrap();
        assert!(is_told(&mut folders).await);
        fs::remove_file(folder.path().join("g")).unwrap();
        assert!(is_told(&mut folders).await);
        quiet(&mut folders).await;
    }

    /// Reads what was told until nothing is.
    async fn quiet(folders: &mut Folders) {
        while timeout(Duration::from_millis(50), folders.changed())
            .await
            .is_ok()
        {}
    }

    #[tokio::test]
    async fn a_folder_is_watched_once_it_is_there_and_when_it_is_made_again() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("later");
        let mut folders = Folders::default();
        let elsewhere = tempfile::tempdir().unwrap();
        let wanted: BTreeSet<_> = [elsewhere.path().to_owned(), folder.clone()].into();
        assert!(!folders.follow(&wanted));
        let moved = parent.path().join("moved");
        for round in ["made", "removed and made", "moved away and made"] {
            match round {
                "made" => {}
                "removed and made" => fs::remove_dir_all(&folder).unwrap(),
                _ => fs::rename(&folder, &moved).unwrap(),
            }
            fs::create_dir(&folder).unwrap();
            assert!(folders.follow(&wanted), "{round}");
            quiet(&mut folders).await;
            fs::write(folder.join("f"), "one").unwrap();
            assert!(is_told(&mut folders).await, "{round}");
        }
        quiet(&mut folders).await;
        fs::write(moved.join("g"), "two").unwrap();
        assert!(folders.follow(&[folder.clone()].into()));
        quiet(&mut folders).await;
        for gone in [moved.join("h"), elsewhere.path().join("h")] {
            fs::write(gone, "three").unwrap();
        }
        let nothing = timeout(Duration::from_millis(50), folders.changed()).await;
        assert!(nothing.is_err(), "they are not followed any more");
        assert!(folders.follow(&BTreeSet::new()) && folders.is_empty());
    }
}
