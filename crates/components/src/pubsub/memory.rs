//! A broker in the memory of the process.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use layotto_core::{
    Component, Context, Error, ErrorKind, Open, Result,
    pubsub::{Features, PubSub, Publish, Subscribe, Subscription},
};

use super::{
    broker::{Broker, Journal, Times},
    delivery::{Source, Stored},
    policy::{Policy, broker_config},
    queue::{Entry, Place, Queue, Room, Topics},
};
use crate::clock::Clock;

broker_config! {
    /// A broker in the memory of the process: messages are gone when it ends, and a topic without
    /// a consumer group keeps none. For tests, for development, and for news that may be lost.
    {
        /// Messages a group of a topic may have waiting; publishing more is refused as
        /// RESOURCE_EXHAUSTED. Default 100000.
        max_queued: usize = 100_000,
        /// Bytes of messages that may wait in all; publishing more is refused as
        /// RESOURCE_EXHAUSTED. Default 8388608 (8 MiB).
        max_queued_bytes: usize = 8 << 20,
    }
}

/// What a message costs besides its texts and its payload: the entry of a queue, the allocations.
const OVERHEAD: usize = 256;

/// A broker in memory.
pub struct Memory(Broker<Log>);

/// Messages in memory: queues share the one copy.
#[derive(Default)]
struct Log {
    topics: Topics<Arc<Kept>>,
    clock: Clock,
    last_id: AtomicU64,
    used: Arc<AtomicUsize>,
    limit: usize,
}

/// A message in memory, counted until the last queue is done with it.
struct Kept {
    message: Stored,
    size: usize,
    used: Arc<AtomicUsize>,
}

impl Kept {
    fn new(message: Stored, used: &Arc<AtomicUsize>, limit: usize) -> Result<Self> {
        let texts = message
            .metadata
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum::<usize>();
        let size = OVERHEAD + message.topic.len() + message.data.len() + texts;
        // Counted at once, so that a refusal takes its share back by being dropped.
        let kept = Self {
            message,
            size,
            used: Arc::clone(used),
        };
        if used.fetch_add(size, Ordering::Relaxed) + size > limit {
            let text = format!("messages of {limit} bytes wait for subscribers, the most that may");
            return Err(Error::new(ErrorKind::ResourceExhausted, text));
        }
        Ok(kept)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.used.fetch_sub(self.size, Ordering::Relaxed);
    }
}

impl Open for Memory {
    const TYPE: &'static str = "in-memory";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        let log = Arc::new(Log {
            limit: config.max_queued_bytes,
            ..Log::default()
        });
        let clock = log.clock.clone();
        let policy = Policy {
            max_queued: config.max_queued,
            ..config.policy(&cx.app_id)
        };
        Ok(Self(Broker::new(log, policy, clock, cx)))
    }
}

#[async_trait]
impl Journal for Log {
    async fn append(&self, mut message: Stored, times: Times, limit: usize) -> Result<u64> {
        // A copy: the payload may be a part of the request's buffer, which it would keep whole.
        message.data = Bytes::copy_from_slice(&message.data);
        let now = self.clock.now();
        let groups = self.topics.groups(&message.topic);
        let room = Room::make(&message.topic, &groups, (limit, now), |_, _| Ok::<(), Error>(()))?;
        let entry = Entry {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            attempts: 0,
            end: times.end,
            body: Arc::new(Kept::new(message, &self.used, self.limit)?),
        };
        room.fill(times.due.max(now), &entry);
        Ok(entry.id)
    }

    async fn group(&self, place: &Place, ephemeral: bool) -> Result<Arc<Queue<Self::Body>>> {
        Ok(match ephemeral {
            true => self.topics.ephemeral_queue(place),
            false => self.topics.queue(place),
        })
    }
}

#[async_trait]
impl Source for Log {
    type Body = Arc<Kept>;

    fn load(&self, entry: &Entry<Self::Body>) -> Result<Option<Stored>> {
        Ok(Some(entry.body.message.clone()))
    }

    async fn settle(&self, _: &Place, _: &Entry<Self::Body>) -> Result<()> {
        Ok(())
    }

    async fn note_failure(&self, _: &Place, _: &Entry<Self::Body>) -> Result<()> {
        Ok(())
    }

    async fn move_to(&self, to: &str, _: &Place, entry: &Entry<Self::Body>, limit: usize) -> Result<()> {
        let copy = Stored {
            topic: to.to_owned(),
            ..entry.body.message.clone()
        };
        self.append(copy, Times::default(), limit).await.map(drop)
    }

    async fn leave(&self, place: &Place) -> Result<()> {
        self.topics.remove(place);
        Ok(())
    }
}

#[async_trait]
impl Component for Memory {
    async fn close(&self) -> Result<()> {
        self.0.close();
        Ok(())
    }
}

#[async_trait]
impl PubSub for Memory {
    fn features(&self) -> Features {
        Features {
            message_ttl: true,
            delayed: true,
            durable: false,
            dead_letter: true,
        }
    }

    async fn publish(&self, message: Publish) -> Result<Option<String>> {
        self.0.publish(message).await
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        self.0.subscribe(subscribe).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Stored {
        Stored {
            topic: String::new(),
            data: vec![0; bytes].into(),
            metadata: Default::default(),
        }
    }

    #[test]
    fn messages_are_counted_until_they_are_gone() {
        let used = Arc::default();
        let limit = 2 * OVERHEAD + 100;
        let first = Kept::new(message(60), &used, limit).unwrap();
        let refused = Kept::new(message(41), &used, limit).map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ResourceExhausted);
        let second = Kept::new(message(40), &used, limit).unwrap();
        drop((first, second));
        assert_eq!(used.load(Ordering::Relaxed), 0);
    }
}
