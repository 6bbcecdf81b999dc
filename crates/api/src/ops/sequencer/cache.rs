//! The segments of every key in use. Two stores never share ids, even where their keys are equal.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::segments::{Segments, Source};

const SHARDS: usize = 16;
/// Keys of one shard: 65536 in all, some 20 MiB with keys of usual length.
const KEYS_PER_SHARD: usize = 4096;

/// The segments of every key in use, by store and key; keys out of use are forgotten, and their
/// unused ids lost, when there are too many.
#[derive(Default)]
pub(crate) struct SegmentCaches {
    shards: [RwLock<Shard>; SHARDS],
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    stores: HashMap<String, HashMap<String, Arc<Segments>>>,
    keys: usize,
}

impl SegmentCaches {
    /// The next id of `key`, when one is there.
    pub(super) fn hit(&self, store: &str, key: &str) -> Option<i64> {
        self.read(store, key).get(store, key)?.try_next()
    }

    /// The segments of `key`, made from `source` when they are new.
    pub(super) fn segments(&self, store: &str, key: &str, source: Source) -> Arc<Segments> {
        if let Some(segments) = self.read(store, key).get(store, key) {
            return Arc::clone(segments);
        }
        self.write(store, key).get_or_insert(store, key, source)
    }

    fn shard(&self, store: &str, key: &str) -> &RwLock<Shard> {
        let hash = self.hasher.hash_one((store, key)) as usize;
        &self.shards[hash % SHARDS]
    }

    fn read(&self, store: &str, key: &str) -> RwLockReadGuard<'_, Shard> {
        self.shard(store, key)
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, store: &str, key: &str) -> RwLockWriteGuard<'_, Shard> {
        self.shard(store, key)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn get(&self, store: &str, key: &str) -> Option<&Arc<Segments>> {
        self.stores.get(store)?.get(key)
    }

    fn get_or_insert(&mut self, store: &str, key: &str, source: Source) -> Arc<Segments> {
        if let Some(segments) = self.get(store, key) {
            return Arc::clone(segments);
        }
        if self.keys >= KEYS_PER_SHARD {
            self.evict();
        }
        let segments = Arc::new(Segments::new(source));
        self.stores
            .entry(store.to_owned())
            .or_default()
            .insert(key.to_owned(), Arc::clone(&segments));
        self.keys += 1;
        segments
    }

    /// Forgets what was not used since the last eviction; where all was, half of it.
    fn evict(&mut self) {
        self.retain(|segments, _| segments.was_touched());
        if self.keys >= KEYS_PER_SHARD {
            self.retain(|_, index| index % 2 == 0);
        }
    }

    fn retain(&mut self, keep: impl Fn(&Segments, usize) -> bool) {
        let mut index = 0;
        for keys in self.stores.values_mut() {
            keys.retain(|_, segments| {
                index += 1;
                keep(segments, index)
            });
        }
        self.keys = self.stores.values().map(HashMap::len).sum();
    }
}

#[cfg(test)]
mod tests;
