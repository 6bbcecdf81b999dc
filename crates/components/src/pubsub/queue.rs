//! What waits for a consumer group: messages by the time they are due, and who takes them.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use layotto_core::{Error, ErrorKind, Result};
use tokio::{sync::Notify, time};

use crate::clock::{Clock, Millis, is_over};

/// How often a full queue is searched for messages that ended.
const PURGE_INTERVAL: Millis = 1000;

/// A topic and a group of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) topic: String,
    pub(super) group: String,
}

/// A message of a queue. `B` is what is kept of it in memory.
#[derive(Debug, Clone)]
pub(super) struct Entry<B> {
    pub(super) id: u64,
    /// Deliveries begun.
    pub(super) attempts: u32,
    /// When it ends; 0 for never.
    pub(super) end: Millis,
    pub(super) body: B,
}

/// The messages of one group.
pub(super) struct Queue<B> {
    state: Mutex<State<B>>,
    changed: Notify,
    ephemeral: bool,
}

struct State<B> {
    /// By due time and id: the first is the next.
    waiting: BTreeMap<(Millis, u64), Entry<B>>,
    /// Messages on their way in or being delivered; they count as queued.
    held: usize,
    purged: Millis,
}

impl<B> Queue<B> {
    /// An empty queue; `ephemeral` if its group lives only as long as its subscription.
    pub(super) fn new(ephemeral: bool) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: BTreeMap::new(),
                held: 0,
                purged: 0,
            }),
            changed: Notify::new(),
            ephemeral,
        }
    }

    /// Whether the group lives only as long as its subscription.
    pub(super) fn is_ephemeral(&self) -> bool {
        self.ephemeral
    }
}

impl<B> Queue<B> {
    fn hold(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for one more message; `false` where `limit` are queued.
    pub(super) fn reserve(&self, limit: usize) -> bool {
        let mut state = self.hold();
        let room = state.waiting.len() + state.held < limit;
        state.held += usize::from(room);
        room
    }

    /// Takes out the messages that ended; at most once a second, since all are looked at.
    pub(super) fn purge(&self, now: Millis) -> Vec<Entry<B>> {
        let mut state = self.hold();
        if now < state.purged.saturating_add(PURGE_INTERVAL) {
            return Vec::new();
        }
        state.purged = now;
        let ended = state.waiting.extract_if(.., |_, entry| is_over(entry.end, now));
        ended.map(|(_, entry)| entry).collect()
    }

    /// Gives up a reservation, or a message taken.
    pub(super) fn release(&self) {
        let mut state = self.hold();
        state.held = state.held.saturating_sub(1);
    }

    /// Fills a reservation, or puts back a message taken; it is delivered when it is due.
    pub(super) fn put(&self, due: Millis, entry: Entry<B>) {
        let mut state = self.hold();
        state.held = state.held.saturating_sub(1);
        state.waiting.insert((due, entry.id), entry);
        drop(state);
        // All of them, since each must know when the next message is due: the one that was told
        // might be gone by then.
        self.changed.notify_waiters();
    }

    /// Waits until a message is due. Others may take it first.
    pub(super) async fn due(&self, clock: &Clock) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let Some(due) = self.first_due() else {
                changed.await;
                continue;
            };
            let wait = due.saturating_sub(clock.now());
            if wait == 0 {
                return;
            }
            drop(time::timeout(Duration::from_millis(wait), changed).await);
        }
    }

    fn first_due(&self) -> Option<Millis> {
        self.hold().waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes the next message that is due.
    pub(super) fn take(self: &Arc<Self>, now: Millis) -> Option<Taken<B>> {
        let mut state = self.hold();
        let first = state.waiting.first_entry().filter(|first| first.key().0 <= now)?;
        let mut entry = first.remove();
        entry.attempts = entry.attempts.saturating_add(1);
        state.held += 1;
        Some(Taken {
            queue: Arc::clone(self),
            entry: Some(entry),
        })
    }
}

/// A message on its way to a handler. Dropped without a verdict, it can be delivered again at once.
pub(super) struct Taken<B> {
    queue: Arc<Queue<B>>,
    entry: Option<Entry<B>>,
}

