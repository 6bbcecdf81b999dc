//! A broker in the embedded store.

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Open, Result,
    pubsub::{Features, PubSub, Publish, Subscribe, Subscription},
};

use self::log::Log;
use super::{
    broker::Broker,
    policy::{Policy, broker_config},
};
use crate::client::embedded::{Durability, Store, StorePath};

mod log;

broker_config! {
    /// A broker in a file of the process: a message is safe once it is published, and waits over
    /// restarts until its groups are done with it. For one process on one machine. A group is
    /// remembered for ever and collects messages while nobody subscribes for it, up to `maxQueued`.
    {
        /// Messages a group of a topic may have waiting; publishing more is refused as
        /// RESOURCE_EXHAUSTED. Default 100000.
        max_queued: usize = 100_000,
        /// The store's file, relative to the data directory. Components that name the same file
        /// share it, and so their topics. Default `layotto.db`.
        path: StorePath = StorePath::default(),
        /// When publishing is answered: `fsync`, when the message is on the disk; `os`, when the
        /// operating system has it. Components that share a file get the strictest of theirs.
        /// Default `fsync`.
        durability: Durability = Durability::default(),
    }
}

/// A broker in the embedded store.
pub struct Embedded(Broker<Log>);

impl Open for Embedded {
    const TYPE: &'static str = "embedded";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        let store = Store::shared(&config.path, config.durability, &cx).await?;
        let target = store.path().display().to_string();
        let clock = store.clock().clone();
        // Shared like the store: components of one file hand out each message once per group.
        let log = cx
            .shared
            .get_or_open(&target, async || Log::open(store).await)
            .await?;
        let policy = Policy {
            max_queued: config.max_queued,
            ..config.policy(&cx.app_id)
        };
        Ok(Self(Broker::new(log, policy, clock, cx)))
    }
}

#[async_trait]
impl Component for Embedded {
    async fn ping(&self) -> Result<()> {
        self.0.journal().check()
    }

    async fn close(&self) -> Result<()> {
        self.0.close();
        Ok(())
    }
}

#[async_trait]
impl PubSub for Embedded {
    fn features(&self) -> Features {
        Features {
            message_ttl: true,
            delayed: true,
            durable: true,
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
