//! The one thread that writes: it takes all operations that wait, carries them out in one
//! transaction, commits once, and answers all of them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use layotto_core::{Error, Result};
use redb::{Database, Durability, StorageError, TableError, WriteTransaction};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{QUEUE, Shared, file, sweep};
use crate::clock::Clock;

/// How often rows that ended are swept, and how long a lazy change may stay in memory only.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What an operation did, and so what its commit must achieve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effect {
    /// It changed nothing.
    None,
    /// Its change may be lost in a crash, within about a second.
    Lazy,
    /// Its change must be on the disk.
    Durable,
}

/// Why an operation did not take place.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The operation found that it must not, before it wrote anything.
    Refused(Error),
    /// The store failed; the whole batch is given up.
    Broken(Box<redb::Error>),
}

/// The outcome of an operation, and its effect.
pub(crate) type Attempt<T> = Result<(T, Effect), Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Broken(Box::new(error.into()))
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        Self::Broken(Box::new(error.into()))
    }
}

/// A waiting operation without its types.
pub(super) trait Work: Send {
    /// Carries the operation out.
    fn run(&mut self, tx: &WriteTransaction) -> Result<Effect, Box<redb::Error>>;
    /// Answers the caller; `broken` says why nothing was committed.
    fn finish(self: Box<Self>, broken: Option<&str>);
}

/// A waiting operation: what to do, what follows, and who waits.
pub(super) struct Task<T, R, O, A> {
    operation: Option<O>,
    outcome: Option<Result<T>>,
    after: A,
    reply: oneshot::Sender<Result<R>>,
    _place: OwnedSemaphorePermit,
}

impl<T, R, O, A> Task<T, R, O, A> {
    pub(super) fn new(
        operation: O,
        after: A,
        reply: oneshot::Sender<Result<R>>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            operation: Some(operation),
            outcome: None,
            after,
            reply,
            _place: place,
        }
    }
}

impl<T, R, O, A> Work for Task<T, R, O, A>
where
    T: Send,
    R: Send,
    O: FnOnce(&WriteTransaction) -> Attempt<T> + Send,
    A: FnOnce(Result<T>) -> Result<R> + Send,
{
    fn run(&mut self, tx: &WriteTransaction) -> Result<Effect, Box<redb::Error>> {
        let operation = self.operation.take().expect("invariant: an operation runs once");
        let (outcome, effect) = match operation(tx) {
            Ok((value, effect)) => (Ok(value), effect),
            Err(Failure::Refused(error)) => (Err(error), Effect::None),
            Err(Failure::Broken(error)) => return Err(error),
        };
        self.outcome = Some(outcome);
        Ok(effect)
    }

    fn finish(self: Box<Self>, broken: Option<&str>) {
        let outcome = match (broken, self.outcome) {
            (None, Some(outcome)) => outcome,
            (reason, _) => Err(Error::unavailable(reason.unwrap_or("the embedded store failed"))),
        };
        let outcome = (self.after)(outcome);
        // A caller that went away wants no answer.
        drop(self.reply.send(outcome));
    }
}

/// The writer's side of the store.
pub(super) struct Writer {
    db: Arc<Database>,
    shared: Arc<Shared>,
    clock: Clock,
    path: PathBuf,
    /// Whether the last commit was a lazy one.
    behind: bool,
    /// Whether the last sweep left rows over.
    dusty: bool,
    kept_house: Instant,
}

impl Writer {
    pub(super) fn new(db: Arc<Database>, shared: Arc<Shared>, clock: Clock, path: PathBuf) -> Self {
        Self {
            db,
            shared,
            clock,
            path,
            behind: false,
            dusty: false,
            kept_house: Instant::now(),
        }
    }

    /// Works until nobody can send any more.
    pub(super) fn run(mut self, queue: &mpsc::Receiver<Box<dyn Work>>) {
        loop {
            let pause = if self.dusty { Duration::ZERO } else { HOUSEKEEPING };
            match queue.recv_timeout(pause) {
                Ok(first) => self.carry_out(first, queue),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return self.catch_up(),
            }
            if self.dusty || self.kept_house.elapsed() >= HOUSEKEEPING {
                self.keep_house();
            }
        }
    }

    fn carry_out(&mut self, first: Box<dyn Work>, queue: &mpsc::Receiver<Box<dyn Work>>) {
        let mut batch = vec![first];
        batch.extend(queue.try_iter().take(QUEUE));
        // A defect in one operation must fail its batch, not end the writer and with it the store.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.commit(&mut batch)));
        let broken = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(self.failed(*error)),
            Err(_) => Some(self.remember("the embedded store hit a defect".to_owned())),
        };
        self.shared
            .operations
            .fetch_add(batch.len() as u64, Ordering::SeqCst);
        for work in batch {
            work.finish(broken.as_deref());
        }
    }

    fn failed(&self, error: redb::Error) -> String {
        self.remember(file::failed(&self.path, error).message().to_owned())
    }

    /// Marks the store as unusable for `reason` once redb no longer accepts commits.
    fn remember(&self, reason: String) -> String {
        if self.db.begin_write().and_then(|tx| Ok(tx.abort()?)).is_err() {
            drop(self.shared.broken.set(reason.clone()));
        }
        reason
    }

    fn commit(&mut self, batch: &mut [Box<dyn Work>]) -> Result<(), Box<redb::Error>> {
        let tx = self.db.begin_write().map_err(boxed)?;
        let mut effect = Effect::None;
        for work in batch {
            effect = effect.max(work.run(&tx)?);
        }
        self.end(tx, effect)
    }

    fn end(&mut self, mut tx: WriteTransaction, effect: Effect) -> Result<(), Box<redb::Error>> {
        if effect == Effect::None {
            return tx.abort().map_err(boxed);
        }
        if effect == Effect::Lazy {
            tx.set_durability(Durability::None).map_err(boxed)?;
        }
        tx.commit().map_err(boxed)?;
        self.shared.commits.fetch_add(1, Ordering::SeqCst);
        self.behind = effect == Effect::Lazy;
        Ok(())
    }

    fn keep_house(&mut self) {
        self.kept_house = Instant::now();
        if self.shared.broken.get().is_some() {
            self.dusty = false;
            return;
        }
        self.dusty = self.sweep().unwrap_or_else(|error| {
            self.failed(error);
            false
        });
        if !self.dusty {
            self.catch_up();
        }
    }

    fn sweep(&mut self) -> Result<bool, redb::Error> {
        let now = self.clock.now();
        if !sweep::is_due(&self.db, now)? {
            return Ok(false);
        }
        let tx = self.db.begin_write()?;
        let left_over = sweep::sweep(&tx, now)?;
        self.end(tx, Effect::Lazy).map_err(|error| *error)?;
        Ok(left_over)
    }

    /// Brings lazy commits to the disk.
    fn catch_up(&mut self) {
        if !self.behind {
            return;
        }
        let tx = self.db.begin_write().map_err(boxed);
        if let Err(error) = tx.and_then(|tx| self.end(tx, Effect::Durable)) {
            self.failed(*error);
        }
    }
}

fn boxed(error: impl Into<redb::Error>) -> Box<redb::Error> {
    Box::new(error.into())
}
