//! A broker in Redis: an event is an entry of a stream, a subscription a seat in a consumer group.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Open, Result,
    pubsub::{Features, PubSub, Publish, Subscribe, Subscription},
};

use self::{
    delay::Delays,
    groups::{Groups, Setup},
    scripts::Scripts,
    stream::Streams,
};
use super::{
    broker::delay,
    delivery::Seeking,
    policy::{Policy, broker_config},
};
use crate::client::redis::{Redis as Client, settings::Span};

mod delay;
mod entry;
mod groups;
mod hand;
mod keeper;
mod member;
mod reader;
mod scripts;
mod source;
mod stream;
#[cfg(test)]
mod tests;

broker_config! {
    over redis
    /// A broker in the streams of a Redis server, in the layout of Layotto in Go and of Dapr, so that
    /// their sidecars can share it. An event that fails holds up no other. How much a crash of the
    /// server may lose is up to its persistence.
    {
        /// How long an event may be with a consumer that shows no sign of life before another one of
        /// the group takes it over: milliseconds, or a text such as `60s`; `0`: for ever. All sidecars
        /// of a group should have the same. Default `60s`.
        processing_timeout: Span = Span(Duration::from_secs(60)),
        /// How often such events are looked for: milliseconds, or a text such as `15s`; `0`: never.
        /// Default `15s`.
        redeliver_interval: Span = Span(Duration::from_secs(15)),
        /// Events of a topic and group that are read ahead of their handlers. Default 100.
        queue_depth: usize = 100,
        /// About how many events a topic keeps, handled or not; older ones are removed when one is
        /// published. 0: all of them. Default 0.
        max_len_approx: u64 = 0,
    }
}

impl Config {
    fn handling(&self) -> Duration {
        self.ack_deadline
            .map_or(self.processing_timeout.0, |deadline| deadline.0)
    }
}

/// A broker in Redis.
pub struct Redis {
    streams: Arc<Streams>,
    groups: Groups,
    delays: Arc<Delays>,
    policy: Policy,
}

impl Open for Redis {
    const TYPE: &'static str = "redis";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        let client = Client::shared(config.given(&cx).connection(&cx)?, &cx).await?;
        let streams = Arc::new(Streams {
            client,
            scripts: Scripts::default(),
            max_len: config.max_len_approx,
        });
        let stop = cx.shutdown.child_token();
        let delays = Arc::new(Delays::new(Arc::clone(&streams), stop.clone(), cx.tasks.clone()));
        let setup = Setup {
            streams: Arc::clone(&streams),
            delays: Arc::clone(&delays),
            silence: config.processing_timeout.0,
            looks: config.redeliver_interval.0,
            depth: config.queue_depth.max(1),
        };
        Ok(Self {
            streams,
            groups: Groups::new(setup, stop, cx.tasks.clone()),
            delays,
            policy: config.policy(&cx.app_id),
        })
    }
}

#[async_trait]
impl Component for Redis {
    async fn ping(&self) -> Result<()> {
        self.streams.client.ping().await
    }

    async fn close(&self) -> Result<()> {
        self.groups.close();
        Ok(())
    }
}

#[async_trait]
impl PubSub for Redis {
    fn features(&self) -> Features {
        Features {
            message_ttl: false,
            delayed: true,
            durable: true,
            dead_letter: true,
        }
    }

    async fn publish(&self, message: Publish) -> Result<Option<String>> {
        let Publish {
            topic,
            data,
            metadata,
        } = message;
        match delay(&metadata)? {
            None => self.streams.add(&topic, &data).await.map(Some),
            // It gets its id when it is due.
            Some(delay) => self.delays.add(&topic, &data, delay).await.map(|()| None),
        }
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        let seeking = Seeking::new(subscribe, &self.policy)?;
        self.groups.subscribe(seeking).await
    }
}
