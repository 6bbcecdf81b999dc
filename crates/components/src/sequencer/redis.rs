//! Ids from Redis.

use std::{ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Metadata, Open, Result,
    key_prefix::PrefixedKey,
    sequencer::{BiggerThan, Features, Sequencer},
};
use redis::{Cmd, Value};

use super::exhausted;
use crate::client::redis::{Call, Redis as Client, Script, settings, unexpected};

/// Raises a counter to the bound. Both are compared as texts: Lua's numbers have 53 bits.
const RAISE: &str = r"
local last, bound = redis.call('GET', KEYS[1]), ARGV[1]
if last and string.sub(last, 1, 1) ~= '-' and (#last > #bound or #last == #bound and last >= bound) then
  return 0
end
redis.call('SET', KEYS[1], bound)
return 1
";

settings! {
    /// Ids counted by a Redis server, shared with sidecars of Layotto in Go. Weak ids are taken in
    /// segments. An id is as unique as the server is durable: one that loses its last writes, or a
    /// replica that takes over without them, hands ids out again.
    pub struct Config {}
}

/// A sequencer in Redis: a counter for each key.
pub struct Redis {
    client: Arc<Client>,
    raise: Script,
}

impl Open for Redis {
    const TYPE: &'static str = "redis";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        Ok(Self {
            client: Client::shared(config.given(&cx).connection(&cx)?, &cx).await?,
            raise: Script::new(RAISE),
        })
    }
}

impl Redis {
    async fn count(&self, key: &PrefixedKey, by: u32) -> Result<i64> {
        let mut command = Cmd::with_capacity(3, key.0.len() + 20);
        command.arg("INCRBY").arg(&key.0).arg(by);
        match self.client.run(&key.0, &command).await {
            Ok(Value::Int(last)) => Ok(last),
            Ok(other) => Err(unexpected(&other)),
            Err(error) if error.message().ends_with("would overflow") => Err(exhausted()),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Component for Redis {
    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }
}

#[async_trait]
impl Sequencer for Redis {
    fn features(&self) -> Features {
        Features { segments: true }
    }

    async fn next_id(&self, key: &PrefixedKey, _: &Metadata) -> Result<i64> {
        self.count(key, 1).await
    }

    async fn segment(&self, key: &PrefixedKey, size: u32) -> Result<RangeInclusive<i64>> {
        if size == 0 {
            return super::following(0, 0);
        }
        let last = self.count(key, size).await?;
        Ok(last - i64::from(size) + 1..=last)
    }

    async fn ensure_bigger_than(&self, bounds: &BiggerThan) -> Result<()> {
        // Ids are greater than 0 anyway.
        let bounds = bounds.iter().filter(|(_, bound)| **bound > 0);
        let bounds: Vec<_> = bounds.map(|(key, bound)| (&key.0, bound.to_string())).collect();
        let calls = bounds.iter().map(|(key, bound)| Call {
            script: &self.raise,
            keys: vec![key],
            arguments: vec![bound.as_bytes()],
        });
        let raised = self.client.call_each(&calls.collect::<Vec<_>>()).await;
        raised.into_iter().try_for_each(|raised| raised.map(drop))
    }
}
