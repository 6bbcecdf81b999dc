//! A broker in the memory of the process.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use layotto_core::{
    Component, Context, Error, Open, Result,
    pubsub::{Features, PubSub, Publish, Subscribe, Subscription},
};

use super::{
    broker::{Broker, Journal, Stored, Times},
    policy::broker_config,
    queue::{Entry, Place, Queue, Room, Topics},
};
use crate::clock::Clock;

broker_config! {
    /// A broker in the memory of the process: messages are gone when it ends, and a topic without
    /// a consumer group keeps none. For tests, for development, and for news that may be lost.
    {}
}

/// A broker in memory.
pub struct Memory(Broker<Log>);

/// Messages in memory: queues share the one copy.
#[derive(Default)]
struct Log {
    topics: Topics<Arc<Stored>>,
    clock: Clock,
    last_id: AtomicU64,
}

impl Open for Memory {
    const TYPE: &'static str = "in-memory";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        let log = Arc::new(Log::default());
        let clock = log.clock.clone();
        Ok(Self(Broker::new(log, config.policy(&cx.app_id), clock, cx)))
    }
}

#[async_trait]
impl Journal for Log {
    type Body = Arc<Stored>;

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
            body: Arc::new(message),
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

    async fn leave(&self, place: &Place) -> Result<()> {
        self.topics.remove(place);
        Ok(())
    }

    fn load(&self, entry: &Entry<Self::Body>) -> Result<Option<Stored>> {
        Ok(Some(Stored::clone(&entry.body)))
    }

    async fn settle(&self, _: &Place, _: u64) -> Result<()> {
        Ok(())
    }

    async fn note_failure(&self, _: &Place, _: &Entry<Self::Body>) -> Result<()> {
        Ok(())
    }

    async fn move_to(&self, to: &str, _: &Place, entry: &Entry<Self::Body>, limit: usize) -> Result<()> {
        let copy = Stored {
            topic: to.to_owned(),
            ..Stored::clone(&entry.body)
        };
        self.append(copy, Times::default(), limit).await.map(drop)
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
