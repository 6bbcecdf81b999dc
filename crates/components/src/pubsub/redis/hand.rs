//! What a consumer has in hand: entries that it read, until the server knows that they are done.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    entry::{Body, Entry},
    stream::Mark,
};

/// How many times the entries read ahead may wait after a failure, or for the server to hear of them.
const WAITING: usize = 10;
/// Bytes of events beyond which nothing more is read.
const BYTES: usize = 16 << 20;
/// Entries of the first read: nobody knows how large they are.
const FIRST: usize = 4;
/// What one entry weighs among those by which the size of the next is guessed.
const MEMORY: usize = 16;

/// An entry in hand.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: String,
    pub(super) body: Body,
    /// Deliveries begun.
    attempts: AtomicU32,
    /// Whether a handler of this process had it.
    is_begun: AtomicBool,
    /// Another consumer has it.
    lost: CancellationToken,
}

impl Held {
    /// Deliveries begun.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// Whether another consumer delivers it.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Waits until another consumer delivers it.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

/// All entries in hand.
pub(super) struct Hand {
    state: Mutex<State>,
    depth: usize,
    /// More can be read.
    pub(super) room: Notify,
    /// The server is to be told something.
    pub(super) news: Notify,
}

#[derive(Default)]
struct State {
    /// `None` for those that are done, of which the server does not know.
    entries: HashMap<String, Option<Arc<Held>>>,
    done: Vec<String>,
    failed: Vec<Arc<Held>>,
    /// Entries that no handler had yet.
    ahead: usize,
    bytes: usize,
    /// Entries that were taken in hand so far.
    taken: usize,
    /// How large entries were lately: what the largest had, less for each that came after it.
    size: usize,
}

impl State {
    fn let_go(&mut self, held: &Held) {
        self.bytes = self.bytes.saturating_sub(held.body.size());
        if !held.is_begun.swap(true, Ordering::Relaxed) {
            self.ahead = self.ahead.saturating_sub(1);
        }
    }
}

impl Hand {
    /// A hand for `depth` entries that no handler had yet.
    pub(super) fn new(depth: usize) -> Self {
        Self {
            state: Mutex::default(),
            depth,
            room: Notify::new(),
            news: Notify::new(),
        }
    }

