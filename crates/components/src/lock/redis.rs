//! Locks in Redis.

pub(super) mod lease;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Open, Result,
    lock::{Grant, LockStore, Owned, Status},
};

use self::lease::Leases;
use crate::client::redis::{Redis as Client, settings};

settings! {
    /// Locks in a Redis server, shared with sidecars of Layotto in Go. They are as safe as the
    /// server: one that loses its memory, or a replica that takes over before it heard of a lock,
    /// grants it again; what the lock protects finds that out by the fencing token.
    pub struct Config {}
}

/// A lock store in Redis: a text that holds the owner and ends with the lease, and beside it what
/// fencing tokens come from.
pub struct Redis {
    client: Arc<Client>,
    leases: Leases,
}

impl Open for Redis {
    const TYPE: &'static str = "redis";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        Ok(Self {
            client: Client::shared(config.given(&cx).connection(&cx)?, &cx).await?,
            leases: Leases::default(),
        })
    }
}

#[async_trait]
impl Component for Redis {
    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }
}

#[async_trait]
impl LockStore for Redis {
    async fn try_lock(&self, lock: &Owned, expire: Duration) -> Result<Grant> {
        // Nobody takes this grant back but by its owner's name.
        let token = self.leases.take(&self.client, lock, expire, "").await?;
        Ok(token.map_or(Grant::Busy, |token| Grant::Acquired {
            fencing_token: Some(token),
        }))
    }

    async fn unlock(&self, lock: &Owned) -> Result<Status> {
        self.leases.release(&self.client, lock).await
    }

    async fn keep_alive(&self, lock: &Owned, expire: Duration) -> Result<(Status, Option<u64>)> {
        self.leases.extend(&self.client, lock, expire).await
    }
}

#[cfg(test)]
mod tests;
