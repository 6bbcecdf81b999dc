//! State in etcd, in a layout of our own: Go Layotto keeps none there.
//!
//! | key | value |
//! |---|---|
//! | `<prefix>state/<key>` | the bytes as they were given |
//!
//! The etag is the key's mod revision. An item with a time to live has a lease of its
//! own, whose id tells when it ends.

mod expiry;
mod plan;

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use layotto_core::{
    Component, Context, Error, Metadata, Open, Result,
    state::{Consistency, Delete, Features, Get, Item, Operation, Set, StateStore},
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::plan::Plan;
use super::change::{self, Action, Change};
use crate::client::etcd::{
    Client, Lease, Repeat, Settings, was_refused,
    wire::{KeyValue, RangeRequest, Response, ResponseOp, TxnRequest, TxnResponse},
};

/// The most operations of one transaction, as etcd has it by default.
const OPERATIONS: usize = 128;
/// Writes of a bulk that go into one transaction.
const BULK: usize = 64;
/// The most bytes of a bulk that go into one transaction, unless one value alone has more: etcd
/// takes 1.5 MiB.
const BULK_BYTES: usize = 1 << 20;
/// Leases asked for at once.
const GRANTS: usize = 16;

/// State in etcd, in a layout of our own. For state that a cluster must agree on and that is read
/// more often than written: each write is agreed on by a majority of the nodes, values have 1.5 MiB
/// at most, and all of it fits into the nodes' memory.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Config(pub Settings);

/// A state store in etcd.
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
            prefix: format!("{}state/", settings.prefix()),
        })
    }
}

/// What became of one write.
struct Written {
    allowed: bool,
    /// The lease of what was there before.
    old_lease: i64,
}

impl Etcd {
    fn key(&self, key: &str) -> Bytes {
        [self.prefix.as_str(), key].concat().into()
    }

    /// Writes what is allowed of `changes`, which have different keys, in one transaction; each
    /// alone.
    async fn write_each(&self, changes: &[Change]) -> Result<Vec<Written>> {
        let plans = self.plans(changes)?;
        self.commit(changes, plans, |plans| TxnRequest {
            success: plans.into_iter().map(|plan| plan.alone().into()).collect(),
            ..TxnRequest::default()
        })
        .await
    }

    /// Writes all `changes`, which have different keys, in one transaction, or none.
    async fn write_all(&self, changes: &[Change]) -> Result<Vec<Written>> {
        let plans = self.plans(changes)?;
        let conditions = plans.iter().filter(|plan| plan.condition.is_some()).count();
        // Every level of a transaction within another has what the levels above leave of etcd's
        // limit, which is for the greatest of conditions and operations of a level.
        let outer = conditions.max(OPERATIONS / 2);
        let inner = OPERATIONS.saturating_sub(outer) / plan::OPERATIONS;
        if changes.len() > outer * inner {
            let text = format!(
                "a transaction of {} keys, {conditions} of them with a condition, is too large for etcd",
                changes.len()
            );
            return Err(Error::invalid(text));
        }
        self.commit(changes, plans, |plans| plan::together(plans, inner))
            .await
    }

    fn plans(&self, changes: &[Change]) -> Result<Vec<Plan>> {
        changes
            .iter()
            .map(|change| Plan::new(self.key(change.key()), change))
            .collect()
    }

    async fn commit(
        &self,
        changes: &[Change],
        mut plans: Vec<Plan>,
        transaction: impl FnOnce(Vec<Plan>) -> TxnRequest,
    ) -> Result<Vec<Written>> {
        let leases = self.leases(changes).await?;
        for (plan, lease) in plans.iter_mut().zip(&leases) {
            plan.lease = lease.as_ref().map_or(0, Lease::id);
        }
        // From here on the leases may hold values: they are not revoked when nobody waits any more.
        let leases: Vec<_> = leases
            .into_iter()
            .map(|lease| lease.map_or(0, Lease::keep))
            .collect();
        let outcome = self.client.txn(transaction(plans), Repeat::Never).await;
        let written = match &outcome {
            Ok(answer) => written(answer, changes.len()),
            Err(error) if was_refused(error) => Vec::new(),
            Err(_) => return outcome.map(|_| Vec::new()),
        };
        for (index, new_lease) in leases.into_iter().enumerate() {
            let unused = match written.get(index) {
                Some(Written {
                    allowed: true,
                    old_lease,
                }) => *old_lease,
                _ => new_lease,
            };
            if expiry::is_ours(unused) {
                self.client.revoke_later(unused);
            }
        }
        outcome.map(|_| written)
    }

    /// A lease for each change that needs one.
    async fn leases(&self, changes: &[Change]) -> Result<Vec<Option<Lease>>> {
        let times: Vec<_> = changes
            .iter()
            .map(|change| match change.action() {
                Action::Put { ttl, .. } => *ttl,
                Action::Remove => None,
            })
            .collect();
        let grants = stream::iter(times).map(|ttl| async move {
            match ttl {
                Some(ttl) => {
                    let grant = self.client.grant(ttl.as_secs(), || expiry::lease_id(ttl));
                    grant.await.map(Some)
                }
                None => Ok(None),
            }
        });
        grants.buffered(GRANTS).try_collect().await
    }

