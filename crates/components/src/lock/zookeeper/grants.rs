//! The locks that this process got, each with its session.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use layotto_core::{Error, Result};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use zookeeper_client::{Client, SessionState, StateWatcher};

/// How many locks may be held at once, by all components with the same servers.
pub(super) const MOST: usize = 1000;

/// The locks that are held, and those that are tried, by the path of their node.
pub(super) struct Grants {
    state: Mutex<State>,
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    held: HashMap<String, Arc<Held>>,
    tried: HashSet<String>,
}

/// A lock that is held.
pub(super) struct Held {
    pub(super) owner: String,
    /// The transaction that made the node.
    pub(super) token: i64,
    pub(super) session_id: i64,
    /// `None` once it is to be closed.
    session: Mutex<Option<Client>>,
    state: StateWatcher,
    end: Mutex<Instant>,
    /// The end is another one, or the lock was given back.
    changed: Notify,
    _place: OwnedSemaphorePermit,
}

/// The right to try a lock; one at a time in this process.
pub(super) struct Turn<'a> {
    grants: &'a Grants,
    path: String,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            places: Arc::new(Semaphore::new(MOST)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Grants {
    /// The right to try `path`; `None` while another caller has it.
    pub(super) fn turn(&self, path: &str) -> Option<Turn<'_>> {
        let is_first = lock(&self.state).tried.insert(path.to_owned());
        is_first.then(|| Turn {
            grants: self,
            path: path.to_owned(),
        })
    }

    /// A place for one more lock.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// The grant of `path`.
    pub(super) fn held(&self, path: &str) -> Option<Arc<Held>> {
        lock(&self.state).held.get(path).cloned()
    }

    /// Keeps a grant. The future ends it when its lease does; it must be polled until then.
    pub(super) fn hold(
        self: &Arc<Self>,
        path: String,
        held: Held,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (grants, held) = (Arc::clone(self), Arc::new(held));
        // One that is there has lost its node, or this one could not have been had.
        let lost = lock(&self.state).held.insert(path.clone(), Arc::clone(&held));
        if let Some(lost) = lost {
            lost.give_up();
        }
        async move {
            match shutdown
                .run_until_cancelled(grants.wait_for_end(&path, &held))
                .await
            {
                Some(()) => held.give_up(),
                // The lock stays its owner's: the servers keep the session for its time-out.
                None => held.leave(),
            }
        }
    }

    /// Waits until the lease or the session ends, or the lock is given back.
    async fn wait_for_end(&self, path: &str, held: &Arc<Held>) {
        let mut state = held.state.clone();
        loop {
            let (changed, end) = (held.changed.notified(), held.end());
            tokio::select! {
                () = changed => {}
                () = sleep_until(end) => {}
                now = state.changed() => if now.is_terminated() {
                    self.take(path, held);
                }
            }
            let mut grants = lock(&self.state);
            if !grants.has(path, held) {
                return;
            }
            if held.end() <= Instant::now() {
                grants.held.remove(path);
                return;
            }
        }
    }

    /// Takes a grant out; `false` where it was taken out before.
    pub(super) fn take(&self, path: &str, held: &Arc<Held>) -> bool {
        let mut state = lock(&self.state);
        let is_there = state.has(path, held);
        if is_there {
            state.held.remove(path);
            held.changed.notify_one();
        }
        is_there
    }

    /// Moves the end of a grant's lease; `false` where it has ended.
    pub(super) fn extend(&self, path: &str, held: &Arc<Held>, lease: Duration) -> bool {
        let state = lock(&self.state);
        let is_there = state.has(path, held);
        if is_there {
            *lock(&held.end) = Instant::now() + lease;
            held.changed.notify_one();
        }
        is_there
    }
}

#[cfg(test)]
impl Grants {
    /// How many more locks may be held.
    pub(super) fn free_places(&self) -> usize {
        self.places.available_permits()
    }
}

impl State {
    fn has(&self, path: &str, held: &Arc<Held>) -> bool {
        self.held.get(path).is_some_and(|other| Arc::ptr_eq(other, held))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.grants.state).tried.remove(&self.path);
    }
}

impl Held {
    /// A grant whose lease begins now.
    pub(super) fn new(
        owner: &str,
        token: i64,
        session: Client,
        lease: Duration,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            owner: owner.to_owned(),
            token,
            session_id: session.session_id().0,
            state: session.state_watcher(),
            session: Mutex::new(Some(session)),
            end: Mutex::new(Instant::now() + lease),
            changed: Notify::new(),
            _place: place,
        }
    }

    /// Its session, which is not closed while somebody has it.
    pub(super) fn session(&self) -> Option<Client> {
        lock(&self.session).clone()
    }

    fn end(&self) -> Instant {
        *lock(&self.end)
    }

    /// Closes the session.
    fn give_up(&self) {
        drop(lock(&self.session).take());
    }

    /// Lets go of the session without closing it.
    fn leave(&self) {
        std::mem::forget(lock(&self.session).take());
    }

    /// Closes the session and waits until the servers have removed what it held.
    pub(super) async fn close(&self) -> Result<()> {
        let mut state = self.state.clone();
        self.give_up();
        loop {
            match state.changed().await {
                SessionState::Closed | SessionState::Expired => return Ok(()),
                SessionState::AuthFailed => {
                    return Err(Error::unavailable("zookeeper: the session was refused"));
                }
                _ => {}
            }
        }
    }
}
