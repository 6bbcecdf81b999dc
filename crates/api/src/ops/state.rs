//! State stores.

use std::borrow::Cow;

use bytes::Bytes;
use layotto_core::{
    Error, ErrorKind, Metadata, Result,
    key_prefix::KeyPrefix,
    state::{Consistency, Delete, Get, Item, Operation, Options, Set, StateStore},
};

use crate::{
    Slot,
    runtime::{Runtime, component_error, look_up},
};

/// A write or a removal of one key, as the caller says it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Change {
    /// The key, without a prefix.
    pub key: String,
    /// The value; a removal ignores it.
    pub value: Bytes,
    /// The etag that the key must have; empty counts as none.
    pub etag: Option<String>,
    /// Options.
    pub options: Options,
    /// `ttlInSeconds` and the like.
    pub metadata: Metadata,
}

/// One step of a transaction, as the caller says it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// `upsert` or `delete`.
    pub operation: String,
    /// What to change; a step without is skipped.
    pub change: Option<Change>,
}

/// Which keys to read at once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BulkGet {
    /// The keys, without prefixes.
    pub keys: Vec<String>,
    /// The most reads to make at once; less than 1 counts as 1.
    pub parallelism: i32,
    /// Settings of each read.
    pub metadata: Metadata,
}

/// One key's outcome of a bulk read: missing keys have no item.
#[derive(Debug)]
pub struct BulkItem {
    /// The key, without a prefix.
    pub key: String,
    /// What it holds, or why it could not be read.
    pub outcome: Result<Option<Item>>,
}

/// What a key holds.
pub async fn get(
    runtime: &Runtime,
    store: &str,
    key: &str,
    consistency: Consistency,
    metadata: Metadata,
) -> Result<Option<Item>> {
    let slot = find(runtime, store)?;
    let request = Get {
        key: slot.prefix().apply(key)?,
        consistency,
        metadata,
    };
    let item = async { slot.get()?.get(&request).await }.await;
    item.map_err(|error| {
        component_error(
            "state",
            store,
            format!("fail to get {key} from state store {store}: {error}"),
            error,
        )
    })
}

/// What each of many keys holds, in the order asked.
pub async fn bulk_get(runtime: &Runtime, store: &str, request: BulkGet) -> Result<Vec<BulkItem>> {
    let slot = find(runtime, store)?;
    if request.keys.is_empty() {
        return Ok(Vec::new());
    }
    let BulkGet {
        keys,
        parallelism,
        metadata,
    } = request;
    let reads = keys.iter().map(|key| {
        let key = slot.prefix().apply(key)?;
        Ok(Get {
            key,
            consistency: Consistency::Unspecified,
            metadata: metadata.clone(),
        })
    });
    let reads = reads.collect::<Result<Vec<_>>>()?;
    let parallelism = usize::try_from(parallelism).unwrap_or_default().max(1);
    let outcomes = async { slot.get()?.bulk_get(reads, parallelism).await }.await;
    let outcomes = outcomes.map_err(|error| unwrapped(store, error))?;
    if outcomes.len() != keys.len() {
        return Err(Error::internal(
            "the state store answered another number of keys than it was asked",
        ));
    }
    Ok(keys
        .into_iter()
        .zip(outcomes)
        .map(|(key, outcome)| BulkItem { key, outcome })
        .collect())
}

/// Writes many keys, in order, up to the first that fails.
pub async fn save(runtime: &Runtime, store: &str, changes: Vec<Change>) -> Result<()> {
    let slot = find(runtime, store)?;
    let writes = prefixed(changes, |change| change.set(slot.prefix()))?;
    let saved = async { slot.get()?.bulk_set(writes).await }.await;
    saved.map_err(|error| {
        let text = format!(
            "failed saving state in state store {store}: {}",
            etag_text(&error)
        );
        component_error("state", store, text, error)
    })
}

