//! The embedded store: one file in the process's own data directory, shared by every component of
//! type `embedded` that names the same file.
//!
//! A [redb](https://docs.rs/redb) file, format version [`FORMAT`]. Its tables, key → value; times
//! are milliseconds since 1970, and 0 means never:
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name: `format`, or a counter (`etag`, `fence`, `message`) | number; counters never go back |
//! | `state` | key | etag, end, value |
//! | `state_end` | end, key | – |
//! | `lock` | resource | owner, fencing token, end |
//! | `lock_end` | end, resource | – |
//! | `sequence` | key | the last id handed out |
//! | `configuration` | app id, group, label, key | content, JSON of tags and metadata |
//! | `message` | message id | topic, JSON of metadata, payload |
//! | `message_users` | message id | how many groups still need the message |
//! | `group` | topic, group | – |
//! | `queue` | topic, group, message id | due, failed attempts, end |
//!
//! The group named "" collects what is published to a topic before its first group exists.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use layotto_core::{Context, Error, Result};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{Semaphore, oneshot};

pub(crate) use self::writer::{Attempt, Effect, Failure};
use self::writer::{Task, Work, Writer};
use crate::clock::{Clock, Millis};

mod backend;
mod file;
mod sweep;
mod writer;

/// The layout this program writes; files with a higher number are refused.
const FORMAT: u64 = 1;

/// Operations that may wait for the writer; more callers wait for a place.
const QUEUE: usize = 1024;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
pub(crate) const STATE: TableDefinition<&str, (u64, Millis, &[u8])> = TableDefinition::new("state");
pub(crate) const STATE_END: TableDefinition<(Millis, &str), ()> = TableDefinition::new("state_end");
pub(crate) const LOCK: TableDefinition<&str, (&str, u64, Millis)> = TableDefinition::new("lock");
pub(crate) const LOCK_END: TableDefinition<(Millis, &str), ()> = TableDefinition::new("lock_end");
pub(crate) const SEQUENCE: TableDefinition<&str, i64> = TableDefinition::new("sequence");
pub(crate) type ConfigurationKey = (&'static str, &'static str, &'static str, &'static str);
pub(crate) const CONFIGURATION: TableDefinition<ConfigurationKey, (&str, &[u8])> =
    TableDefinition::new("configuration");
pub(crate) const MESSAGE: TableDefinition<u64, (&str, &[u8], &[u8])> = TableDefinition::new("message");
pub(crate) const MESSAGE_USERS: TableDefinition<u64, u32> = TableDefinition::new("message_users");
pub(crate) const GROUP: TableDefinition<(&str, &str), ()> = TableDefinition::new("group");
pub(crate) const QUEUE_ENTRY: TableDefinition<(&str, &str, u64), (Millis, u32, Millis)> =
    TableDefinition::new("queue");

/// When a write to an embedded store is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Durability {
    /// When it is on the disk: a loss of power loses nothing that was answered.
    #[default]
    Fsync,
    /// When the operating system has it: a crash of the process loses nothing, a loss of power may
    /// damage the file.
    Os,
}

/// The name of a store's file, relative to the data directory.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct StorePath(pub PathBuf);

impl Default for StorePath {
    fn default() -> Self {
        Self("layotto.db".into())
    }
}

/// An open store. Dropping it commits what is left and releases the file.
pub(crate) struct Store {
    db: Arc<Database>,
    path: PathBuf,
    clock: Clock,
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    // `None` only while the store is being dropped.
    jobs: Option<mpsc::SyncSender<Box<dyn Work>>>,
    writer: Option<JoinHandle<()>>,
}

/// What the store, its writer and its file look at together.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    os_only: AtomicBool,
    syncs: AtomicU64,
    commits: AtomicU64,
    operations: AtomicU64,
    broken: std::sync::OnceLock<String>,
    /// The disk has no room left.
    #[cfg(test)]
    full: AtomicBool,
}

