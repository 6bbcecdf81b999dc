//! State in the embedded store.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use layotto_core::{
    Component, Context, Metadata, Open, Result,
    state::{Delete, Features, Get, Item, Operation, Set, StateStore},
};
use redb::{ReadTransaction, ReadableTable, Table, WriteTransaction};
use schemars::JsonSchema;
use serde::Deserialize;

use super::change::{self, Change, Rows};
use crate::{
    client::embedded::{self, Attempt, Durability, Effect, Failure, STATE, STATE_END, Store, StorePath},
    clock::{Clock, Millis, is_over},
};

/// State in a file of the process, with no product to install. For one process on one machine that
/// must find its state again after a restart or a crash; other processes cannot use the file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// The store's file, relative to the data directory. Components that name the same file share
    /// it, and so their keys. Default `layotto.db`.
    pub path: StorePath,
    /// When a write is answered: `fsync`, when it is on the disk; `os`, when the operating system
    /// has it. Components that share a file get the strictest of theirs. Default `fsync`.
    pub durability: Durability,
}

/// A state store in the embedded store.
pub struct Embedded {
    pub(super) store: Arc<Store>,
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
    fn read(&self, tx: &ReadTransaction, key: &str) -> Result<Option<Item>, redb::Error> {
        let Some(row) = tx.open_table(STATE)?.get(key)? else {
            return Ok(None);
        };
        let (etag, end, value) = row.value();
        if end != 0 && is_over(end, self.store.clock().now()) {
            return Ok(None);
        }
        Ok(Some(change::item(Bytes::copy_from_slice(value), etag, end)))
    }

    async fn make(&self, change: Change) -> Result<()> {
        let clock = self.store.clock().clone();
        self.store
            .write(move |tx| done(change::make(&change, &mut Tables::open(tx, &clock)?)?))
            .await
    }

    async fn make_each(&self, changes: Vec<Change>) -> Result<()> {
        let clock = self.store.clock().clone();
        self.store
            .write(move |tx| done(change::make_each(&changes, &mut Tables::open(tx, &clock)?)?))
            .await?
    }
}

fn done<T>(value: T) -> Attempt<T> {
    Ok((value, Effect::Durable))
}

/// The tables of state while they are changed.
struct Tables<'tx> {
    tx: &'tx WriteTransaction,
    rows: Table<'tx, &'static str, (u64, Millis, &'static [u8])>,
    ends: Table<'tx, (Millis, &'static str), ()>,
    clock: &'tx Clock,
}

impl<'tx> Tables<'tx> {
    fn open(tx: &'tx WriteTransaction, clock: &'tx Clock) -> Result<Self, Failure> {
        Ok(Self {
            tx,
            rows: tx.open_table(STATE)?,
            ends: tx.open_table(STATE_END)?,
            clock,
        })
    }

    fn forget_end(&mut self, key: &str, end: Option<Millis>) -> Result<(), Failure> {
        if let Some(end) = end.filter(|end| *end != 0) {
            self.ends.remove((end, key))?;
        }
        Ok(())
    }
}

impl Rows for Tables<'_> {
    type Failure = Failure;

    fn etag(&self, key: &str) -> Result<Option<u64>, Failure> {
        let row = self.rows.get(key)?.map(|row| (row.value().0, row.value().1));
        let now = self.clock.now();
        Ok(row.filter(|(_, end)| !is_over(*end, now)).map(|(etag, _)| etag))
    }

    fn put(&mut self, key: &str, value: &Bytes, ttl: Option<Duration>) -> Result<(), Failure> {
        let end = change::end(ttl, self.clock);
        let etag = embedded::count(self.tx, "etag")?;
        let old = self.rows.insert(key, (etag, end, &value[..]))?;
        let old_end = old.map(|row| row.value().1);
        self.forget_end(key, old_end)?;
        if end != 0 {
            self.ends.insert((end, key), ())?;
        }
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<(), Failure> {
        let old_end = self.rows.remove(key)?.map(|row| row.value().1);
        self.forget_end(key, old_end)
    }
}

#[async_trait]
impl Component for Embedded {
    async fn ping(&self) -> Result<()> {
        self.store.check()
    }
}

#[async_trait]
impl StateStore for Embedded {
    fn features(&self) -> Features {
        Features {
            etag: true,
            transactional: true,
            ttl: true,
        }
    }

    async fn get(&self, request: &Get) -> Result<Option<Item>> {
        self.store.read(|tx| self.read(tx, &request.key.0))
    }

    async fn set(&self, request: Set) -> Result<()> {
        self.make(Change::set(request)?).await
    }

    async fn delete(&self, request: Delete) -> Result<()> {
        self.make(Change::delete(request)).await
    }

    async fn bulk_get(&self, requests: Vec<Get>, _: usize) -> Result<Vec<Result<Option<Item>>>> {
        // One transaction: all keys as of one moment.
        self.store.read(|tx| {
            let items = requests
                .iter()
                .map(|request| self.read(tx, &request.key.0).map(Ok));
            items.collect()
        })
    }

    async fn bulk_set(&self, requests: Vec<Set>) -> Result<()> {
        let changes = requests.into_iter().map(Change::set).collect::<Result<_>>()?;
        self.make_each(changes).await
    }

    async fn bulk_delete(&self, requests: Vec<Delete>) -> Result<()> {
        self.make_each(requests.into_iter().map(Change::delete).collect())
            .await
    }

    async fn transact(&self, operations: Vec<Operation>, _: &Metadata) -> Result<()> {
        let changes: Vec<_> = operations
            .into_iter()
            .map(Change::operation)
            .collect::<Result<_>>()?;
        let clock = self.store.clock().clone();
        self.store
            .write(move |tx| done(change::make_all(&changes, &mut Tables::open(tx, &clock)?)?))
            .await
    }
}
