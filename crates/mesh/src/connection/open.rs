//! What an open connection holds: its place, its share in the count, the drain's end. Tasks of
//! HTTP/2 streams hold it too, and so do the bytes of a connection that left HTTP: it counts until all
//! that is gone.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::sleep,
};

use super::{allowance::Allowance, backlog::Backlog};
use crate::{drain, memory};

/// How many connections must have been closed for their memory to be worth giving back.
const MANY: usize = 64;

/// How long to wait for more to close, or to come.
const SETTLE: Duration = Duration::from_secs(3);

/// How often a listener says that it cuts connections.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// How many connections a listener has and had, and what went over them.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    accepted: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
    cut: AtomicU64,
    /// When it was last said that connections are cut.
    told: Mutex<Option<Instant>>,
    /// The most that were open since memory was last given back.
    peak: AtomicUsize,
    many_closed: Notify,
}

/// One open connection in the count.
#[derive(Debug)]
pub(crate) struct Counted(Connections);

/// An open connection, shared by its tasks. Fields are dropped in order: who awaited the end of
/// the drain reads a count without it.
#[derive(Debug)]
pub(crate) struct Open {
    backlog: Arc<Backlog>,
    begun: AtomicUsize,
    left_http: AtomicBool,
    allowance: Allowance,
    abused: Notify,
    counted: Counted,
    _place: OwnedSemaphorePermit,
    _hold: drain::Hold,
}

/// Runs the streams of an HTTP/2 connection as tasks that keep it open.
#[derive(Debug, Clone)]
pub(super) struct StreamTasks(pub(super) Arc<Open>);

struct OpenStream(Arc<Open>);

pin_project! {
    struct StreamTask<F> {
        #[pin]
        stream: F,
        _open: OpenStream,
    }
}

impl Connections {
    /// The connections that are open now.
    pub fn open(&self) -> usize {
        self.0.open.load(Relaxed)
    }

    /// All connections ever accepted.
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Relaxed)
    }

    /// All bytes ever read, in clear text.
    pub fn bytes_read(&self) -> u64 {
        self.0.read.load(Relaxed)
    }

    /// All bytes ever written, in clear text.
    pub fn bytes_written(&self) -> u64 {
        self.0.written.load(Relaxed)
    }

    /// Connections ever cut because their clients gave up too many requests.
    pub fn cut(&self) -> u64 {
        self.0.cut.load(Relaxed)
    }

    /// Counts a connection that is cut; whether it is time to tell.
    pub(super) fn count_cut(&self) -> bool {
        self.0.cut.fetch_add(1, Relaxed);
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|last| last.elapsed() >= TOLD_EVERY);
        if due {
            *told = Some(Instant::now());
        }
        due
    }

    /// Gives memory back to the system whenever many connections were closed and none took their
    /// place; to be polled as long as connections are accepted. One drop in the number is answered
    /// once, so that a listener whose clients come and go pays nothing.
    pub(crate) async fn give_memory_back(&self) {
        loop {
            self.0.many_closed.notified().await;
            sleep(SETTLE).await;
            self.0.peak.store(self.open(), Relaxed);
            // It holds the allocator's locks: not on a thread that serves.
            if tokio::task::spawn_blocking(memory::trim).await.is_err() {
                return;
            }
        }
    }

    pub(super) fn read(&self, bytes: usize) {
        self.0.read.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn written(&self, bytes: usize) {
        self.0.written.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn add(&self) -> Counted {
        let open = self.0.open.fetch_add(1, Relaxed) + 1;
        self.0.peak.fetch_max(open, Relaxed);
        self.0.accepted.fetch_add(1, Relaxed);
        Counted(self.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let counts = &self.0.0;
        let open = counts.open.fetch_sub(1, Relaxed) - 1;
        let peak = counts.peak.load(Relaxed);
        if peak.saturating_sub(open) >= MANY.max(peak / 4) {
            counts.many_closed.notify_one();
        }
    }
}

impl Open {
    pub(crate) fn new(place: OwnedSemaphorePermit, counted: Counted, hold: drain::Hold) -> Arc<Self> {
        Arc::new(Self {
            backlog: Arc::default(),
            begun: AtomicUsize::new(0),
            left_http: AtomicBool::new(false),
            allowance: Allowance::new(Instant::now()),
            abused: Notify::new(),
            counted,
            _place: place,
            _hold: hold,
        })
    }

    /// The count that the connection is part of.
    pub(super) fn counts(&self) -> &Connections {
        &self.counted.0
    }

    /// What it has under way.
    pub(crate) fn backlog(&self) -> &Arc<Backlog> {
        &self.backlog
    }

    /// Notes an answer.
    pub(super) fn answered(&self) {
        self.allowance.answered();
    }

    /// Notes that the client gave up a request that it began at `begun`.
    pub(super) fn give_up(&self, begun: Instant) {
        if !self.allowance.give_up(begun, Instant::now()) {
            self.abused.notify_one();
        }
    }

    /// Resolves once the client gave up more requests than it may.
    pub(super) async fn abused(&self) {
        self.abused.notified().await;
    }

    /// From now on it carries bytes that are no HTTP.
    pub(super) fn leave_http(&self) {
        self.left_http.store(true, Relaxed);
    }

    /// Whether it carries bytes that are no HTTP.
    pub(super) fn has_left_http(&self) -> bool {
        self.left_http.load(Relaxed)
    }

    /// The streams that are open now, and what is left of others.
    pub(super) fn streams(&self) -> usize {
        self.backlog.under_way()
    }

    /// All streams ever opened, modulo the size of the counter.
    pub(super) fn begun(&self) -> usize {
        self.begun.load(Relaxed)
    }
}

impl<F> Executor<F> for StreamTasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.backlog.add();
        self.0.begun.fetch_add(1, Relaxed);
        tokio::spawn(StreamTask {
            stream,
            _open: OpenStream(self.0.clone()),
        });
    }
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().stream.poll(cx)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.backlog.done();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn is_told_to_give_back(connections: &Connections) -> bool {
        connections.0.many_closed.notified().now_or_never().is_some()
    }

    #[test]
    fn memory_is_given_back_once_many_connections_are_gone() {
        let connections = Connections::default();
        let mut open: Vec<_> = (0..1000).map(|_| connections.add()).collect();
        open.truncate(751);
        assert!(!is_told_to_give_back(&connections));
        open.truncate(750);
        assert!(is_told_to_give_back(&connections));
    }

    #[test]
    fn connections_that_come_and_go_are_no_reason_to_give_memory_back() {
        let connections = Connections::default();
        let _open: Vec<_> = (0..100).map(|_| connections.add()).collect();
        for _ in 0..1000 {
            drop(connections.add());
        }
        assert!(!is_told_to_give_back(&connections));
    }
}
