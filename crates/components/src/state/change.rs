//! What a write means, whatever holds the rows: etags, first and last write, TTL, all or nothing.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use layotto_core::{
    Error, ErrorKind, Metadata, Result,
    state::{Concurrency, Delete, Item, Operation, Set},
};

use crate::clock::{Clock, Millis};

pub(super) const TTL: &str = "ttlInSeconds";
const MISMATCH: &str = "possible etag mismatch. error from state store";

/// No row has this etag: with Redis it stands for none, and the JavaScript client sends it for none.
const NO_ETAG: &str = "0";

/// The last moment that RFC 3339 can write.
const LAST_MOMENT: Millis = 253_402_300_799_000;

/// The rows of a store while somebody changes them. Ended rows are absent.
pub(super) trait Rows {
    /// Why the rows cannot be used.
    type Failure: From<Error>;
    /// The etag of `key`; `None` where it is absent.
    fn etag(&self, key: &str) -> Result<Option<u64>, Self::Failure>;
    /// Writes `key` under a new etag, to end after `ttl` where there is one.
    fn put(&mut self, key: &str, value: &Bytes, ttl: Option<Duration>) -> Result<(), Self::Failure>;
    /// Removes `key`.
    fn remove(&mut self, key: &str) -> Result<(), Self::Failure>;
}

/// A write of one key, checked for all that needs no store.
#[derive(Debug)]
pub(super) struct Change {
    key: String,
    required: Result<Required>,
    action: Action,
}

/// What a change needs of the row before it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Required {
    /// Nothing.
    Nothing,
    /// That there is none.
    Absent,
    /// That it has this etag.
    Etag(u64),
}

/// What becomes of the row.
#[derive(Debug)]
pub(super) enum Action {
    /// It has this value, for a time or for ever.
    Put {
        /// The value.
        value: Bytes,
        /// The time.
        ttl: Option<Duration>,
    },
    /// It is gone.
    Remove,
}

/// What a step of a transaction finds: a row made by an earlier step has an etag nobody knows yet.
#[derive(Clone, Copy)]
enum Found {
    Absent,
    Row(u64),
    New,
}

impl Change {
    /// A write; fails where its TTL is not a number.
    pub(super) fn set(set: Set) -> Result<Self> {
        let required = match (given(&set.etag), set.options.concurrency) {
            (Some(etag), _) => parse_etag(etag).map(Required::Etag),
            (None, Concurrency::FirstWrite) => Ok(Required::Absent),
            (None, _) => Ok(Required::Nothing),
        };
        let ttl = parse_ttl(&set.metadata)?;
        Ok(Self {
            key: set.key.0,
            required,
            action: Action::Put {
                value: set.value,
                ttl,
            },
        })
    }

    /// A removal.
    pub(super) fn delete(delete: Delete) -> Self {
        let required = match given(&delete.etag) {
            Some(etag) => parse_etag(etag).map(Required::Etag),
            None => Ok(Required::Nothing),
        };
        Self {
            key: delete.key.0,
            required,
            action: Action::Remove,
        }
    }

    /// A step of a transaction.
    pub(super) fn operation(operation: Operation) -> Result<Self> {
        match operation {
            Operation::Set(set) => Self::set(set),
            Operation::Delete(delete) => Ok(Self::delete(delete)),
        }
    }

    /// The key.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// What it needs; fails where the etag is none.
    pub(super) fn required(&self) -> Result<Required> {
        self.required.as_ref().copied().map_err(copy)
    }

    /// What becomes of the row.
    pub(super) fn action(&self) -> &Action {
        &self.action
    }

    fn check(&self, found: Found) -> Result<()> {
        let allowed = match self.required()? {
            Required::Nothing => true,
            Required::Absent => matches!(found, Found::Absent),
            Required::Etag(etag) => matches!(found, Found::Row(current) if current == etag),
        };
        if allowed { Ok(()) } else { Err(conflict()) }
    }

    fn carry_out<R: Rows>(&self, rows: &mut R) -> Result<(), R::Failure> {
        match &self.action {
            Action::Put { value, ttl } => rows.put(&self.key, value, *ttl),
            Action::Remove => rows.remove(&self.key),
        }
    }

    fn leaves(&self) -> Found {
        match self.action {
            Action::Put { .. } => Found::New,
            Action::Remove => Found::Absent,
        }
    }
}

/// Makes one change.
pub(super) fn make<R: Rows>(change: &Change, rows: &mut R) -> Result<(), R::Failure> {
    change.check(find(rows, change.key())?)?;
    change.carry_out(rows)
}

/// Makes every change that is allowed; the inner error names the keys of those that were not.
pub(super) fn make_each<R: Rows>(changes: &[Change], rows: &mut R) -> Result<Result<()>, R::Failure> {
    let mut refused: Vec<(&str, Error)> = Vec::new();
    for change in changes {
        match change.check(find(rows, change.key())?) {
            Ok(()) => change.carry_out(rows)?,
            Err(error) => refused.push((change.key(), error)),
        }
    }
    Ok(summary(&refused))
}

