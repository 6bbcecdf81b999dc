//! A process's part in a group: one consumer, which reads as long as somebody subscribes.

use std::{sync::Arc, time::Duration};

use layotto_core::Result;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    entry::Entry,
    groups::Setup,
    hand::{Hand, Held},
    keeper::Keeper,
    reader::Reader,
    source::Records,
    stream::{CONSUMER, Consumer},
};
use crate::{
    clock::Clock,
    pubsub::queue::{self, Place, Queue},
};

/// How long a consumer that is wanted no more may take to say so.
const FAREWELL: Duration = Duration::from_secs(2);
/// The wait before a farewell that failed is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Where a consumer begins.
#[derive(Debug, Clone)]
pub(super) enum Start {
    /// Where its group is.
    Group,
    /// After this entry, without a group.
    After(String),
}

/// Who wants the events.
#[derive(Debug, Default)]
struct Seats {
    taken: usize,
    /// The consumer leaves, and takes nobody in.
    is_over: bool,
}

/// A consumer, and what it has in hand.
pub(super) struct Member {
    pub(super) consumer: Consumer,
    pub(super) start: Start,
    pub(super) queue: Arc<Queue<Arc<Held>>>,
    pub(super) records: Arc<Records>,
    /// It has let go of all it had.
    pub(super) ended: CancellationToken,
    seats: watch::Sender<Seats>,
    clock: Clock,
    /// The number of the last entry.
    last: std::sync::atomic::AtomicU64,
}

impl Member {
    /// A consumer, and the first subscription's seat.
    pub(super) fn new(place: &Place, start: Start, setup: &Setup) -> (Arc<Self>, Seat) {
        let consumer = Consumer {
            place: place.clone(),
            name: format!("{CONSUMER}{}", Uuid::new_v4().simple()),
        };
        let records = Records {
            streams: Arc::clone(&setup.streams),
            topic: place.topic.clone(),
            is_ephemeral: matches!(start, Start::After(_)),
            hand: Hand::new(setup.depth),
        };
        let member = Arc::new(Self {
            consumer,
            start,
            queue: Arc::new(Queue::new(false)),
            records: Arc::new(records),
            ended: CancellationToken::new(),
            seats: watch::Sender::new(Seats {
                taken: 1,
                is_over: false,
            }),
            clock: Clock::default(),
            last: 0.into(),
        });
        let seat = Seat(Arc::clone(&member));
        (member, seat)
    }

    /// Another seat; `None` where the consumer is leaving.
    pub(super) fn seat(self: &Arc<Self>) -> Option<Seat> {
        let is_free = self.seats.send_if_modified(|seats| {
            seats.taken += usize::from(!seats.is_over);
            !seats.is_over
        });
        is_free.then(|| Seat(Arc::clone(self)))
    }

    /// Whether nobody wants the events any more; then nobody can from now on.
    pub(super) fn is_over(&self) -> bool {
        self.seats.send_if_modified(|seats| {
            seats.is_over = seats.taken == 0;
            false
        });
        self.seats.borrow().is_over
    }

    /// Waits until nobody wants the events, for now.
    pub(super) async fn unwanted(&self) {
        let mut seats = self.seats.subscribe();
        drop(seats.wait_for(|seats| seats.taken == 0).await);
    }

    /// Has `entries` delivered, which are in hand from now on.
    pub(super) fn deliver(&self, entries: Vec<Entry>) {
        for entry in entries {
            let attempts = entry.attempts;
            // A server that lost its memory, or a part of it, may tell of one again.
            let Some(held) = self.records.hand.take(entry) else {
                continue;
            };
            let id = self.last.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.queue.reserve(usize::MAX);
            let entry = queue::Entry {
                id,
                attempts,
                end: 0,
                body: held,
            };
            self.queue.put(self.clock.now(), entry);
        }
    }

    /// Tells the server what is done, and leaves what is not to others.
    async fn leave(&self) -> Result<()> {
        let (hand, streams) = (&self.records.hand, &self.records.streams);
        let done = hand.done();
        let told = streams.acknowledge(&self.consumer.place, &done).await;
        hand.told(done, told.is_ok());
        told?;
        streams.leave(&self.consumer, &hand.marks()).await
    }

    async fn leave_in_time(&self) {
        let left = timeout(FAREWELL, async {
            while let Err(error) = self.leave().await {
                tracing::debug!(topic = self.consumer.place.topic, %error, "cannot leave a consumer group");
                sleep(AGAIN).await;
            }
        });
        if left.await.is_err() {
            let Place { topic, group } = &self.consumer.place;
            tracing::warn!(
                topic,
                group,
                "redis did not hear in time that a subscription ended: what it had comes again later"
            );
        }
    }
}

/// A subscription's place at a consumer.
pub(super) struct Seat(Arc<Member>);

impl Seat {
    pub(super) fn member(&self) -> &Arc<Member> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seats.send_modify(|seats| seats.taken -= 1);
    }
}

/// Consumes as long as somebody subscribes, once `before` has happened.
pub(super) async fn run(member: Arc<Member>, setup: Arc<Setup>, before: Option<CancellationToken>) {
    let _ended = member.ended.clone().drop_guard();
    if let Some(before) = before {
        before.cancelled().await;
    }
    let over = CancellationToken::new();
    let reading = async {
        Reader::new(&member).run().await;
        over.cancel();
    };
    tokio::join!(reading, Keeper::new(&member, &setup).run(&over));
    if !member.records.is_ephemeral {
        member.leave_in_time().await;
    }
}
