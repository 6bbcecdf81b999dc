//! The consumer groups of a component: one member for each, shared by the subscriptions that name
//! the group.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use layotto_core::{Context, Error, Result, pubsub::Subscription};
use rdkafka::ClientConfig;
use tokio::sync::{Notify, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    InitialOffset, member,
    offsets::Partition,
    producer::Producer,
    source::{Held, Records},
};
use crate::pubsub::{
    delivery::Seeking,
    queue::{Entry, Place, Queue},
};

/// What all members of a component need.
pub(super) struct Setup {
    pub(super) config: ClientConfig,
    pub(super) producer: Arc<Producer>,
    pub(super) initial: InitialOffset,
}

/// The groups of a component.
pub(super) struct Groups {
    setup: Arc<Setup>,
    members: Mutex<HashMap<String, Weak<Member>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Groups {
    pub(super) fn new(
        config: ClientConfig,
        producer: Arc<Producer>,
        initial: InitialOffset,
        cx: Context,
    ) -> Self {
        let setup = Setup {
            config,
            producer,
            initial,
        };
        Self {
            setup: Arc::new(setup),
            members: Mutex::default(),
            stop: cx.shutdown.child_token(),
            tasks: cx.tasks,
        }
    }

    /// Ends all subscriptions; deliveries that run are finished.
    pub(super) fn close(&self) {
        self.stop.cancel();
    }

    /// Takes a seat in the group; done when the group has a position in each partition of the topic.
    pub(super) async fn subscribe(&self, seeking: Seeking) -> Result<Subscription> {
        let closed = || Error::unavailable("the component is closed");
        self.setup.producer.reach().check()?;
        let seat = self.sit(&seeking);
        let ready = seat.member.ready(&seeking.place.topic);
        let answer = self.stop.run_until_cancelled(ready).await;
        answer.ok_or_else(closed)?.map_err(|_| closed())??;
        let taken = (Arc::clone(&seat.member.records), Arc::clone(&seat.queue));
        Ok(seeking.deliver(taken, seat, &self.stop, &self.tasks))
    }

    fn sit(&self, seeking: &Seeking) -> Seat {
        let Place { topic, group } = &seeking.place;
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|_, member| member.strong_count() > 0);
        let known = members.get(group).filter(|_| !seeking.is_ephemeral);
        let known = known.and_then(Weak::upgrade);
        if let Some(seat) = known.and_then(|member| member.seat(topic)) {
            return seat;
        }
        let member = Arc::new(Member::new(group, seeking.is_ephemeral, &self.setup));
        if !seeking.is_ephemeral {
            members.insert(group.clone(), Arc::downgrade(&member));
        }
        let seat = member.seat(topic);
        self.tasks.spawn(member::run(member, Arc::clone(&self.setup)));
        seat.expect("invariant: a member ends when nobody wants it any more")
    }
}

/// This process's member of a group.
pub(super) struct Member {
    pub(super) group: String,
    /// A group of its own, that the brokers never hear of.
    pub(super) is_ephemeral: bool,
    pub(super) records: Arc<Records>,
    /// Another topic is wanted, or one less.
    pub(super) changed: Notify,
    wanted: Mutex<Wanted>,
    /// Partitions for which the group had a position.
    pub(super) pinned: Mutex<HashSet<Partition>>,
}

#[derive(Default)]
struct Wanted {
    topics: HashMap<String, Topic>,
    is_over: bool,
}

struct Topic {
    queue: Arc<Queue<Arc<Held>>>,
    seats: usize,
    waiting: Vec<oneshot::Sender<Result<()>>>,
}

impl Member {
    fn new(group: &str, is_ephemeral: bool, setup: &Setup) -> Self {
        Self {
            group: group.to_owned(),
            is_ephemeral,
            records: Arc::new(Records {
                producer: Arc::clone(&setup.producer),
                failed: Notify::new(),
            }),
            changed: Notify::new(),
            wanted: Mutex::default(),
            pinned: Mutex::default(),
        }
    }

    fn hold(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat for the records of `topic`; `None` where the member is leaving its group.
    fn seat(self: &Arc<Self>, topic: &str) -> Option<Seat> {
        let mut wanted = self.hold();
        if wanted.is_over {
            return None;
        }
        let entry = wanted.topics.entry(topic.to_owned());
        let known = entry.or_insert_with(|| Topic {
            queue: Arc::new(Queue::new(false)),
            seats: 0,
            waiting: Vec::new(),
        });
        known.seats += 1;
        Some(Seat {
            queue: Arc::clone(&known.queue),
            member: Arc::clone(self),
            topic: topic.to_owned(),
        })
    }

    /// Told once the group has a position in each partition of `topic`, or cannot have one.
    fn ready(&self, topic: &str) -> oneshot::Receiver<Result<()>> {
        let (answer, answered) = oneshot::channel();
        if let Some(known) = self.hold().topics.get_mut(topic) {
            known.waiting.push(answer);
        }
        self.changed.notify_one();
        answered
    }

    /// The topics wanted. Where there are none, the member must leave its group.
    pub(super) fn topics(&self) -> Vec<String> {
        let mut wanted = self.hold();
        // Only here: a queue stays while the member may hold records that are in it.
        wanted.topics.retain(|_, topic| topic.seats > 0);
        wanted.is_over = wanted.topics.is_empty();
        wanted.topics.keys().cloned().collect()
    }

    /// Puts a record in the queue of its topic; `false` where nobody wants it any more.
    pub(super) fn deliver(&self, topic: &str, entry: Entry<Arc<Held>>) -> bool {
        let Some(queue) = self
            .hold()
            .topics
            .get(topic)
            .map(|topic| Arc::clone(&topic.queue))
        else {
            return false;
        };
        queue.reserve(usize::MAX);
        queue.put(0, entry);
        true
    }

    /// Whether a subscription waits to be made.
    pub(super) fn is_awaited(&self) -> bool {
        self.hold().topics.values().any(|topic| !topic.waiting.is_empty())
    }

    /// The subscriptions of `topic` that wait are made.
    pub(super) fn accept(&self, topic: &str) {
        let mut wanted = self.hold();
        let waiting = wanted
            .topics
            .get_mut(topic)
            .map(|topic| mem::take(&mut topic.waiting));
        drop(wanted);
        // Whoever went away meanwhile gives up its seat.
        for answer in waiting.into_iter().flatten() {
            answer.send(Ok(())).ok();
        }
    }

    /// The subscriptions that wait fail, for all topics or one.
    pub(super) fn refuse(&self, topic: Option<&str>, error: &Error) {
        let mut wanted = self.hold();
        let refused = wanted
            .topics
            .iter_mut()
            .filter(|(name, _)| topic.is_none_or(|topic| topic == *name));
        let waiting: Vec<_> = refused
            .flat_map(|(_, topic)| mem::take(&mut topic.waiting))
            .collect();
        drop(wanted);
        for answer in waiting {
            answer.send(Err(Error::new(error.kind(), error.message()))).ok();
        }
    }
}

/// A subscription's place in its group.
struct Seat {
    queue: Arc<Queue<Arc<Held>>>,
    member: Arc<Member>,
    topic: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut wanted = self.member.hold();
        if let Some(topic) = wanted.topics.get_mut(&self.topic) {
            topic.seats -= 1;
        }
        drop(wanted);
        self.member.changed.notify_one();
    }
}
