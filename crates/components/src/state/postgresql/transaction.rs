//! Transactions: one statement looks at every row and writes it, in the order of the keys, which is
//! the order in which all writers here take hold of rows.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use layotto_core::{Error, Result};
use sqlx::{Connection, postgres::PgConnection};

use super::{
    super::change::{self, Change, Required},
    sql,
    write::Rows,
};
use crate::client::postgres::Failure;

/// What all changes of a transaction come to.
pub(super) struct Plan {
    rows: BTreeMap<String, Step>,
}

/// What becomes of one row.
struct Step {
    /// What the first change of the row needs of it.
    required: Required,
    /// `None`: it is removed.
    value: Option<(Bytes, Option<Duration>)>,
}

impl Plan {
    /// Plans `changes`; fails where one cannot follow those before it.
    pub(super) fn new(changes: &[Change]) -> Result<Self> {
        let mut staged = Staged::default();
        for change in changes {
            let required = change.required()?;
            staged.first.entry(change.key().to_owned()).or_insert(required);
        }
        change::make_all(changes, &mut staged)?;
        let Staged { first, rows } = staged;
        let steps = rows.into_iter().filter_map(|(key, value)| {
            let required = *first.get(&key)?;
            Some((key, Step { required, value }))
        });
        Ok(Self {
            rows: steps.collect(),
        })
    }

    /// Makes all changes, or none.
    pub(super) async fn carry_out(&self, connection: &mut PgConnection) -> Result<(), Failure> {
        let mut transaction = connection.begin().await?;
        match self.write(&mut transaction).await {
            Ok(()) => Ok(transaction.commit().await?),
            Err(failure) => {
                transaction.rollback().await?;
                Err(failure)
            }
        }
    }

    async fn write(&self, connection: &mut PgConnection) -> Result<(), Failure> {
        let (mut rows, mut required, mut removed) = (Rows::default(), Vec::new(), Vec::new());
        for (key, step) in &self.rows {
            required.push(match step.required {
                Required::Nothing => None,
                Required::Absent => Some(String::new()),
                Required::Etag(etag) => Some(etag.to_string()),
            });
            match &step.value {
                Some((value, ttl)) => rows.push(key, value, *ttl),
                // Written first, to be held, and so to be had in its turn.
                None => {
                    rows.push(key, &Bytes::new(), None);
                    removed.push(key.as_str());
                }
            }
        }
        let write = sqlx::query_as(sql::SET_REQUIRED)
            .bind(rows.keys)
            .bind(rows.values)
            .bind(rows.ttls)
            .bind(required);
        let written: HashMap<String, bool> = write.fetch_all(&mut *connection).await?.into_iter().collect();
        self.check(&written)?;
        if !removed.is_empty() {
            sqlx::query(sql::DELETE).bind(removed).execute(connection).await?;
        }
        Ok(())
    }

    /// Fails unless each row was written, and was there where it had to be.
    fn check(&self, written: &HashMap<String, bool>) -> Result<()> {
        for (key, step) in &self.rows {
            match (written.get(key), step.required) {
                (None, _) => return Err(change::conflict()),
                (Some(true), Required::Etag(_)) => return Err(change::missing(key)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Rows that are as the first change of each needs them.
#[derive(Default)]
struct Staged {
    first: HashMap<String, Required>,
    rows: BTreeMap<String, Option<(Bytes, Option<Duration>)>>,
}

impl change::Rows for Staged {
    type Failure = Error;

    fn etag(&self, key: &str) -> Result<Option<u64>> {
        Ok(match self.first.get(key) {
            Some(Required::Etag(etag)) => Some(*etag),
            _ => None,
        })
    }

    fn put(&mut self, key: &str, value: &Bytes, ttl: Option<Duration>) -> Result<()> {
        self.rows.insert(key.to_owned(), Some((value.clone(), ttl)));
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<()> {
        self.rows.insert(key.to_owned(), None);
        Ok(())
    }
}
