//! A partition that a member of a group has, or had.

use std::sync::Arc;

use bytes::Bytes;
use rdkafka::{Message, consumer::stream_consumer::StreamPartitionQueue, error::KafkaResult};

use super::{
    consumer::{Events, GroupConsumer},
    offsets::{Mark, Start},
    source::Held,
};

type Records = StreamPartitionQueue<Events>;

/// What a partition's turn brought.
#[derive(Debug)]
pub(super) enum Step {
    /// The next record.
    Fetched(KafkaResult<Fetched>),
    /// The group is done with the record in hand, or it went to another member.
    Ended { held: Arc<Held>, is_done: bool },
}

/// A record as it was fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) offset: i64,
    pub(super) key: Option<Bytes>,
    pub(super) data: Bytes,
}

/// A partition: at most one of its records is in hand, the library fetches ahead.
pub(super) struct Part {
    topic: Arc<str>,
    number: i32,
    /// Kept once it is made: the library forwards a partition's records only once to its queue.
    records: Arc<Records>,
    /// Whether the partition belongs to this member.
    is_assigned: bool,
    /// Whether it did before.
    is_known: bool,
    is_fetching: bool,
    held: Option<Arc<Held>>,
    /// Where the group is.
    mark: Mark,
    /// Where the broker thinks it is.
    committed: Option<Mark>,
}

impl Part {
    /// The partition `number` of `topic`; `None` where the library knows no such topic.
    pub(super) fn new(consumer: &Arc<GroupConsumer>, topic: &str, number: i32) -> Option<Self> {
        Some(Self {
            topic: topic.into(),
            number,
            records: Arc::new(consumer.split_partition_queue(topic, number)?),
            is_assigned: false,
            is_known: false,
            is_fetching: false,
            held: None,
            mark: Mark {
                offset: 0,
                attempts: 0,
            },
            committed: None,
        })
    }

    /// Takes the partition over, which the broker says is at `start`. Returns what to fetch next.
    pub(super) fn assign(&mut self, start: Start) -> i64 {
        let found = start.is_committed.then_some(start.mark);
        // What was finished, or is in hand, while the group was rearranged still counts, unless
        // another member had the partition meanwhile.
        let is_ours = self.is_known && found == self.committed;
        if !is_ours {
            self.lose();
            self.mark = start.mark;
        }
        self.committed = found;
        (self.is_assigned, self.is_known) = (true, true);
        self.held
            .as_ref()
            .map_or(self.mark.offset, |held| held.offset + 1)
    }

    /// The partition belongs to nobody, or to somebody else; what is in hand may yet be finished.
    pub(super) fn unassign(&mut self) {
        self.is_assigned = false;
    }

    /// Nobody wants the topic any more: what is in hand and not done will be fetched again.
    pub(super) fn set_aside(&mut self) {
        self.mark = self.reached(Held::attempts);
        self.lose();
    }

    /// Where the group is by now, a record in hand that is not done counted with `attempts`.
    fn reached(&self, attempts: fn(&Held) -> u32) -> Mark {
        match &self.held {
            // Its turn may not have come yet, and at the end never does.
            Some(held) if held.is_done() => Mark::after(held),
            Some(held) => Mark {
                attempts: attempts(held),
                ..self.mark
            },
            None => self.mark,
        }
    }

    /// What is in hand goes to another member.
    pub(super) fn lose(&mut self) {
        if let Some(held) = self.held.take() {
            held.lose();
        }
    }

    pub(super) fn is_assigned(&self) -> bool {
        self.is_assigned
    }

    /// Whether a handler has a record of the partition now.
    pub(super) fn is_running(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.is_running())
    }

    /// Whether the broker knows the partition's position.
    pub(super) fn is_pinned(&self) -> bool {
        self.committed.is_some()
    }

    /// The turn that brings the next record; `None` where one is in hand or awaited.
    pub(super) fn fetch(&mut self) -> Option<impl Future<Output = Step> + Send + 'static> {
        if self.is_fetching || self.held.is_some() || !self.is_assigned {
            return None;
        }
        self.is_fetching = true;
        let records = Arc::clone(&self.records);
        Some(async move {
            let fetched = records.recv().await.map(|record| Fetched {
                offset: record.offset(),
                key: record.key().map(Bytes::copy_from_slice),
                data: Bytes::copy_from_slice(record.payload().unwrap_or_default()),
            });
            Step::Fetched(fetched)
        })
    }

    /// The awaited record came. Takes it in hand where it is the next one, and `is_serving`.
    pub(super) fn hold(&mut self, fetched: KafkaResult<Fetched>, is_serving: bool) -> Option<Arc<Held>> {
        self.is_fetching = false;
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                tracing::warn!(topic = %self.topic, partition = self.number, %error, "cannot read a partition");
                return None;
            }
        };
        if !self.is_assigned || !is_serving || fetched.offset < self.mark.offset {
            return None;
        }
        if fetched.offset > self.mark.offset {
            // Records are missing where a topic is compacted, and where transactions were.
            self.mark = Mark {
                offset: fetched.offset,
                attempts: 0,
            };
        }
        let held = Held::new(Arc::clone(&self.topic), self.number, fetched, self.mark.attempts);
        Some(Arc::clone(self.held.insert(Arc::new(held))))
    }

    /// A record came to its end. Returns whether it was the one in hand.
    pub(super) fn end(&mut self, ended: &Arc<Held>, is_done: bool) -> bool {
        let is_current = self.held.as_ref().is_some_and(|held| Arc::ptr_eq(held, ended));
        if is_current && is_done {
            self.held = None;
            self.mark = Mark::after(ended);
        }
        is_current
    }

    /// What the broker does not know yet. `is_last`: deliveries that are not finished count too.
    pub(super) fn unsaid(&self, is_last: bool) -> Option<Mark> {
        let mark = self.reached(if is_last { Held::attempts } else { Held::failures });
        Some(mark).filter(|mark| self.is_assigned && Some(*mark) != self.committed)
    }

    /// The broker knows `mark`.
    pub(super) fn said(&mut self, mark: Mark) {
        self.committed = Some(mark);
    }
}
