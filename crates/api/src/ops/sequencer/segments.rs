//! The ids of one key: the segment in use, and the next one, fetched ahead in the background.

use std::{
    ops::RangeInclusive,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use layotto_core::{Error, ErrorKind, Result, key_prefix::PrefixedKey, sequencer::Sequencer};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::Slot;

/// The ids of one segment.
pub(super) const SIZE: u32 = 10_000;
/// With this many ids left the next segment is fetched: upstream does so after the 8999th of 10000.
const LOW: u64 = 1_001;
/// The longest a caller waits for a segment that is fetched ahead.
const SWAP: Duration = Duration::from_secs(2);
/// Failed fetches that are tried again at once.
const QUICK_TRIES: u32 = 5;
/// The pause after each later failure.
const PAUSE: Duration = Duration::from_secs(2);

/// Where the segments of a key come from, and who owns the tasks that fetch them.
pub(super) struct Source {
    pub(super) slot: Arc<Slot<dyn Sequencer>>,
    pub(super) key: PrefixedKey,
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: CancellationToken,
}

/// The ids of one key. Dropping it ends a fetch under way.
pub(super) struct Segments {
    source: Source,
    buffers: Mutex<Buffers>,
    arrived: Notify,
    touched: AtomicBool,
}

#[derive(Default)]
struct Buffers {
    current: Ids,
    parked: Option<Ids>,
    /// A fetch is under way.
    fetch: Option<DropGuard>,
    /// The first segment has arrived: from now on fetches go on until they succeed.
    opened: bool,
    failures: u64,
    failure: Option<(ErrorKind, String)>,
}

#[derive(Default)]
struct Ids {
    next: i64,
    left: u64,
}

impl Ids {
    fn new(range: &RangeInclusive<i64>) -> Result<Self> {
        let last = range
            .end()
            .checked_sub(*range.start())
            .and_then(|last| u64::try_from(last).ok());
        let last = last.ok_or_else(|| Error::internal("the sequencer answered an empty segment"))?;
        Ok(Self {
            next: *range.start(),
            left: last + 1,
        })
    }

    fn take(&mut self) -> Option<i64> {
        self.left = self.left.checked_sub(1)?;
        let id = self.next;
        self.next = id.wrapping_add(1);
        Some(id)
    }
}

impl Buffers {
    fn take(&mut self) -> Option<i64> {
        if self.current.left == 0 {
            self.current = self.parked.take()?;
        }
        self.current.take()
    }

    fn wants_segment(&self) -> bool {
        self.opened && self.fetch.is_none() && self.parked.is_none() && self.current.left <= LOW
    }
}

enum Step {
    Id(i64),
    Failed(Error),
    AwaitFirst,
    AwaitSwap,
}

impl Segments {
    pub(super) fn new(source: Source) -> Self {
        let touched = AtomicBool::new(true);
        Self {
            source,
            buffers: Mutex::default(),
            arrived: Notify::new(),
            touched,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Buffers> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an id was asked for since the last call of this function.
    pub(super) fn was_touched(&self) -> bool {
        self.touched.swap(false, Ordering::Relaxed)
    }

    /// The next id, when one is there.
    pub(super) fn try_next(self: &Arc<Self>) -> Option<i64> {
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
        let mut buffers = self.lock();
        let id = buffers.take();
        if buffers.wants_segment() {
            self.start_fetch(&mut buffers);
        }
        id
    }

    /// The next id. The first segment is waited for until it arrives or fails; later ones for 2 s.
    pub(super) async fn next(self: &Arc<Self>) -> Result<i64> {
        let deadline = Instant::now() + SWAP;
        let mut arrived = pin!(self.arrived.notified());
        let mut seen = None;
        loop {
            arrived.as_mut().enable();
            match self.step(&mut seen) {
                Step::Id(id) => return Ok(id),
                Step::Failed(error) => return Err(error),
                Step::AwaitFirst => arrived.as_mut().await,
                Step::AwaitSwap => timeout_at(deadline, arrived.as_mut())
                    .await
                    .map_err(|_| swap_error())?,
            }
            arrived.set(self.arrived.notified());
        }
    }

    fn step(self: &Arc<Self>, seen: &mut Option<u64>) -> Step {
        if let Some(id) = self.try_next() {
            return Step::Id(id);
        }
        let mut buffers = self.lock();
        if let Some(id) = buffers.take() {
            return Step::Id(id);
        }
        if buffers.opened {
            return Step::AwaitSwap;
        }
        if seen
            .replace(buffers.failures)
            .is_some_and(|before| before < buffers.failures)
        {
            let (kind, message) = buffers
                .failure
                .clone()
                .unwrap_or((ErrorKind::Internal, String::new()));
            return Step::Failed(Error::new(kind, message));
        }
        if buffers.fetch.is_none() {
            self.start_fetch(&mut buffers);
        }
        Step::AwaitFirst
    }

    /// In a task of its own, so that a caller who goes away neither loses ids nor stops others.
    fn start_fetch(self: &Arc<Self>, buffers: &mut Buffers) {
        // The first segment is waited for by calls, which may end while the process drains.
        let ahead = buffers.opened;
        let cancelled = if ahead {
            self.source.shutdown.child_token()
        } else {
            CancellationToken::new()
        };
        buffers.fetch = Some(cancelled.clone().drop_guard());
        let fetch = Fetch {
            segments: Arc::downgrade(self),
            slot: Arc::clone(&self.source.slot),
            key: self.source.key.clone(),
            persistent: ahead,
        };
        self.source.tasks.spawn(async move {
            // `fetch` is dropped here, whatever ended it: a panic as well must not leave the key
            // waiting for a fetch that no longer runs.
            cancelled.run_until_cancelled(fetch.run()).await;
        });
    }

    fn arrive(&self, ids: Ids) {
        let mut buffers = self.lock();
        buffers.fetch = None;
        if buffers.opened {
            buffers.parked = Some(ids);
        } else {
            buffers.current = ids;
            buffers.opened = true;
        }
        drop(buffers);
        self.arrived.notify_waiters();
    }

    /// Callers of an opened key are not woken: a later fetch may still help them in time.
    fn fail(&self, kind: ErrorKind, message: String) {
        let mut buffers = self.lock();
        buffers.fetch = None;
        if buffers.opened {
            return;
        }
        buffers.failures += 1;
        buffers.failure = Some((kind, message));
        drop(buffers);
        self.arrived.notify_waiters();
    }
}

fn swap_error() -> Error {
    Error::unavailable("[DoubleBuffer] swap error")
}

/// One fetch of a segment.
struct Fetch {
    segments: Weak<Segments>,
    slot: Arc<Slot<dyn Sequencer>>,
    key: PrefixedKey,
    /// Goes on until it succeeds.
    persistent: bool,
}

impl Fetch {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            match self.segment().await {
                Ok(ids) => return self.end(|segments| segments.arrive(ids)),
                Err(error) if !self.persistent => {
                    return self.end(|segments| segments.fail(error.kind(), first_error(&error)));
                }
                Err(error) => failures = self.note(failures, &error),
            }
            if failures >= QUICK_TRIES {
                sleep(PAUSE).await;
            }
        }
    }

    async fn segment(&self) -> Result<Ids> {
        Ids::new(&self.slot.get()?.segment(&self.key, SIZE).await?)
    }

    fn note(&self, failures: u32, error: &Error) -> u32 {
        if failures == 0 {
            let error = error as &dyn std::error::Error;
            tracing::warn!(target: "layotto::api", store = self.slot.name, error, "a segment of ids was not fetched");
        }
        failures.saturating_add(1)
    }

    fn end(&mut self, tell: impl FnOnce(&Segments)) {
        if let Some(segments) = std::mem::take(&mut self.segments).upgrade() {
            tell(&segments);
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.end(|segments| {
            segments.fail(
                ErrorKind::Unavailable,
                "the fetch of a segment of ids was given up".to_owned(),
            );
        });
    }
}

fn first_error(error: &Error) -> String {
    match error.kind() {
        ErrorKind::Unsupported => "[DoubleBuffer] unSupport Segment id".to_owned(),
        _ => error.message().to_owned(),
    }
}
