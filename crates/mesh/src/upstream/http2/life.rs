//! What becomes of a connection and of the requests over it, also after the pool has let go of it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::Context,
};

use futures::task::AtomicWaker;

use crate::connection::Work;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Requests under way.
    requests: AtomicUsize,
    /// Long requests, which may go on beside their replies.
    two_way: AtomicUsize,
    /// Whether it is us who end it, once its requests are done.
    retired: AtomicBool,
    /// How many requests are given up and the host is not told yet.
    given_up: AtomicUsize,
    untold: Mutex<Untold>,
    connection: AtomicWaker,
}

#[derive(Debug, Default)]
struct Untold {
    /// What each counts as, oldest first.
    requests: Vec<Option<Work>>,
    /// Whether there is nobody to tell any more.
    ended: bool,
}

impl Life {
    pub(super) fn begin_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn end_request(&self) {
        self.requests.fetch_sub(1, Relaxed);
    }

    /// How many requests are under way.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Relaxed)
    }

    /// How many long requests there are, which may go on beside their replies; more of them wake the task that
    /// [`Life::poll_given_up`] was called from.
    pub(super) fn two_way(&self) -> usize {
        self.two_way.load(SeqCst)
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    /// A request was given up, and its stream let go of: the connection is to tell the host.
    /// `work` lasts until then.
    pub(super) fn give_up(&self, work: Option<Work>) {
        let mut untold = self.untold();
        if untold.ended {
            return;
        }
        untold.requests.push(work);
        self.given_up.store(untold.requests.len(), SeqCst);
        drop(untold);
        self.connection.wake();
    }

    /// How many requests the host is still to be told of; more wake the task of `cx`.
    pub(super) fn poll_given_up(&self, cx: &Context<'_>) -> usize {
        self.connection.register(cx.waker());
        self.given_up.load(SeqCst)
    }

    /// The host is told of the `count` oldest.
    pub(super) fn told(&self, count: usize) {
        let mut untold = self.untold();
        let told: Vec<_> = untold.requests.drain(..count).collect();
        self.given_up.store(untold.requests.len(), SeqCst);
        drop(untold);
        // Wakes the clients, which is better done without the lock.
        drop(told);
    }

    /// There is no connection any more.
    pub(super) fn end(&self) {
        let mut untold = self.untold();
        untold.ended = true;
        let rest = std::mem::take(&mut untold.requests);
        drop(untold);
        drop(rest);
    }

    fn untold(&self) -> MutexGuard<'_, Untold> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that may go on beside its reply: counts, from its beginning until it is dropped.
#[derive(Debug)]
pub(super) struct TwoWay {
    life: Arc<Life>,
    is_begun: AtomicBool,
}

impl TwoWay {
    pub(super) fn new(life: &Arc<Life>) -> Arc<Self> {
        Arc::new(Self {
            life: Arc::clone(life),
            is_begun: false.into(),
        })
    }

    pub(super) fn begin(&self) {
        if !self.is_begun.swap(true, SeqCst) {
            self.life.two_way.fetch_add(1, SeqCst);
            self.life.connection.wake();
        }
    }
}

impl Drop for TwoWay {
    fn drop(&mut self) {
        if *self.is_begun.get_mut() {
            self.life.two_way.fetch_sub(1, SeqCst);
        }
    }
}
