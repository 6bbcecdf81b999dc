//! Writes that need no transaction: those of one kind are one statement.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use layotto_core::Error;
use sqlx::postgres::PgConnection;

use super::{
    super::change::{self, Action, Change, Required},
    sql,
};

/// No item lives longer: a date beyond the year 9999 cannot be told.
const LONGEST: Duration = Duration::from_secs(8_000 * 366 * 86_400);

/// Keys and why they were not changed.
pub(super) type Refused<'a> = Vec<(&'a str, Error)>;

/// Changes of different keys that one statement makes.
pub(super) struct Batch<'a> {
    statement: &'static str,
    has_values: bool,
    rows: Rows<'a>,
}

/// The parameters of a statement, one of each for each row.
#[derive(Default)]
pub(super) struct Rows<'a> {
    pub(super) keys: Vec<&'a str>,
    pub(super) values: Vec<String>,
    pub(super) ttls: Vec<Option<i64>>,
    etags: Vec<String>,
}

impl<'a> Rows<'a> {
    pub(super) fn push(&mut self, key: &'a str, value: &Bytes, ttl: Option<Duration>) {
        self.keys.push(key);
        self.values.push(STANDARD.encode(value));
        self.ttls.push(ttl.map(millis));
    }
}

fn millis(ttl: Duration) -> i64 {
    ttl.min(LONGEST).as_millis() as i64
}

/// `changes` as the fewest batches that keep the order of those of one key; those whose etag is
/// none are refused.
pub(super) fn batches(changes: &[Change]) -> (Vec<Batch<'_>>, Refused<'_>) {
    let mut turns: HashMap<&str, usize> = HashMap::new();
    let mut batches: BTreeMap<(usize, &'static str), Batch<'_>> = BTreeMap::new();
    let mut refused = Refused::new();
    for change in changes {
        let required = match change.required() {
            Ok(required) => required,
            Err(error) => {
                refused.push((change.key(), error));
                continue;
            }
        };
        let turn = turns.entry(change.key()).or_default();
        let statement = statement(change.action(), required);
        let batch = batches.entry((*turn, statement)).or_insert_with(|| Batch {
            statement,
            has_values: matches!(change.action(), Action::Put { .. }),
            rows: Rows::default(),
        });
        *turn += 1;
        match change.action() {
            Action::Put { value, ttl } => batch.rows.push(change.key(), value, *ttl),
            Action::Remove => batch.rows.keys.push(change.key()),
        }
        if let Required::Etag(etag) = required {
            batch.rows.etags.push(etag.to_string());
        }
    }
    (batches.into_values().collect(), refused)
}

fn statement(action: &Action, required: Required) -> &'static str {
    match (action, required) {
        (Action::Put { .. }, Required::Nothing) => sql::SET,
        (Action::Put { .. }, Required::Absent) => sql::SET_ABSENT,
        (Action::Put { .. }, Required::Etag(_)) => sql::SET_ETAG,
        (Action::Remove, Required::Etag(_)) => sql::DELETE_ETAG,
        (Action::Remove, _) => sql::DELETE,
    }
}

/// Runs each batch by itself; returns the keys that were not as their changes need them.
pub(super) async fn run<'a>(
    batches: Vec<Batch<'a>>,
    connection: &mut PgConnection,
) -> Result<Refused<'a>, sqlx::Error> {
    let mut refused = Refused::new();
    for batch in batches {
        let keys = batch.rows.keys.clone();
        // A key that is not there is removed already.
        let is_always_done = batch.statement == sql::DELETE;
        let done: HashSet<String> = batch.run(connection).await?.into_iter().collect();
        if !is_always_done {
            let left = keys.into_iter().filter(|key| !done.contains(*key));
            refused.extend(left.map(|key| (key, change::conflict())));
        }
    }
    Ok(refused)
}

impl Batch<'_> {
    /// The keys of the rows that were changed.
    async fn run(self, connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        let Rows {
            keys,
            values,
            ttls,
            etags,
        } = self.rows;
        let mut query = sqlx::query_scalar(self.statement).bind(keys);
        if self.has_values {
            query = query.bind(values).bind(ttls);
        }
        if !etags.is_empty() {
            query = query.bind(etags);
        }
        query.fetch_all(connection).await
    }
}