    fn hold(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many more entries may be read; 0 until half of the places are free.
    pub(super) fn places(&self) -> usize {
        let state = self.hold();
        if state.ahead > self.depth / 2 {
            return 0;
        }
        self.fitting(&state, self.depth)
    }

    /// How many entries may be taken over. Reading leaves places for them, else they would wait as
    /// long as there is something to read.
    pub(super) fn spare(&self) -> usize {
        self.fitting(&self.hold(), self.depth.saturating_mul(2))
    }

    /// How many more entries fit where `most` may be read ahead.
    fn fitting(&self, state: &State, most: usize) -> usize {
        let places = most.saturating_sub(state.ahead);
        let is_full = state.entries.len() >= self.depth.saturating_mul(WAITING) || state.bytes >= BYTES;
        if is_full || places == 0 {
            return 0;
        }
        // As many as fit where they are as large as the last ones; of the first ones, about twice as
        // many with each read.
        let fitting = (BYTES - state.bytes)
            .checked_div(state.size)
            .unwrap_or(usize::MAX);
        let known = FIRST.saturating_add(state.taken);
        places.min(fitting).min(known).max(1)
    }

    /// Takes an entry in hand; `None` where it is already.
    pub(super) fn take(&self, entry: Entry) -> Option<Arc<Held>> {
        let mut state = self.hold();
        if state.entries.contains_key(&entry.id) {
            return None;
        }
        let held = Arc::new(Held {
            id: entry.id,
            body: entry.body,
            attempts: entry.attempts.into(),
            is_begun: false.into(),
            lost: CancellationToken::new(),
        });
        state.ahead += 1;
        let size = held.body.size();
        state.bytes += size;
        state.taken = state.taken.saturating_add(1);
        state.size = size.max(state.size - state.size / MEMORY);
        state.entries.insert(held.id.clone(), Some(Arc::clone(&held)));
        Some(held)
    }

    /// A handler gets an entry, for the time number `attempts`.
    pub(super) fn begin(&self, held: &Held, attempts: u32) {
        held.attempts.store(attempts, Ordering::Relaxed);
        if !held.is_begun.swap(true, Ordering::Relaxed) {
            let mut state = self.hold();
            state.ahead = state.ahead.saturating_sub(1);
            drop(state);
            self.room.notify_one();
        }
    }

    /// The delivery of an entry failed.
    pub(super) fn fail(&self, held: &Arc<Held>) {
        self.hold().failed.push(Arc::clone(held));
        self.news.notify_one();
    }

    /// The group is done with an entry, of which the server is to be told.
    pub(super) fn finish(&self, held: &Held) {
        let mut state = self.hold();
        state.let_go(held);
        state.entries.insert(held.id.clone(), None);
        state.done.push(held.id.clone());
        drop(state);
        self.room.notify_one();
        self.news.notify_one();
    }

    /// An entry is in hand no more: the server knows what became of it.
    pub(super) fn drop_one(&self, held: &Held) {
        let mut state = self.hold();
        state.let_go(held);
        state.entries.remove(&held.id);
        drop(state);
        self.room.notify_one();
    }

    /// Other consumers have these.
    pub(super) fn lose(&self, ids: &[String]) {
        for id in ids {
            let held = self.hold().entries.get(id).cloned().flatten();
            if let Some(held) = held {
                self.drop_one(&held);
                held.lost.cancel();
            }
        }
    }

    /// What is done and the server does not know; to be given back with [`Hand::told`].
    pub(super) fn done(&self) -> Vec<String> {
        mem::take(&mut self.hold().done)
    }

    /// The server knows that `ids` are done, or does not.
    pub(super) fn told(&self, ids: Vec<String>, is_known: bool) {
        let mut state = self.hold();
        if is_known {
            for id in &ids {
                state.entries.remove(id);
            }
        } else {
            state.done.extend(ids);
        }
        drop(state);
        self.room.notify_one();
    }

    /// Entries whose delivery failed since this was asked last.
    pub(super) fn failed(&self) -> Vec<Mark> {
        let failed = mem::take(&mut self.hold().failed);
        let failed = failed.into_iter().filter(|held| !held.is_lost());
        failed.map(|held| (held.id.clone(), held.attempts())).collect()
    }

    /// All that is not done.
    pub(super) fn marks(&self) -> Vec<Mark> {
        let state = self.hold();
        let held = state.entries.values().flatten();
        held.map(|held| (held.id.clone(), held.attempts())).collect()
    }

    /// All ids in hand, also of what is done.
    pub(super) fn ids(&self) -> Vec<String> {
        self.hold().entries.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, bytes: usize) -> Entry {
        Entry {
            id: id.to_owned(),
            body: Body::Event(vec![0; bytes].into()),
            attempts: 0,
        }
    }

    #[test]
    fn no_more_is_read_than_fits() {
        let hand = Hand::new(4);
        assert_eq!(hand.places(), 4);
        let held: Vec<_> = ["1", "2", "3"].map(|id| hand.take(entry(id, 1)).unwrap()).into();
        assert_eq!(hand.places(), 0, "more than half of the places are taken");
        hand.begin(&held[0], 1);
        assert_eq!(hand.places(), 2);
        hand.begin(&held[0], 2);
        assert_eq!(hand.places(), 2, "an entry gives up its place once");
    }

    #[test]
    fn reading_leaves_places_for_what_is_taken_over() {
        let hand = Hand::new(2);
        for id in ["1", "2"] {
            hand.take(entry(id, 1)).unwrap();
        }
        assert_eq!((hand.places(), hand.spare()), (0, 2));
        for id in ["3", "4"] {
            hand.take(entry(id, 1)).unwrap();
        }
        assert_eq!(hand.spare(), 0);
    }

    #[test]
    fn large_events_are_read_one_by_one_and_then_not_at_all() {
        let hand = Hand::new(100);
        let large = hand.take(entry("1", BYTES / 2 + 1)).unwrap();
        assert_eq!(hand.places(), 1);
        hand.take(entry("2", BYTES)).unwrap();
        assert_eq!(hand.places(), 0);
        hand.lose(&["2".to_owned()]);
        hand.finish(&large);
        assert_eq!((hand.places(), hand.spare()), (1, 1), "the next may be as large");
    }

    #[test]
    fn what_is_read_before_any_size_is_known_fits() {
        let hand = Hand::new(100);
        let large = 4 << 20;
        assert!(hand.places() * large <= BYTES, "{} places", hand.places());
        assert!(hand.spare() * large <= BYTES, "{} to take over", hand.spare());
        // Small ones are read together soon, also after some that were large.
        hand.take(entry("large", large)).unwrap();
        hand.lose(&["large".to_owned()]);
        let mut reads = 0;
        while hand.places() < 100 {
            for number in 0..hand.places() {
                let id = format!("{reads}-{number}");
                hand.take(entry(&id, 100)).unwrap();
                hand.lose(&[id]);
            }
            reads += 1;
        }
        assert!(reads < 12, "{reads} reads");
    }

    #[test]
    fn failures_that_wait_are_bounded() {
        let hand = Hand::new(2);
        for number in 0..2 * WAITING {
            assert_ne!(hand.places(), 0);
            let held = hand.take(entry(&number.to_string(), 1)).unwrap();
            hand.begin(&held, 1);
            hand.fail(&held);
        }
        assert_eq!(hand.places(), 0);
        assert_eq!(hand.failed().len(), 2 * WAITING);
        assert_eq!(hand.failed(), []);
    }

    #[test]
    fn what_is_done_stays_in_hand_until_the_server_knows() {
        let hand = Hand::new(4);
        let held = hand.take(entry("1", 1)).unwrap();
        hand.begin(&held, 1);
        hand.finish(&held);
        assert!(hand.take(entry("1", 1)).is_none());
        assert_eq!((hand.ids().len(), hand.marks().len()), (1, 0));
        let done = hand.done();
        hand.told(done, false);
        let done = hand.done();
        assert_eq!(done, ["1"]);
        hand.told(done, true);
        assert_eq!(hand.ids(), [""; 0]);
        assert!(hand.take(entry("1", 1)).is_some());
    }

    #[test]
    fn what_somebody_else_has_is_lost_and_in_hand_no_more() {
        let hand = Hand::new(4);
        let held = hand.take(entry("1", 1)).unwrap();
        hand.lose(&["1".to_owned(), "2".to_owned()]);
        assert!(held.is_lost());
        assert_eq!((hand.places(), hand.ids().len()), (4, 0));
    }
}
