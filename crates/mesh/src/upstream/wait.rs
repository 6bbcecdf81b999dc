//! The queue of those who wait for a connection: first come, first served. What is granted to one
//! who has gone meanwhile goes to the next.

use std::collections::VecDeque;

use tokio::sync::oneshot;

/// Those who wait, to be kept under the lock of their pool.
#[derive(Debug)]
pub(super) struct Queue<G> {
    waiting: VecDeque<oneshot::Sender<G>>,
    /// How many of them are gone, at most.
    gone: usize,
}

/// Where grants come from, and go back to.
pub(super) trait Grants<G> {
    /// Takes back what was granted to one who is gone.
    fn give_back(&self, grant: G);
    /// Hears that one is gone.
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
        Self {
            waiting: VecDeque::new(),
            gone: 0,
        }
    }
}

impl<G> Queue<G> {
    /// Queues up; the answer is to be wrapped by [`Waiting::new`] once the lock is released.
    pub(super) fn push(&mut self) -> oneshot::Receiver<G> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.push_back(sender);
        receiver
    }

    /// Grants to the first who still waits; gives it back if nobody does.
    pub(super) fn grant(&mut self, mut grant: G) -> Result<(), G> {
        while let Some(first) = self.waiting.pop_front() {
            match first.send(grant) {
                Ok(()) => return Ok(()),
                Err(back) => {
                    self.gone = self.gone.saturating_sub(1);
                    grant = back;
                }
            }
        }
        Err(grant)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// One is gone. Once half of them are they are cleared away, so that many who give up at one
    /// time do not each look at all the others.
    pub(super) fn forget(&mut self) {
        self.gone += 1;
        if self.gone * 2 > self.waiting.len() {
            self.waiting.retain(|sender| !sender.is_closed());
            self.gone = 0;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_are_gone_are_cleared_away_and_the_others_keep_their_turn() {
        let mut queue = Queue::default();
        let mut waiting: Vec<_> = (0..100).map(|_| queue.push()).collect();
        for gone in (0..99).rev() {
            drop(waiting.remove(gone));
            queue.forget();
            assert!(queue.waiting.len() <= 2 * waiting.len() + 1);
        }
        queue.grant("yes").unwrap();
        assert_eq!(waiting[0].try_recv(), Ok("yes"));
        assert!(queue.is_empty() && queue.grant("nobody").is_err());
    }
}
