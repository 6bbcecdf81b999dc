//! Ids that no other process makes too.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// A source of ids, each process with its own random keys.
#[derive(Debug, Default)]
pub(super) struct Ids {
    keys: RandomState,
    more_keys: RandomState,
    count: AtomicU64,
}

impl Ids {
    /// An id that is not 0.
    pub(super) fn short(&self) -> u64 {
        self.keys.hash_one(self.count.fetch_add(1, Relaxed)).max(1)
    }

    /// An id that is not 0.
    pub(super) fn long(&self) -> u128 {
        let count = self.count.fetch_add(1, Relaxed);
        let (high, low) = (self.keys.hash_one(count), self.more_keys.hash_one(count));
        (u128::from(high) << 64 | u128::from(low)).max(1)
    }
}
