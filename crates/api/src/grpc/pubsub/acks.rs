//! Acknowledgements on their way to the deliveries that wait for them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// The deliveries of one stream that wait for an acknowledgement.
///
/// Events of one stream may have equal ids: an acknowledgement goes to the one sent first.
#[derive(Default)]
pub(super) struct Acks(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    next: u64,
    by_id: HashMap<String, VecDeque<(u64, oneshot::Sender<i32>)>>,
}

/// A delivery's place; dropping it gives the place up.
pub(super) struct Expected<'a> {
    acks: &'a Acks,
    id: &'a str,
    place: u64,
    verdict: oneshot::Receiver<i32>,
}

impl Acks {
    /// A place for an event about to be sent.
    pub(super) fn expect<'a>(&'a self, id: &'a str) -> Expected<'a> {
        let (sender, verdict) = oneshot::channel();
        let mut waiting = self.lock();
        let place = waiting.next;
        waiting.next += 1;
        waiting
            .by_id
            .entry(id.to_owned())
            .or_default()
            .push_back((place, sender));
        Expected {
            acks: self,
            id,
            place,
            verdict,
        }
    }

    /// Passes the verdict on event `id` on; false if no delivery waits for it.
    pub(super) fn settle(&self, id: &str, verdict: i32) -> bool {
        let mut waiting = self.lock();
        let Some(queue) = waiting.by_id.get_mut(id) else {
            return false;
        };
        let first = queue.pop_front();
        if queue.is_empty() {
            waiting.by_id.remove(id);
        }
        first.is_some_and(|(_, sender)| sender.send(verdict).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expected<'_> {
    /// The verdict, once it is there.
    pub(super) async fn verdict(&mut self) -> i32 {
        match (&mut self.verdict).await {
            Ok(verdict) => verdict,
            // The sender lives in the queue until it is used or this place is dropped.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        let mut waiting = self.acks.lock();
        let Some(queue) = waiting.by_id.get_mut(self.id) else {
            return;
        };
        queue.retain(|(place, _)| *place != self.place);
        if queue.is_empty() {
            waiting.by_id.remove(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn equal_ids_are_settled_in_the_order_they_were_sent() {
        let acks = Acks::default();
        let mut first = acks.expect("e");
        let mut second = acks.expect("e");
        assert!(acks.settle("e", 1) && acks.settle("e", 2));
        assert_eq!((first.verdict().await, second.verdict().await), (1, 2));
        assert!(!acks.settle("e", 3));
    }

    #[tokio::test]
    async fn a_place_given_up_takes_no_verdict() {
        let acks = Acks::default();
        drop(acks.expect("e"));
        let mut second = acks.expect("e");
        assert!(acks.settle("e", 7));
        assert_eq!(second.verdict().await, 7);
        drop(second);
        assert!(acks.lock().by_id.is_empty());
    }
}
