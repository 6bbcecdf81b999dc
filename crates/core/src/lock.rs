//! Distributed locks: non-blocking, not re-entrant, with a lease that ends by itself.

use std::time::Duration;

use async_trait::async_trait;

use crate::{Component, Result, key_prefix::PrefixedKey};

/// Who wants, holds or gives back which lock.
#[derive(Debug, Clone, PartialEq)]
pub struct Owned {
    /// The resource, prefixed.
    pub resource: PrefixedKey,
    /// The owner's name, unique to one holder.
    pub owner: String,
}

/// The outcome of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// The lock is held now.
    Acquired {
        /// Strictly increasing over all grants of one resource; `None` where the store is
        /// documented as unfenced.
        fencing_token: Option<u64>,
    },
    /// Somebody holds it, perhaps this owner.
    Busy,
}

/// The outcome of giving back or extending a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Success,
    /// Nobody holds the lock.
    Unexist,
    /// Somebody else holds the lock.
    BelongsToOthers,
    /// The store can do this only in the process that got the lock.
    InternalError,
}

/// A lock store.
#[async_trait]
pub trait LockStore: Component {
    /// Takes the lock when it is free, for `expire` (whole seconds, at least one).
    async fn try_lock(&self, lock: &Owned, expire: Duration) -> Result<Grant>;

    /// Gives the lock back when `lock.owner` holds it.
    async fn unlock(&self, lock: &Owned) -> Result<Status>;

    /// Sets the lease to end `expire` from now when `lock.owner` holds the lock. The second part
    /// is the grant's fencing token, where the store keeps it.
    async fn keep_alive(&self, lock: &Owned, expire: Duration) -> Result<(Status, Option<u64>)>;
}
