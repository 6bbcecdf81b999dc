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
        Ok(Self {
            leases: Expiring::open(Clock::default(), &cx),
            last_token: AtomicU64::new(0),
        })
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
        let token = lease.map(|lease| lease.token).filter(|_| status == Status::Success);
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

#[cfg(test)]
mod tests {
    use layotto_core::key_prefix::PrefixedKey;

    use super::*;

    const LEASE: Duration = Duration::from_secs(2);

    async fn open() -> Memory {
        Memory::open(Config {}, Context::standalone("test", ".")).await.unwrap()
    }

    fn by(owner: &str) -> Owned {
        Owned {
            resource: PrefixedKey("r".to_owned()),
            owner: owner.to_owned(),
        }
    }

    fn token(grant: Grant) -> u64 {
        match grant {
            Grant::Acquired { fencing_token } => fencing_token.unwrap(),
            Grant::Busy => panic!("busy"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_lock_is_busy_for_everyone_until_its_lease_ends() {
        let locks = open().await;
        let first = token(locks.try_lock(&by("a"), LEASE).await.unwrap());
        for owner in ["a", "b"] {
            assert_eq!(locks.try_lock(&by(owner), LEASE).await.unwrap(), Grant::Busy);
        }
        tokio::time::advance(LEASE).await;
        assert_eq!(locks.unlock(&by("a")).await.unwrap(), Status::Unexist);
        let second = token(locks.try_lock(&by("b"), LEASE).await.unwrap());
        assert!(second > first);
        assert_eq!(locks.unlock(&by("a")).await.unwrap(), Status::BelongsToOthers);
        assert_eq!(locks.unlock(&by("b")).await.unwrap(), Status::Success);
        assert_eq!(locks.unlock(&by("b")).await.unwrap(), Status::Unexist);
    }

    #[tokio::test(start_paused = true)]
    async fn keeping_alive_extends_the_lease_and_keeps_the_token() {
        let locks = open().await;
        let granted = token(locks.try_lock(&by("a"), LEASE).await.unwrap());
        tokio::time::advance(LEASE / 2).await;
        let kept = locks.keep_alive(&by("a"), LEASE).await.unwrap();
        assert_eq!(kept, (Status::Success, Some(granted)));
        assert_eq!(
            locks.keep_alive(&by("b"), LEASE).await.unwrap(),
            (Status::BelongsToOthers, None)
        );
        tokio::time::advance(LEASE * 3 / 4).await;
        assert_eq!(locks.try_lock(&by("b"), LEASE).await.unwrap(), Grant::Busy);
        tokio::time::advance(LEASE / 4).await;
        assert_eq!(locks.keep_alive(&by("a"), LEASE).await.unwrap(), (Status::Unexist, None));
    }

    #[tokio::test(start_paused = true)]
    async fn abandoned_locks_take_no_memory_for_long() {
        let locks = open().await;
        for n in 0..1000 {
            let mut lock = by("a");
            lock.resource.0 = n.to_string();
            token(locks.try_lock(&lock, LEASE).await.unwrap());
        }
        assert_eq!(locks.leases.occupied(), 1000);
        tokio::time::sleep(LEASE * 2).await;
        assert_eq!(locks.leases.occupied(), 0);
    }
}