/// Removes one key.
pub async fn delete(runtime: &Runtime, store: &str, change: Change) -> Result<()> {
    let slot = find(runtime, store)?;
    let key = change.key.clone();
    let removal = change.delete(slot.prefix())?;
    let deleted = async { slot.get()?.delete(removal).await }.await;
    deleted.map_err(|error| {
        let text = format!("failed deleting state with key {key}: {}", etag_text(&error));
        component_error("state", store, text, error)
    })
}

/// Removes many keys, in order, up to the first that fails.
pub async fn bulk_delete(runtime: &Runtime, store: &str, changes: Vec<Change>) -> Result<()> {
    let slot = find(runtime, store)?;
    let removals = prefixed(changes, |change| change.delete(slot.prefix()))?;
    let deleted = async { slot.get()?.bulk_delete(removals).await }.await;
    deleted.map_err(|error| component_error("state", store, etag_text(&error).into_owned(), error))
}

/// Carries out all steps in order, or none.
pub async fn transact(runtime: &Runtime, store: &str, steps: Vec<Step>, metadata: &Metadata) -> Result<()> {
    let slot = find(runtime, store)?;
    let transacted = |error: Error| {
        let text = format!("error while executing state transaction: {}", etag_text(&error));
        component_error("state", store, text, error)
    };
    let component = slot.get().map_err(transacted)?;
    if !component.features().transactional {
        let text = format!("state store {store} doesn't support transaction");
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    let operations = operations(steps, slot.prefix())?;
    component.transact(operations, metadata).await.map_err(transacted)
}

fn operations(steps: Vec<Step>, prefix: &KeyPrefix) -> Result<Vec<Operation>> {
    let mut operations = Vec::with_capacity(steps.len());
    for Step { operation, change } in steps {
        let Some(change) = change else {
            tracing::warn!(target: "layotto::api", operation, "a step of a transaction without a request was skipped");
            continue;
        };
        operations.push(match operation.as_str() {
            "upsert" => Operation::Set(change.set(prefix)?),
            "delete" => Operation::Delete(change.delete(prefix)?),
            _ => {
                prefix.apply(&change.key)?;
                let text = format!("operation type {operation} not supported");
                return Err(Error::new(ErrorKind::Unsupported, text));
            }
        });
    }
    Ok(operations)
}

impl Change {
    fn set(self, prefix: &KeyPrefix) -> Result<Set> {
        let Self {
            key,
            value,
            etag,
            options,
            metadata,
        } = self;
        Ok(Set {
            key: prefix.apply(&key)?,
            value,
            etag: present(etag),
            options,
            metadata,
        })
    }

    fn delete(self, prefix: &KeyPrefix) -> Result<Delete> {
        let Self {
            key,
            etag,
            options,
            metadata,
            ..
        } = self;
        Ok(Delete {
            key: prefix.apply(&key)?,
            etag: present(etag),
            options,
            metadata,
        })
    }
}

fn present(etag: Option<String>) -> Option<String> {
    etag.filter(|etag| !etag.is_empty())
}

fn prefixed<T>(changes: Vec<Change>, prefix: impl Fn(Change) -> Result<T>) -> Result<Vec<T>> {
    changes.into_iter().map(prefix).collect()
}

fn find<'a>(runtime: &'a Runtime, store: &str) -> Result<&'a Slot<dyn StateStore>> {
    let none = || "state store is not configured".to_owned();
    let unknown = || format!("state store {store} is not found");
    look_up(&runtime.components.state, store, none, unknown).map(|slot| &**slot)
}

/// A component's error as upstream words it: etag errors have a text of their own before the cause.
fn etag_text(error: &Error) -> Cow<'_, str> {
    let text = error.message();
    let opening = match error.kind() {
        ErrorKind::Conflict => "possible etag mismatch. error from state store",
        ErrorKind::InvalidEtag => "invalid etag value",
        _ => return Cow::Borrowed(text),
    };
    if text.is_empty() || text.starts_with(opening) {
        return Cow::Borrowed(if text.is_empty() { opening } else { text });
    }
    Cow::Owned(format!("{opening}: {text}"))
}

fn unwrapped(store: &str, error: Error) -> Error {
    component_error("state", store, error.message().to_owned(), error)
}

#[cfg(test)]
mod tests;
