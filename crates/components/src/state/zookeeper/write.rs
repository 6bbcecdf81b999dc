//! Changes of one node.

use std::collections::HashMap;

use bytes::Bytes;
use layotto_core::{
    Error, Result,
    state::{Concurrency, Delete, Operation, Set},
};
use zookeeper_client::{Client, Error as Cause};

use super::super::change;
use crate::client::zookeeper::PERSISTENT;

/// How many requests of one call are under way at once.
pub(super) const AT_ONCE: usize = 128;

/// A change of one item.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) key: String,
    pub(super) step: Step,
}

/// What a change does to its node.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Sets it, or makes it.
    Put(Bytes),
    /// Makes it; it must not be there.
    Create(Bytes),
    /// Sets it; it must have this version.
    Set(Bytes, i32),
    /// Removes it where it is there.
    Remove,
    /// Removes it; it must have this version.
    RemoveVersion(i32),
}

impl Write {
    /// A write; fails where its etag is none, or where it is to end.
    pub(super) fn set(set: Set) -> Result<Self> {
        if change::parse_ttl(&set.metadata)?.is_some() {
            return Err(Error::unsupported("ttlInSeconds"));
        }
        let step = match (&set.etag, set.options.concurrency) {
            (Some(etag), _) => Step::Set(set.value, version(etag)?),
            (None, Concurrency::FirstWrite) => Step::Create(set.value),
            (None, _) => Step::Put(set.value),
        };
        Ok(Self { key: set.key.0, step })
    }

    /// A removal; fails where its etag is none.
    pub(super) fn delete(delete: Delete) -> Result<Self> {
        let step = match &delete.etag {
            Some(etag) => Step::RemoveVersion(version(etag)?),
            None => Step::Remove,
        };
        Ok(Self {
            key: delete.key.0,
            step,
        })
    }

    /// A step of a transaction.
    pub(super) fn operation(operation: Operation) -> Result<Self> {
        match operation {
            Operation::Set(set) => Self::set(set),
            Operation::Delete(delete) => Self::delete(delete),
        }
    }

    /// How many bytes its value has.
    pub(super) fn size(&self) -> usize {
        match &self.step {
            Step::Put(value) | Step::Create(value) | Step::Set(value, _) => value.len(),
            Step::Remove | Step::RemoveVersion(_) => 0,
        }
    }
}

impl Step {
    /// Does it. An error of version or presence means that the node is not as it must be.
    pub(super) async fn make(&self, session: &Client, path: &str, parent: &str) -> Result<(), Cause> {
        match self {
            Self::Put(value) => put(session, path, parent, value).await,
            Self::Create(value) => create(session, path, parent, value).await,
            Self::Set(value, version) => session.set_data(path, value, Some(*version)).await.map(drop),
            Self::RemoveVersion(version) => session.delete(path, Some(*version)).await,
            Self::Remove => match session.delete(path, None).await {
                Err(Cause::NoNode) => Ok(()),
                removed => removed,
            },
        }
    }
}

async fn put(session: &Client, path: &str, parent: &str, value: &[u8]) -> Result<(), Cause> {
    loop {
        match session.set_data(path, value, None).await {
            Err(Cause::NoNode) => {}
            set => return set.map(drop),
        }
        // Somebody made it meanwhile: this write is the later one.
        match create(session, path, parent, value).await {
            Err(Cause::NodeExists) => {}
            created => return created,
        }
    }
}

async fn create(session: &Client, path: &str, parent: &str, value: &[u8]) -> Result<(), Cause> {
    match session.create(path, value, &PERSISTENT).await {
        Err(Cause::NoNode) if !parent.is_empty() => {
            session.mkdir(parent, &PERSISTENT).await?;
            session.create(path, value, &PERSISTENT).await.map(drop)
        }
        created => created.map(drop),
    }
}

/// The version that an etag stands for. One that no node can have yet is a mismatch like any other.
fn version(etag: &str) -> Result<i32> {
    let number = change::parse_etag(etag)?;
    i32::try_from(number).map_err(|_| change::conflict())
}

/// `writes` in turns: those of a turn are of different keys, and the order of those of one key is
/// kept.
pub(super) fn turns(writes: &[Write]) -> Vec<Vec<&Write>> {
    let mut next: HashMap<&str, usize> = HashMap::new();
    let mut turns: Vec<Vec<&Write>> = Vec::new();
    for write in writes {
        let turn = next.entry(&write.key).or_default();
        if turns.len() == *turn {
            turns.push(Vec::new());
        }
        turns[*turn].push(write);
        *turn += 1;
    }
    turns
}
