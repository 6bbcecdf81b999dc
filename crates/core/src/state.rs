//! State stores: bytes by key, with etags, TTL and transactions where the product has them.

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};

use crate::{Component, Error, Metadata, Result, key_prefix::PrefixedKey};

/// What a state store can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Items have etags, and writes honour them.
    pub etag: bool,
    /// [`StateStore::transact`] works.
    pub transactional: bool,
    /// Metadata `ttlInSeconds` is honoured.
    pub ttl: bool,
}

/// Which of two concurrent writes wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Concurrency {
    /// The store's own way: as the last write.
    #[default]
    Unspecified,
    /// A write without an etag succeeds only where the key is absent.
    FirstWrite,
    /// A write without an etag overwrites.
    LastWrite,
}

/// How fresh a read is, or how durable a write, where the product distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// The store's own way.
    #[default]
    Unspecified,
    /// A replica may lag behind.
    Eventual,
    /// Linearizable where the product can.
    Strong,
}

/// Options of one access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Which of two concurrent writes wins.
    pub concurrency: Concurrency,
    /// How fresh, or how durable.
    pub consistency: Consistency,
}

/// A read of one key.
#[derive(Debug, Clone, PartialEq)]
pub struct Get {
    /// The key.
    pub key: PrefixedKey,
    /// How fresh.
    pub consistency: Consistency,
    /// Settings of this call.
    pub metadata: Metadata,
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Item {
    /// The value.
    pub value: Bytes,
    /// The etag; `None` where the store has none.
    pub etag: Option<String>,
    /// `ttlExpireTime` (RFC 3339) and the like.
    pub metadata: Metadata,
}

/// A write of one key.
#[derive(Debug, Clone, PartialEq)]
pub struct Set {
    /// The key.
    pub key: PrefixedKey,
    /// The value.
    pub value: Bytes,
    /// The etag that the key must have; never empty.
    pub etag: Option<String>,
    /// Options.
    pub options: Options,
    /// `ttlInSeconds` and the like.
    pub metadata: Metadata,
}

/// A removal of one key; a missing key is no error unless an etag was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    /// The key.
    pub key: PrefixedKey,
    /// The etag that the key must have; never empty.
    pub etag: Option<String>,
    /// Options.
    pub options: Options,
    /// Settings of this call.
    pub metadata: Metadata,
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Write.
    Set(Set),
    /// Remove.
    Delete(Delete),
}

/// A state store.
#[async_trait]
pub trait StateStore: Component {
    /// What this store can do.
    fn features(&self) -> Features;

    /// What the key holds; `None` where it is missing.
    async fn get(&self, request: &Get) -> Result<Option<Item>>;

    /// Writes one key.
    async fn set(&self, request: Set) -> Result<()>;

    /// Removes one key.
    async fn delete(&self, request: Delete) -> Result<()>;

    /// Reads many keys, in the order asked; each has its own outcome. The default makes at most
    /// `parallelism` reads at once.
    async fn bulk_get(&self, requests: Vec<Get>, parallelism: usize) -> Result<Vec<Result<Option<Item>>>> {
        let reads = stream::iter(requests).map(|request| async move { self.get(&request).await });
        Ok(reads.buffered(parallelism.max(1)).collect().await)
    }

    /// Writes many keys, in order; stops at the first that fails, whose error is returned.
    async fn bulk_set(&self, requests: Vec<Set>) -> Result<()> {
        for request in requests {
            self.set(request).await?;
        }
        Ok(())
    }

    /// Removes many keys, in order; stops at the first that fails, whose error is returned.
    async fn bulk_delete(&self, requests: Vec<Delete>) -> Result<()> {
        for request in requests {
            self.delete(request).await?;
        }
        Ok(())
    }

    /// Carries out all operations in order, or none.
    async fn transact(&self, operations: Vec<Operation>, metadata: &Metadata) -> Result<()> {
        let _ = (operations, metadata);
        Err(Error::unsupported("a transaction"))
    }
}