impl Store {
    /// The store in the file `name`, shared with every other component that uses it.
    pub(crate) async fn shared(name: &StorePath, durability: Durability, cx: &Context) -> Result<Arc<Self>> {
        let path = file::locate(&cx.data_dir.join(&name.0))?;
        let target = path.display().to_string();
        let store = cx
            .shared
            .get_or_open(&target, async || {
                Self::open(path.clone(), durability, Clock::default()).await
            })
            .await?;
        if durability == Durability::Fsync {
            // The strictest of the components that share the file decides: the file is whole or
            // damaged for all of them.
            store.shared.os_only.store(false, Ordering::SeqCst);
        }
        Ok(store)
    }

    /// Opens the file at `path`, made new where there is none.
    pub(crate) async fn open(path: PathBuf, durability: Durability, clock: Clock) -> Result<Self> {
        let shared = Arc::new(Shared {
            os_only: (durability == Durability::Os).into(),
            ..Shared::default()
        });
        let db = Arc::new(file::open(&path, &shared).await?);
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let writer = Writer::new(Arc::clone(&db), Arc::clone(&shared), clock.clone(), path.clone());
        let writer = thread::Builder::new()
            .name("embedded-store".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|error| {
                Error::internal("cannot start the embedded store's writer").with_source(error)
            })?;
        Ok(Self {
            db,
            path,
            clock,
            shared,
            places: Arc::new(Semaphore::new(QUEUE)),
            jobs: Some(jobs),
            writer: Some(writer),
        })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The clock that the store's rows end by.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Fails when the store can no longer be used.
    pub(crate) fn check(&self) -> Result<()> {
        match self.shared.broken.get() {
            Some(reason) => Err(Error::unavailable(reason)),
            None => Ok(()),
        }
    }

    /// Reads what is committed.
    // On the calling thread: a read takes microseconds, since it never waits for the writer and
    // nearly always finds its pages in memory. Handing it to a thread pool would cost more.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T> {
        self.db
            .begin_read()
            .map_err(redb::Error::from)
            .and_then(|tx| read(&tx))
            .map_err(|error| file::failed(&self.path, error))
    }

    /// Carries out `operation` on the writer's thread and answers when it is committed.
    ///
    /// An operation that refuses must do so before its first write. It shares a commit with those
    /// that wait at the same time, sees what they did, and is carried out even if the caller went away.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&WriteTransaction) -> Attempt<T> + Send + 'static,
    ) -> Result<T> {
        self.write_then(operation, |outcome| outcome).await
    }

    /// Like [`write`](Self::write), and passes the outcome through `after` on the writer's thread,
    /// in the order of the commits. `after` must not wait.
    pub(crate) async fn write_then<T: Send + 'static, R: Send + 'static>(
        &self,
        operation: impl FnOnce(&WriteTransaction) -> Attempt<T> + Send + 'static,
        after: impl FnOnce(Result<T>) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let closed = || Error::unavailable("the embedded store is closed");
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let task = Task::new(operation, after, reply, place);
        // Never full: whoever sends holds one of as many places as the queue has.
        self.jobs
            .as_ref()
            .and_then(|jobs| jobs.try_send(Box::new(task)).ok())
            .ok_or_else(closed)?;
        answer.await.map_err(|_| closed())?
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None;
        // Waits for the last commit, so that whoever opens the file next finds it released.
        if let Some(writer) = self.writer.take()
            && writer.thread().id() != thread::current().id()
            && writer.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the embedded store's writer panicked");
        }
    }
}

/// The next value of the counter `name`, which starts at 1.
pub(crate) fn count(tx: &WriteTransaction, name: &str) -> Result<u64, Failure> {
    let mut meta = tx.open_table(META)?;
    let next = meta.get(name)?.map_or(0, |last| last.value()) + 1;
    meta.insert(name, next)?;
    Ok(next)
}

#[cfg(test)]
impl Store {
    /// Operations carried out, commits made, and syncs of the file asked for.
    pub(crate) fn counters(&self) -> (u64, u64, u64) {
        let Shared {
            operations,
            commits,
            syncs,
            ..
        } = &*self.shared;
        (
            operations.load(Ordering::SeqCst),
            commits.load(Ordering::SeqCst),
            syncs.load(Ordering::SeqCst),
        )
    }
}

#[cfg(test)]
mod tests;