    async fn write_one(&self, change: Change) -> Result<()> {
        let written = self.write_each(&[change]).await?;
        match written.first() {
            Some(Written { allowed: true, .. }) => Ok(()),
            _ => Err(change::conflict()),
        }
    }

    async fn write_bulk(&self, changes: Vec<Change>) -> Result<()> {
        let mut refused = Vec::new();
        for part in parted(&changes) {
            let written = self.write_each(part).await?;
            for (change, _) in part.iter().zip(written).filter(|(_, written)| !written.allowed) {
                refused.push((change.key(), change::conflict()));
            }
        }
        change::summary(&refused)
    }
}

/// Parts changes, in their order, into those that one transaction can make.
fn parted(changes: &[Change]) -> Vec<&[Change]> {
    let mut parts = Vec::new();
    let mut rest = changes;
    while !rest.is_empty() {
        let (mut keys, mut bytes) = (HashSet::new(), 0);
        let fit = rest.iter().take(BULK).take_while(|change| {
            bytes += match change.action() {
                Action::Put { value, .. } => value.len(),
                Action::Remove => 0,
            };
            let is_first = keys.is_empty();
            keys.insert(change.key()) && (bytes <= BULK_BYTES || is_first)
        });
        let (part, others) = rest.split_at(fit.count());
        parts.push(part);
        rest = others;
    }
    parts
}

/// What became of each of the `count` writes of a transaction.
fn written(answer: &TxnResponse, count: usize) -> Vec<Written> {
    if !answer.succeeded {
        return Vec::new();
    }
    let mut found = Vec::with_capacity(count);
    for one in &answer.responses {
        match &one.response {
            Some(Response::Txn(one)) if one.succeeded => {
                found.extend(
                    one.responses
                        .iter()
                        .filter_map(old_lease)
                        .map(|old_lease| Written {
                            allowed: true,
                            old_lease,
                        }),
                );
            }
            _ => found.push(Written {
                allowed: false,
                old_lease: 0,
            }),
        }
    }
    found
}

/// The lease of what a write found, from its reading operation.
fn old_lease(one: &ResponseOp) -> Option<i64> {
    match &one.response {
        Some(Response::Range(range)) => Some(range.kvs.first().map_or(0, |found| found.lease)),
        _ => None,
    }
}

fn item(found: KeyValue) -> Item {
    let etag = u64::try_from(found.mod_revision).unwrap_or_default();
    change::item(found.value, etag, expiry::end_of(found.lease))
}

#[async_trait]
impl Component for Etcd {
    async fn ping(&self) -> Result<()> {
        self.client.ping(&format!("{}ping", self.prefix)).await
    }
}

#[async_trait]
impl StateStore for Etcd {
    fn features(&self) -> Features {
        Features {
            etag: true,
            transactional: true,
            ttl: true,
        }
    }

    async fn get(&self, request: &Get) -> Result<Option<Item>> {
        let request = RangeRequest {
            serializable: request.consistency == Consistency::Eventual,
            ..RangeRequest::one(self.key(&request.key.0))
        };
        let found = self.client.range(request).await?;
        Ok(found.kvs.into_iter().next().map(item))
    }

    async fn set(&self, request: Set) -> Result<()> {
        self.write_one(Change::set(request)?).await
    }

    async fn delete(&self, request: Delete) -> Result<()> {
        self.write_one(Change::delete(request)).await
    }

    async fn bulk_get(&self, requests: Vec<Get>, _: usize) -> Result<Vec<Result<Option<Item>>>> {
        let mut items = Vec::with_capacity(requests.len());
        for requests in requests.chunks(OPERATIONS) {
            let serializable = requests
                .iter()
                .all(|request| request.consistency == Consistency::Eventual);
            let ranges = requests.iter().map(|request| RangeRequest {
                serializable,
                ..RangeRequest::one(self.key(&request.key.0))
            });
            let answer = self.client.read(ranges.collect()).await?;
            items.extend(answer.responses.into_iter().map(|one| match one.response {
                Some(Response::Range(range)) => Ok(range.kvs.into_iter().next().map(item)),
                _ => Err(Error::internal("etcd: a read was answered with something else")),
            }));
        }
        Ok(items)
    }

    async fn bulk_set(&self, requests: Vec<Set>) -> Result<()> {
        let changes = requests.into_iter().map(Change::set).collect::<Result<_>>()?;
        self.write_bulk(changes).await
    }

    async fn bulk_delete(&self, requests: Vec<Delete>) -> Result<()> {
        self.write_bulk(requests.into_iter().map(Change::delete).collect())
            .await
    }

    async fn transact(&self, operations: Vec<Operation>, _: &Metadata) -> Result<()> {
        let changes = operations
            .into_iter()
            .map(Change::operation)
            .collect::<Result<_>>()?;
        let changes = change::fold(changes)?;
        if changes.is_empty() {
            return Ok(());
        }
        let written = self.write_all(&changes).await?;
        match written.is_empty() {
            true => Err(change::conflict()),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
