//! State in the memory of the process.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use layotto_core::{
    Component, Context, Error, Metadata, Open, Result,
    state::{Delete, Features, Get, Item, Operation, Set, StateStore},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::change::{self, Change, Rows};
use crate::{
    clock::Clock,
    expiring::{Expiring, Shard},
};

/// State in the memory of the process, gone when it ends. For tests, for development, and for
/// caches that may start empty; needs nothing outside of the process.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {}

/// A state store in memory.
pub struct Memory {
    rows: Arc<Expiring<Row>>,
    // One counter for all keys, so that a key made again never gets an etag it had before.
    last_etag: AtomicU64,
}

struct Row {
    value: Bytes,
    etag: u64,
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
            rows: Expiring::open(clock, cx),
            last_etag: AtomicU64::new(0),
        }
    }

    fn read(&self, key: &str) -> Option<Item> {
        let shard = self.rows.hold_key(key);
        let entry = shard.get(key, self.rows.clock())?;
        Some(change::item(
            entry.value.value.clone(),
            entry.value.etag,
            entry.end,
        ))
    }

    /// Takes hold of the rows of all `changes`.
    fn hold(&self, changes: &[Change]) -> Held<'_> {
        let mut shards = BTreeMap::new();
        for change in changes {
            shards.insert(self.rows.shard_of(change.key()), ());
        }
        Held {
            store: self,
            shards: shards
                .into_keys()
                .map(|shard| (shard, self.rows.hold(shard)))
                .collect(),
        }
    }

    fn make(&self, change: Change) -> Result<()> {
        let changes = [change];
        let [change] = &changes;
        change::make(change, &mut self.hold(&changes))
    }

    fn make_each(&self, changes: &[Change]) -> Result<()> {
        change::make_each(changes, &mut self.hold(changes))?
    }
}

/// Shards held while their rows are changed.
struct Held<'a> {
    store: &'a Memory,
    shards: BTreeMap<usize, MutexGuard<'a, Shard<Row>>>,
}

impl Held<'_> {
    fn shard(&self, key: &str) -> &Shard<Row> {
        &self.shards[&self.store.rows.shard_of(key)]
    }

    fn shard_mut(&mut self, key: &str) -> &mut Shard<Row> {
        self.shards
            .get_mut(&self.store.rows.shard_of(key))
            .expect("invariant: the shard of every changed key is held")
    }
}

impl Rows for Held<'_> {
    type Failure = Error;

    fn etag(&self, key: &str) -> Result<Option<u64>> {
        let entry = self.shard(key).get(key, self.store.rows.clock());
        Ok(entry.map(|entry| entry.value.etag))
    }

    fn put(&mut self, key: &str, value: &Bytes, ttl: Option<Duration>) -> Result<()> {
        let row = Row {
            // A copy: the value is a part of the request's buffer, which it would keep whole.
            value: Bytes::copy_from_slice(value),
            etag: self.store.last_etag.fetch_add(1, Ordering::Relaxed) + 1,
        };
        let end = change::end(ttl, self.store.rows.clock());
        self.shard_mut(key).put(key, row, end);
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<()> {
        self.shard_mut(key).remove(key);
        Ok(())
    }
}

impl Component for Memory {}

#[async_trait]
impl StateStore for Memory {
    fn features(&self) -> Features {
        Features {
            etag: true,
            transactional: true,
            ttl: true,
        }
    }

    async fn get(&self, request: &Get) -> Result<Option<Item>> {
        Ok(self.read(&request.key.0))
    }

    async fn set(&self, request: Set) -> Result<()> {
        self.make(Change::set(request)?)
    }

    async fn delete(&self, request: Delete) -> Result<()> {
        self.make(Change::delete(request))
    }

    async fn bulk_get(&self, requests: Vec<Get>, _: usize) -> Result<Vec<Result<Option<Item>>>> {
        Ok(requests
            .iter()
            .map(|request| Ok(self.read(&request.key.0)))
            .collect())
    }

    async fn bulk_set(&self, requests: Vec<Set>) -> Result<()> {
        let changes: Vec<_> = requests.into_iter().map(Change::set).collect::<Result<_>>()?;
        self.make_each(&changes)
    }

    async fn bulk_delete(&self, requests: Vec<Delete>) -> Result<()> {
        let changes: Vec<_> = requests.into_iter().map(Change::delete).collect();
        self.make_each(&changes)
    }

    async fn transact(&self, operations: Vec<Operation>, _: &Metadata) -> Result<()> {
        let changes: Vec<_> = operations
            .into_iter()
            .map(Change::operation)
            .collect::<Result<_>>()?;
        change::make_all(&changes, &mut self.hold(&changes))
    }
}
