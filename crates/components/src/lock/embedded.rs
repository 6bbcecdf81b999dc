//! Locks in the embedded store.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Open, Result,
    lock::{Grant, LockStore, Owned, Status},
};
use redb::{ReadableTable, WriteTransaction};
use schemars::JsonSchema;
use serde::Deserialize;

use super::standing;
use crate::{
    client::embedded::{self, Durability, Effect, Failure, LOCK, LOCK_END, Store, StorePath},
    clock::{Millis, is_over},
};

/// Locks in a file of the process. They exclude the callers of this one process, and outlive a
/// restart: a lease keeps running, and fencing tokens never repeat. For one process on one machine.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// The store's file, relative to the data directory. Components that name the same file share
    /// it, and so their locks. Default `layotto.db`.
    pub path: StorePath,
    /// When a grant is answered: `fsync`, when it is on the disk; `os`, when the operating system
    /// has it. Components that share a file get the strictest of theirs. Default `fsync`.
    pub durability: Durability,
}

/// A lock store in the embedded store.
pub struct Embedded {
    pub(super) store: Arc<Store>,
}

#[derive(Debug)]
struct Lease {
    owner: String,
    token: u64,
    end: Millis,
}

impl Open for Embedded {
    const TYPE: &'static str = "embedded";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        let store = Store::shared(&config.path, config.durability, &cx).await?;
        Ok(Self { store })
    }
}

impl Embedded {
    /// What the last commit says of `resource`: an answer that needs no writer where the lock is
    /// somebody else's.
    fn glance(&self, resource: &str) -> Result<Option<Lease>> {
        let now = self.store.clock().now();
        self.store
            .read(|tx| Ok(running(&tx.open_table(LOCK)?, resource, now)?))
    }
}

fn running(
    table: &impl ReadableTable<&'static str, (&'static str, u64, Millis)>,
    resource: &str,
    now: Millis,
) -> Result<Option<Lease>, redb::StorageError> {
    let Some(row) = table.get(resource)? else {
        return Ok(None);
    };
    let (owner, token, end) = row.value();
    Ok((!is_over(end, now)).then(|| Lease {
        owner: owner.to_owned(),
        token,
        end,
    }))
}

fn write(tx: &WriteTransaction, resource: &str, lease: &Lease) -> Result<(), Failure> {
    remove(tx, resource)?;
    let row = (lease.owner.as_str(), lease.token, lease.end);
    tx.open_table(LOCK)?.insert(resource, row)?;
    tx.open_table(LOCK_END)?.insert((lease.end, resource), ())?;
    Ok(())
}

fn remove(tx: &WriteTransaction, resource: &str) -> Result<(), Failure> {
    let mut locks = tx.open_table(LOCK)?;
    if let Some(row) = locks.remove(resource)? {
        tx.open_table(LOCK_END)?.remove((row.value().2, resource))?;
    }
    Ok(())
}

#[async_trait]
impl Component for Embedded {
    async fn ping(&self) -> Result<()> {
        self.store.check()
    }
}

#[async_trait]
impl LockStore for Embedded {
    async fn try_lock(&self, lock: &Owned, expire: Duration) -> Result<Grant> {
        if self.glance(&lock.resource.0)?.is_some() {
            return Ok(Grant::Busy);
        }
        let (lock, clock) = (lock.clone(), self.store.clock().clone());
        let grant = move |tx: &WriteTransaction| {
            let resource = &lock.resource.0;
            if running(&tx.open_table(LOCK)?, resource, clock.now())?.is_some() {
                return Ok((Grant::Busy, Effect::None));
            }
            let token = embedded::count(tx, "fence")?;
            let lease = Lease {
                owner: lock.owner,
                token,
                end: clock.after(expire),
            };
            write(tx, resource, &lease)?;
            let fencing_token = Some(token);
            Ok((Grant::Acquired { fencing_token }, Effect::Durable))
        };
        self.store.write(grant).await
    }

    async fn unlock(&self, lock: &Owned) -> Result<Status> {
        let (lock, clock) = (lock.clone(), self.store.clock().clone());
        let release = move |tx: &WriteTransaction| {
            let lease = running(&tx.open_table(LOCK)?, &lock.resource.0, clock.now())?;
            let status = standing(lease.as_ref().map(|lease| lease.owner.as_str()), &lock.owner);
            if status != Status::Success {
                return Ok((status, Effect::None));
            }
            remove(tx, &lock.resource.0)?;
            Ok((status, Effect::Durable))
        };
        self.store.write(release).await
    }

    async fn keep_alive(&self, lock: &Owned, expire: Duration) -> Result<(Status, Option<u64>)> {
        let (lock, clock) = (lock.clone(), self.store.clock().clone());
        let extend = move |tx: &WriteTransaction| {
            let lease = running(&tx.open_table(LOCK)?, &lock.resource.0, clock.now())?;
            let status = standing(lease.as_ref().map(|lease| lease.owner.as_str()), &lock.owner);
            let Some(mut lease) = lease.filter(|_| status == Status::Success) else {
                return Ok(((status, None), Effect::None));
            };
            lease.end = clock.after(expire);
            write(tx, &lock.resource.0, &lease)?;
            Ok(((status, Some(lease.token)), Effect::Durable))
        };
        self.store.write(extend).await
    }
}