/// Makes all changes in order, or none; each sees those before it.
pub(super) fn make_all<R: Rows>(changes: &[Change], rows: &mut R) -> Result<(), R::Failure> {
    let mut earlier: HashMap<&str, Found> = HashMap::new();
    for change in changes {
        let found = match earlier.get(change.key()) {
            Some(found) => *found,
            None => find(rows, change.key())?,
        };
        change.check(found).map_err(|error| match (error.kind(), found) {
            (ErrorKind::Conflict, Found::Absent) => missing(change.key()),
            _ => error,
        })?;
        earlier.insert(change.key(), change.leaves());
    }
    changes.iter().try_for_each(|change| change.carry_out(rows))
}

/// One change for each key, in the order of the first, that comes to the same as all `changes` in
/// order, or none. Fails where a change cannot be allowed after an earlier one of its key.
pub(super) fn fold(changes: Vec<Change>) -> Result<Vec<Change>> {
    let mut folded: Vec<Change> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for change in changes {
        let place = places.get(change.key()).and_then(|place| folded.get_mut(*place));
        match place {
            Some(earlier) => {
                change.check(earlier.leaves())?;
                earlier.action = change.action;
            }
            None => {
                places.insert(change.key.clone(), folded.len());
                folded.push(change);
            }
        }
    }
    Ok(folded)
}

fn find<R: Rows>(rows: &R, key: &str) -> Result<Found, R::Failure> {
    Ok(rows.etag(key)?.map_or(Found::Absent, Found::Row))
}

/// The error that names all keys that were refused.
pub(super) fn summary(refused: &[(&str, Error)]) -> Result<()> {
    let Some((_, first)) = refused.first() else {
        return Ok(());
    };
    let keys: Vec<_> = refused.iter().map(|(key, _)| *key).collect();
    let keys = keys.join(", ");
    let message = format!("{}: key {keys}", first.message());
    Err(Error::new(first.kind(), message).with_detail("key", keys))
}

/// The error again, without its cause.
pub(super) fn copy(error: &Error) -> Error {
    Error::new(error.kind(), error.message())
}

/// The row is not as the change needs it.
pub(super) fn conflict() -> Error {
    Error::new(ErrorKind::Conflict, MISMATCH)
}

/// The row that a change needs is not there.
pub(super) fn missing(key: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("etag does not match for key not found {key}"),
    )
}

pub(super) fn given(etag: &Option<String>) -> Option<&str> {
    etag.as_deref().filter(|etag| *etag != NO_ETAG)
}

/// The number that an etag of digits is.
pub(super) fn parse_etag(etag: &str) -> Result<u64> {
    // Only what `to_string` writes: `+1` and `01` were never handed out.
    etag.parse()
        .ok()
        .filter(|number: &u64| number.to_string() == etag)
        .ok_or_else(|| Error::new(ErrorKind::InvalidEtag, "invalid etag value"))
}

/// How long an item is to live; `None` for ever.
pub(super) fn parse_ttl(metadata: &Metadata) -> Result<Option<Duration>> {
    let Some(text) = metadata.get(TTL) else {
        return Ok(None);
    };
    let seconds: i64 = text.trim().parse().map_err(|_| {
        Error::invalid(format!(
            "failed to parse ttl from metadata: {TTL} {text:?} is not a whole number of seconds"
        ))
    })?;
    Ok(u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs))
}

/// When what is written now ends.
pub(super) fn end(ttl: Option<Duration>, clock: &Clock) -> Millis {
    ttl.map_or(0, |ttl| clock.after(ttl).min(LAST_MOMENT))
}

/// What a reader gets of a row.
pub(super) fn item(value: Bytes, etag: impl ToString, end: Millis) -> Item {
    Item {
        value,
        etag: Some(etag.to_string()),
        metadata: expire_time(end)
            .map(|time| ("ttlExpireTime".to_owned(), time))
            .into_iter()
            .collect(),
    }
}

pub(super) fn expire_time(end: Millis) -> Option<String> {
    let end = i64::try_from(end).ok().filter(|end| *end != 0)?;
    let time = DateTime::from_timestamp_millis(end)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_numbers_are_etags() {
        assert_eq!(parse_etag("17").unwrap(), 17);
        for text in ["", "abc", "+1", "01", "-1", "1.0", " 1", "18446744073709551616"] {
            assert_eq!(
                parse_etag(text).unwrap_err().kind(),
                ErrorKind::InvalidEtag,
                "{text:?}"
            );
        }
    }

    #[test]
    fn ttl_is_a_whole_number_and_only_a_positive_one_counts() {
        let parse = |text: &str| parse_ttl(&Metadata::from([(TTL.to_owned(), text.to_owned())]));
        assert_eq!(parse("60").unwrap(), Some(Duration::from_secs(60)));
        assert_eq!(parse("0").unwrap(), None);
        assert_eq!(parse("-1").unwrap(), None);
        assert_eq!(parse_ttl(&Metadata::new()).unwrap(), None);
        for text in ["", "abc", "1.5", "1s"] {
            assert_eq!(
                parse(text).unwrap_err().kind(),
                ErrorKind::InvalidArgument,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_ttl_of_ages_still_has_a_time() {
        let clock = Clock::manual();
        let end = end(Some(Duration::from_secs(u64::MAX / 4)), &clock);
        assert_eq!(expire_time(end).unwrap(), "9999-12-31T23:59:59Z");
    }
}
