//! The queue of those who wait for a connection: first come, first served. What is granted to one
//! who has gone meanwhile goes to the next.

use std::collections::VecDeque;

use tokio::sync::oneshot;

/// Those who wait, to be kept under the lock of their pool.
#[derive(Debug)]
pub(super) struct Queue<G>(VecDeque<oneshot::Sender<G>>);

/// Where grants come from, and go back to.
pub(super) trait Grants<G> {
    /// Takes back what was granted to one who is gone.
    fn give_back(&self, grant: G);
    /// Forgets those who are gone.
    fn forget(&self);
}

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiting<'a, G, P: Grants<G>> {
    pool: &'a P,
    grant: oneshot::Receiver<G>,
    done: bool,
}

impl<G> Default for Queue<G> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<G> Queue<G> {
    /// Queues up; the answer is to be wrapped by [`Waiting::new`] once the lock is released.
    pub(super) fn push(&mut self) -> oneshot::Receiver<G> {
        let (sender, receiver) = oneshot::channel();
        self.0.push_back(sender);
        receiver
    }

    /// Grants to the first who still waits; gives it back if nobody does.
    pub(super) fn grant(&mut self, mut grant: G) -> Result<(), G> {
        while let Some(first) = self.0.pop_front() {
            match first.send(grant) {
                Ok(()) => return Ok(()),
                Err(back) => grant = back,
            }
        }
        Err(grant)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn forget(&mut self) {
        self.0.retain(|sender| !sender.is_closed());
    }
}

impl<'a, G, P: Grants<G>> Waiting<'a, G, P> {
    pub(super) fn new(pool: &'a P, grant: oneshot::Receiver<G>) -> Self {
        Self {
            pool,
            grant,
            done: false,
        }
    }

    /// The grant; `None` when the pool is gone.
    pub(super) async fn granted(mut self) -> Option<G> {
        let grant = (&mut self.grant).await;
        self.done = true;
        grant.ok()
    }
}

impl<G, P: Grants<G>> Drop for Waiting<'_, G, P> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.grant.close();
        match self.grant.try_recv() {
            Ok(grant) => self.pool.give_back(grant),
            Err(_) => self.pool.forget(),
        }
    }
}
