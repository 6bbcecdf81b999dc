//! State in PostgreSQL, in the table that Go Layotto uses.
//!
//! `state(key, value, isbinary, insertdate, updatedate)`: a value is a JSON string of base64 with
//! `isbinary`, and any other JSON without; the etag is the row's `xmin`. The column
//! `layotto_lifetime` is ours, for items that end: from the write that made the item to its end.
//! A row that a Go sidecar wrote over has another `updatedate` than the lifetime's beginning, and
//! so does not end.

mod sql;
mod transaction;
mod write;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use layotto_core::{
    Component, Context, Error, ErrorKind, Metadata, Open, Result,
    state::{Delete, Features, Get, Item, Operation, Set, StateStore},
};
use schemars::JsonSchema;
use serde::Deserialize;
use sqlx::{Row, postgres::PgRow};

use self::transaction::Plan;
use super::change::{self, Change};
use crate::client::postgres::{self, Pool, Settings, Table};

/// State in a table of PostgreSQL, shared with other sidecars, those in Go included. For
/// applications that have a PostgreSQL server anyway, or need transactions over several machines.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Config(pub Settings);

/// A state store in PostgreSQL.
pub struct Postgresql {
    table: Arc<Table>,
}

impl Open for Postgresql {
    const TYPE: &'static str = "postgresql";
    type Config = Config;

    async fn open(Config(settings): Config, cx: Context) -> Result<Self> {
        let pool = Pool::shared(&settings, &cx).await?;
        Ok(Self {
            table: Table::new(pool, &sql::LAYOUT, &cx),
        })
    }
}

impl Postgresql {
    async fn read(&self, keys: Vec<&str>) -> Result<HashMap<String, Result<Item>>> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let mut lease = self.table.lease().await?;
        let rows = sqlx::query(sql::READ)
            .bind(keys)
            .fetch_all(lease.connection())
            .await;
        let items = rows.and_then(|rows| rows.iter().map(item).collect());
        self.table.settle(lease, items)
    }

    /// Makes every change that is allowed.
    async fn make_each(&self, changes: Vec<Change>) -> Result<()> {
        changes.iter().try_for_each(|change| storable(change.key()))?;
        let (batches, mut refused) = write::batches(&changes);
        if !batches.is_empty() {
            let mut lease = self.table.lease().await?;
            let outcome = write::run(batches, lease.connection()).await;
            refused.extend(self.table.settle(lease, outcome)?);
        }
        change::summary(&refused)
    }
}

/// A row as [`READ`](sql::READ) gives it.
fn item(row: &PgRow) -> Result<(String, Result<Item>), sqlx::Error> {
    let key: String = row.try_get("key")?;
    let (text, is_binary): (String, bool) = (row.try_get("value")?, row.try_get("isbinary")?);
    let etag: String = row.try_get("etag")?;
    let end: Option<i64> = row.try_get("lifetime_end")?;
    let value = if is_binary {
        STANDARD.decode(text).map(Bytes::from).map_err(|error| {
            let what = format!("the row of key {key} is marked as binary and is not base64");
            Error::new(ErrorKind::DataLoss, what).with_source(error)
        })
    } else {
        Ok(Bytes::from(text))
    };
    let end = end.and_then(|end| end.try_into().ok()).unwrap_or_default();
    Ok((key, value.map(|value| change::item(value, etag, end))))
}

/// Fails for a key that no text of PostgreSQL can hold.
fn storable(key: &str) -> Result<()> {
    postgres::storable("key", key)
}

#[async_trait]
impl Component for Postgresql {
    async fn ping(&self) -> Result<()> {
        self.table.ping().await
    }
}

#[async_trait]
impl StateStore for Postgresql {
    fn features(&self) -> Features {
        Features {
            etag: true,
            transactional: true,
            ttl: true,
        }
    }

    async fn get(&self, request: &Get) -> Result<Option<Item>> {
        storable(&request.key.0)?;
        let items = self.read(vec![&request.key.0]).await?;
        items.into_values().next().transpose()
    }

    async fn bulk_get(&self, requests: Vec<Get>, _: usize) -> Result<Vec<Result<Option<Item>>>> {
        // One statement: all keys as of one moment.
        let keys = requests.iter().map(|request| request.key.0.as_str());
        let items = self
            .read(keys.filter(|key| storable(key).is_ok()).collect())
            .await?;
        let found = requests.iter().map(|request| {
            storable(&request.key.0)?;
            match items.get(&request.key.0) {
                None => Ok(None),
                Some(Ok(item)) => Ok(Some(item.clone())),
                Some(Err(error)) => Err(change::copy(error)),
            }
        });
        Ok(found.collect())
    }

    async fn set(&self, request: Set) -> Result<()> {
        self.make_each(vec![Change::set(request)?]).await
    }

    async fn delete(&self, request: Delete) -> Result<()> {
        self.make_each(vec![Change::delete(request)]).await
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
        changes.iter().try_for_each(|change| storable(change.key()))?;
        if changes.is_empty() {
            return Ok(());
        }
        let plan = Plan::new(&changes)?;
        let mut lease = self.table.lease().await?;
        let outcome = plan.carry_out(lease.connection()).await;
        self.table.settle(lease, outcome)
    }
}

#[cfg(test)]
mod tests;
