//! Ids from PostgreSQL: a row for each key, in `layotto_sequencer(key, value)`. The value is the
//! last id handed out.

use std::{ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Metadata, Open, Result,
    key_prefix::PrefixedKey,
    sequencer::{BiggerThan, Features, Sequencer},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::exhausted;
use crate::client::postgres::{self, Failure, Layout, Pool, Settings, Table};

const LAYOUT: Layout = Layout {
    exists: "select to_regclass('layotto_sequencer') is not null",
    statements: &["create table if not exists layotto_sequencer (
                     key text not null primary key,
                     value bigint not null)"],
    sweep: None,
};

/// The last of `$2` more ids of the key `$1`.
const RESERVE: &str = "insert into layotto_sequencer as s (key, value) values ($1, $2)
  on conflict (key) do update set value = s.value + $2 returning value";

/// Raises the keys `$1` to the bounds `$2`, in the order of the keys.
const RAISE: &str = "insert into layotto_sequencer as s (key, value)
  select key, bound from unnest($1::text[], $2::bigint[]) as b (key, bound) order by key
  on conflict (key) do update set value = excluded.value where s.value < excluded.value";

/// Ids from a table of PostgreSQL, for sidecars of this kind on any number of machines. Never
/// repeated, whatever ends the server, as long as it syncs its commits. Weak ids are taken in
/// segments; each strong id waits for a commit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Config(pub Settings);

/// A sequencer in PostgreSQL.
pub struct Postgresql {
    table: Arc<Table>,
}

impl Open for Postgresql {
    const TYPE: &'static str = "postgresql";
    type Config = Config;

    async fn open(Config(settings): Config, cx: Context) -> Result<Self> {
        let pool = Pool::shared(&settings, &cx).await?;
        Ok(Self {
            table: Table::new(pool, &LAYOUT, &cx),
        })
    }
}

impl Postgresql {
    /// Reserves `size` ids; the last of them.
    async fn reserve(&self, key: &PrefixedKey, size: u32) -> Result<i64> {
        storable(key)?;
        let mut lease = self.table.lease().await?;
        let query = sqlx::query_scalar(RESERVE).bind(&key.0).bind(i64::from(size));
        let last = query.fetch_one(lease.connection()).await.map_err(Failure::from);
        // Beyond the greatest number.
        let last = last.map_err(|failure| match failure.code() {
            Some("22003") => exhausted().into(),
            _ => failure,
        });
        self.table.settle(lease, last)
    }
}

/// Fails for a key that no text of PostgreSQL can hold.
fn storable(key: &PrefixedKey) -> Result<()> {
    postgres::storable("key", &key.0)
}

#[async_trait]
impl Component for Postgresql {
    async fn ping(&self) -> Result<()> {
        self.table.ping().await
    }
}

#[async_trait]
impl Sequencer for Postgresql {
    fn features(&self) -> Features {
        Features { segments: true }
    }

    async fn next_id(&self, key: &PrefixedKey, _: &Metadata) -> Result<i64> {
        self.reserve(key, 1).await
    }

    async fn segment(&self, key: &PrefixedKey, size: u32) -> Result<RangeInclusive<i64>> {
        if size == 0 {
            return Ok(RangeInclusive::new(1, 0));
        }
        let last = self.reserve(key, size).await?;
        Ok(last - i64::from(size) + 1..=last)
    }

    async fn ensure_bigger_than(&self, bounds: &BiggerThan) -> Result<()> {
        if bounds.is_empty() {
            return Ok(());
        }
        bounds.keys().try_for_each(storable)?;
        // Ids begin at 1 however low a bound is.
        let (keys, bounds): (Vec<_>, Vec<_>) = bounds
            .iter()
            .map(|(key, bound)| (key.0.as_str(), (*bound).max(0)))
            .unzip();
        let mut lease = self.table.lease().await?;
        let raised = sqlx::query(RAISE)
            .bind(keys)
            .bind(bounds)
            .execute(lease.connection())
            .await;
        self.table.settle(lease, raised).map(drop)
    }
}

#[cfg(test)]
mod tests;
