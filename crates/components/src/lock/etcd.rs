//! Locks in etcd, in the layout of Go Layotto.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use layotto_core::{
    Component, Context, Error, Open, Result,
    lock::{Grant, LockStore, Owned, Status},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::standing;
use crate::client::etcd::{
    Client, Repeat, Settings, random_id, was_refused,
    wire::{Compare, DeleteRangeRequest, KeyValue, Operand, RangeRequest, RequestOp, TxnRequest},
};

/// How often a keep-alive looks again at a lock that changes under it.
const LOOKS: usize = 4;

/// Locks in etcd: one key with a lease for each lock that is held, the same as Go Layotto's, so
/// that sidecars of both kinds exclude each other. Grants have fencing tokens. etcd keeps a lease
/// for two seconds at least.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Config(pub Settings);

/// A lock store in etcd.
pub struct Etcd {
    client: Arc<Client>,
    prefix: String,
}

impl Open for Etcd {
    const TYPE: &'static str = "etcd";
    type Config = Config;

    async fn open(Config(settings): Config, cx: Context) -> Result<Self> {
        Ok(Self {
            client: Client::shared(&settings, "endpoints", &cx).await?,
            prefix: settings.prefix(),
        })
    }
}

impl Etcd {
    fn key(&self, lock: &Owned) -> Bytes {
        [self.prefix.as_str(), &lock.resource.0].concat().into()
    }

    async fn holder(&self, key: &Bytes) -> Result<Option<KeyValue>> {
        let found = self.client.range(RangeRequest::one(key.clone())).await?;
        Ok(found.kvs.into_iter().next())
    }

    /// Puts the key of a grant under a new lease, and so its end to `expire` from now. Returns
    /// whether the grant was still there.
    async fn move_to_new_lease(&self, held: &KeyValue, granted: i64, expire: Duration) -> Result<bool> {
        let lease = self.client.grant(expire.as_secs(), random_id).await?;
        if lease.granted() == granted {
            // Less than the nodes' least time: the lease there is has it already.
            return Ok(true);
        }
        let key = &held.key;
        let request = TxnRequest {
            compare: vec![
                Compare::equal(key.clone(), Operand::CreateRevision(held.create_revision)),
                Compare::equal(key.clone(), Operand::Lease(held.lease)),
            ],
            success: vec![RequestOp::put(key.clone(), held.value.clone(), lease.id())],
            failure: Vec::new(),
        };
        // From here on the key may be under it: it is not revoked when nobody waits any more.
        let new_lease = lease.keep();
        let outcome = self.client.txn(request, Repeat::Never).await;
        let unused = match &outcome {
            Ok(answer) if answer.succeeded => Some(held.lease),
            Err(error) if !was_refused(error) => None,
            _ => Some(new_lease),
        };
        if let Some(unused) = unused {
            self.client.revoke_later(unused);
        }
        Ok(outcome?.succeeded)
    }
}

#[async_trait]
impl Component for Etcd {
    async fn ping(&self) -> Result<()> {
        self.client.ping(&format!("{}ping", self.prefix)).await
    }
}

#[async_trait]
impl LockStore for Etcd {
    async fn try_lock(&self, lock: &Owned, expire: Duration) -> Result<Grant> {
        let key = self.key(lock);
        // A read costs the nodes next to nothing, a lease and its end two writes: those who try
        // for a lock that is held should not slow down the one who holds it.
        if self.holder(&key).await?.is_some() {
            return Ok(Grant::Busy);
        }
        // Dropped unless the lock is ours: then it is revoked, and with it a key that may have
        // been written without our knowing.
        let lease = self.client.grant(expire.as_secs(), random_id).await?;
        let request = TxnRequest {
            compare: vec![Compare::absent(key.clone())],
            success: vec![RequestOp::put(key.clone(), lock.owner.clone(), lease.id())],
            failure: vec![RangeRequest::one(key).into()],
        };
        // Safe to repeat: a key under our own lease is our own.
        let outcome = self.client.txn(request, Repeat::Safe).await?;
        let token = match outcome.found() {
            _ if outcome.succeeded => outcome.revision(),
            [held] if held.lease == lease.id() => held.create_revision,
            _ => return Ok(Grant::Busy),
        };
        lease.keep();
        Ok(Grant::Acquired {
            fencing_token: u64::try_from(token).ok(),
        })
    }

    async fn unlock(&self, lock: &Owned) -> Result<Status> {
        let key = self.key(lock);
        let removal = DeleteRangeRequest {
            prev_kv: true,
            ..DeleteRangeRequest::one(key.clone())
        };
        let owned = Operand::Value(lock.owner.clone().into());
        let request = TxnRequest {
            compare: vec![Compare::equal(key.clone(), owned)],
            success: vec![removal.into()],
            failure: vec![RangeRequest::one(key).into()],
        };
        let outcome = self.client.txn(request, Repeat::Never).await?;
        let held = outcome.found().first();
        if !outcome.succeeded {
            return Ok(held.map_or(Status::Unexist, |_| Status::BelongsToOthers));
        }
        if let Some(lease) = held.map(|held| held.lease).filter(|lease| *lease != 0) {
            self.client.revoke_later(lease);
        }
        Ok(Status::Success)
    }

    async fn keep_alive(&self, lock: &Owned, expire: Duration) -> Result<(Status, Option<u64>)> {
        let key = self.key(lock);
        for _ in 0..LOOKS {
            let held = self.holder(&key).await?;
            let owner = held.as_ref().map(|held| String::from_utf8_lossy(&held.value));
            let status = standing(owner.as_deref(), &lock.owner);
            let Some(held) = held.filter(|_| status == Status::Success) else {
                return Ok((status, None));
            };
            let token = u64::try_from(held.create_revision).ok();
            // A key without a lease was written by nobody's lock, but by its owner's name.
            let granted = match held.lease {
                0 => Some(0),
                lease => self.client.keep_alive(lease).await?,
            };
            // The lease ended, or another keep-alive put the key under a new one.
            let Some(granted) = granted else { continue };
            let is_as_wanted = u64::try_from(granted) == Ok(expire.as_secs());
            if is_as_wanted || self.move_to_new_lease(&held, granted, expire).await? {
                return Ok((Status::Success, token));
            }
        }
        Err(Error::unavailable("the lock changed hands while it was extended"))
    }
}

#[cfg(test)]
mod tests;
