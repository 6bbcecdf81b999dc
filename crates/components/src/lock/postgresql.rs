//! Locks in PostgreSQL: a row for each resource, whose end is told by the server's clock.
//!
//! `layotto_lock(resource, owner, expires_at, token)`. A row without an owner is a lock that was
//! given back. Rows are kept for an hour after the lock is free; tokens come from the sequence
//! `layotto_lock_token`, so that they grow even over the removal of a row.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Error, Open, Result,
    lock::{Grant, LockStore, Owned, Status},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::standing;
use crate::client::postgres::{self, Layout, Pool, Settings, Sweep, Table};

const LAYOUT: Layout = Layout {
    exists: "select to_regclass('layotto_lock') is not null and to_regclass('layotto_lock_token') is not null",
    statements: &[
        "create sequence if not exists layotto_lock_token",
        "create table if not exists layotto_lock (
           resource text not null primary key,
           owner text not null,
           expires_at timestamp with time zone not null,
           token bigint not null)",
    ],
    sweep: Some(Sweep {
        // A try takes its token before it sees that there is no row. Were the row of another grant
        // removed in between, the token might be less than that grant's: no statement runs so long.
        statement: "delete from layotto_lock where ctid = any(array(select ctid from layotto_lock
                      where expires_at < now() - interval '1 hour' limit 5000 for update skip locked))",
        batch: 5000,
        every: Duration::from_secs(600),
    }),
};

/// The token of the grant; no row where the lock is held. That it is held is seen without a write.
const TRY: &str = "insert into layotto_lock as l (resource, owner, expires_at, token)
  select $1, $2, clock_timestamp() + $3 * interval '1 millisecond', nextval('layotto_lock_token')
  where not exists (select from layotto_lock h
                    where h.resource = $1 and h.owner <> '' and h.expires_at > clock_timestamp())
  on conflict (resource) do update set owner = excluded.owner,
    expires_at = clock_timestamp() + $3 * interval '1 millisecond', token = nextval('layotto_lock_token')
  where l.owner = '' or l.expires_at <= clock_timestamp()
  returning token";

/// Who holds the lock, as of the beginning, and whether it was given back.
const UNLOCK: &str = "with freed as (
    update layotto_lock set owner = '', expires_at = least(expires_at, clock_timestamp())
    where resource = $1 and owner = $2 and expires_at > clock_timestamp() returning token)
  select (select owner from layotto_lock
          where resource = $1 and owner <> '' and expires_at > clock_timestamp()) as holder,
    (select token from freed) as token";

/// Who holds the lock, as of the beginning, and the token of the grant that was extended.
const KEEP_ALIVE: &str = "with kept as (
    update layotto_lock set expires_at = clock_timestamp() + $3 * interval '1 millisecond'
    where resource = $1 and owner = $2 and expires_at > clock_timestamp() returning token)
  select (select owner from layotto_lock
          where resource = $1 and owner <> '' and expires_at > clock_timestamp()) as holder,
    (select token from kept) as token";

/// Locks in a table of PostgreSQL, for sidecars of this kind on any number of machines. Leases end
/// by the server's clock, and every grant has a fencing token. For applications that have a
/// PostgreSQL server anyway; a grant waits for a commit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Config(pub Settings);

/// A lock store in PostgreSQL.
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
    /// Runs a statement that tells the holder and, where it changed the owner's grant, its token.
    async fn change(
        &self,
        statement: &'static str,
        lock: &Owned,
        lease: Option<i64>,
    ) -> Result<(Status, Option<u64>)> {
        storable(lock)?;
        let mut connection = self.table.lease().await?;
        let mut query = sqlx::query_as(statement).bind(&lock.resource.0).bind(&lock.owner);
        if let Some(lease) = lease {
            query = query.bind(lease);
        }
        let found: Result<(Option<String>, Option<i64>), _> = query.fetch_one(connection.connection()).await;
        let (holder, token) = self.table.settle(connection, found)?;
        Ok(match (token, standing(holder.as_deref(), &lock.owner)) {
            (Some(token), _) => (Status::Success, u64::try_from(token).ok()),
            // It was this owner's when the statement began, and was given back or ended since.
            (None, Status::Success) => (Status::Unexist, None),
            (None, status) => (status, None),
        })
    }
}

fn millis(lease: Duration) -> Result<i64> {
    // Ten thousand years.
    const LONGEST: i64 = 10_000 * 366 * 86_400_000;
    let millis = i64::try_from(lease.as_millis()).ok();
    millis
        .filter(|millis| *millis <= LONGEST)
        .ok_or_else(|| Error::invalid("the lease is too long"))
}

/// Fails for a lock that no text of PostgreSQL can hold.
fn storable(lock: &Owned) -> Result<()> {
    postgres::storable("text", &lock.resource.0)?;
    postgres::storable("text", &lock.owner)?;
    if lock.owner.is_empty() {
        return Err(Error::invalid("a lock needs an owner"));
    }
    Ok(())
}

#[async_trait]
impl Component for Postgresql {
    async fn ping(&self) -> Result<()> {
        self.table.ping().await
    }
}

#[async_trait]
impl LockStore for Postgresql {
    async fn try_lock(&self, lock: &Owned, expire: Duration) -> Result<Grant> {
        storable(lock)?;
        let expire = millis(expire)?;
        let mut lease = self.table.lease().await?;
        let query = sqlx::query_scalar(TRY)
            .bind(&lock.resource.0)
            .bind(&lock.owner)
            .bind(expire);
        let token: Result<Option<i64>, _> = query.fetch_optional(lease.connection()).await;
        Ok(match self.table.settle(lease, token)? {
            Some(token) => Grant::Acquired {
                fencing_token: u64::try_from(token).ok(),
            },
            None => Grant::Busy,
        })
    }

    async fn unlock(&self, lock: &Owned) -> Result<Status> {
        let (status, _) = self.change(UNLOCK, lock, None).await?;
        Ok(status)
    }

    async fn keep_alive(&self, lock: &Owned, expire: Duration) -> Result<(Status, Option<u64>)> {
        self.change(KEEP_ALIVE, lock, Some(millis(expire)?)).await
    }
}

#[cfg(test)]
mod tests;