impl<B> Taken<B> {
    /// The message.
    pub(super) fn entry(&self) -> &Entry<B> {
        self.entry
            .as_ref()
            .expect("invariant: a verdict consumes what was taken")
    }

    /// The message leaves the queue for good.
    pub(super) fn settle(mut self) {
        self.entry = None;
        self.queue.release();
    }

    /// The message is to be delivered again at `due`.
    pub(super) fn retry(mut self, due: Millis) {
        if let Some(entry) = self.entry.take() {
            self.queue.put(due, entry);
        }
    }
}

impl<B> Drop for Taken<B> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.queue.put(0, entry);
        }
    }
}

/// The queues of every topic and group.
pub(super) struct Topics<B>(Mutex<HashMap<String, Groups<B>>>);

type Groups<B> = HashMap<String, Arc<Queue<B>>>;

impl<B> Default for Topics<B> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<B> Topics<B> {
    fn hold(&self) -> MutexGuard<'_, HashMap<String, Groups<B>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue of `place`, made where it is missing.
    pub(super) fn queue(&self, place: &Place) -> Arc<Queue<B>> {
        self.queue_or(place, false)
    }

    /// The queue of `place`, made where it is missing, for one subscription.
    pub(super) fn ephemeral_queue(&self, place: &Place) -> Arc<Queue<B>> {
        self.queue_or(place, true)
    }

    fn queue_or(&self, place: &Place, ephemeral: bool) -> Arc<Queue<B>> {
        let mut topics = self.hold();
        let groups = topics.entry(place.topic.clone()).or_default();
        let queue = groups
            .entry(place.group.clone())
            .or_insert_with(|| Arc::new(Queue::new(ephemeral)));
        Arc::clone(queue)
    }

    /// Forgets the queue of `place`.
    pub(super) fn remove(&self, place: &Place) {
        let mut topics = self.hold();
        if let Some(groups) = topics.get_mut(&place.topic) {
            groups.remove(&place.group);
            if groups.is_empty() {
                topics.remove(&place.topic);
            }
        }
    }

    /// The groups of `topic`.
    pub(super) fn groups(&self, topic: &str) -> Vec<(String, Arc<Queue<B>>)> {
        let topics = self.hold();
        let groups = topics.get(topic).into_iter().flatten();
        groups
            .map(|(group, queue)| (group.clone(), Arc::clone(queue)))
            .collect()
    }

    /// Gives the queue of group `from` to group `to` of the same topic, which must have none.
    pub(super) fn rename(&self, topic: &str, from: &str, to: &str) {
        let mut topics = self.hold();
        if let Some(groups) = topics.get_mut(topic)
            && let Some(queue) = groups.remove(from)
        {
            groups.insert(to.to_owned(), queue);
        }
    }
}

/// Room for one message in several queues: all of them, or none.
pub(super) struct Room<B> {
    queues: Vec<Arc<Queue<B>>>,
}

impl<B> Room<B> {
    /// Makes room in the queues of `topic`; fails where one of them is full. What ended in a full
    /// queue makes room; `ended` hears of it.
    pub(super) fn make<E: From<Error>>(
        topic: &str,
        groups: &[(String, Arc<Queue<B>>)],
        (limit, now): (usize, Millis),
        mut ended: impl FnMut(&str, Entry<B>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut room = Self { queues: Vec::new() };
        for (group, queue) in groups {
            if !queue.reserve(limit) {
                for entry in queue.purge(now) {
                    ended(group, entry)?;
                }
                if !queue.reserve(limit) {
                    return Err(full(topic, group, limit).into());
                }
            }
            room.queues.push(Arc::clone(queue));
        }
        Ok(room)
    }

    /// Fills the room with `entry`.
    pub(super) fn fill(mut self, due: Millis, entry: &Entry<B>)
    where
        B: Clone,
    {
        for queue in self.queues.drain(..) {
            queue.put(due, entry.clone());
        }
    }
}

impl<B> Drop for Room<B> {
    fn drop(&mut self) {
        self.queues.iter().for_each(|queue| queue.release());
    }
}

fn full(topic: &str, group: &str, limit: usize) -> Error {
    Error::new(
        ErrorKind::ResourceExhausted,
        format!("topic {topic} has {limit} messages waiting for group {group}"),
    )
}
