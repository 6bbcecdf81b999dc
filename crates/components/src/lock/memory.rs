//! Locks in the memory of the process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Open, Result,
    lock::{Grant, LockStore, Owned, Status},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::standing;
use crate::{clock::Clock, expiring::Expiring};

/// Locks in the memory of the process: they exclude only callers of this one process, and are
/// gone when it ends. For tests and development.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {}

/// A lock store in memory.
pub struct Memory {
    leases: Arc<Expiring<Lease>>,
    // One counter for all resources: a resource that nobody holds takes no memory, and its tokens
    // still never go back.
    last_token: AtomicU64,
}

struct Lease {
    owner: String,
    token: u64,
}

impl Open for Memory {
    const TYPE: &'static str = "in-memory";
    type Config = Config;

    async fn open(_: Config, cx: Context) -> Result<Self> {
        Ok(Self::with_clock(Clock::default(), &cx))
    }
}

impl Memory {
    pub(super) fn with_clock(clock: Clock, cx: &Context) -> Self {
        Self {
            leases: Expiring::open(clock, cx),
            last_token: AtomicU64::new(0),
        }
    }
}

impl Component for Memory {}

#[async_trait]
impl LockStore for Memory {
    async fn try_lock(&self, lock: &Owned, expire: Duration) -> Result<Grant> {
        let (resource, clock) = (&lock.resource.0, self.leases.clock());
        let mut shard = self.leases.hold_key(resource);
        if shard.get(resource, clock).is_some() {
            return Ok(Grant::Busy);
        }
        let token = self.last_token.fetch_add(1, Ordering::Relaxed) + 1;
        let lease = Lease {
            owner: lock.owner.clone(),
            token,
        };
        shard.put(resource, lease, clock.after(expire));
        Ok(Grant::Acquired {
            fencing_token: Some(token),
        })
    }

    async fn unlock(&self, lock: &Owned) -> Result<Status> {
        let resource = &lock.resource.0;
        let mut shard = self.leases.hold_key(resource);
        let lease = shard.get(resource, self.leases.clock());
        let status = standing(lease.map(|lease| lease.value.owner.as_str()), &lock.owner);
        if status == Status::Success {
            shard.remove(resource);
        }
        Ok(status)
    }

    async fn keep_alive(&self, lock: &Owned, expire: Duration) -> Result<(Status, Option<u64>)> {
        let (resource, clock) = (&lock.resource.0, self.leases.clock());
        let mut shard = self.leases.hold_key(resource);
        let lease = shard.get(resource, clock).map(|lease| &lease.value);
        let status = standing(lease.map(|lease| lease.owner.as_str()), &lock.owner);
        let token = lease
            .map(|lease| lease.token)
            .filter(|_| status == Status::Success);
        if let Some(token) = token {
            let lease = Lease {
                owner: lock.owner.clone(),
                token,
            };
            shard.put(resource, lease, clock.after(expire));
        }
        Ok((status, token))
    }
}
