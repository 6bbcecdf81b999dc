//! A map in memory whose entries may end by themselves.

use std::{
    collections::{BTreeSet, HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use layotto_core::Context;

use crate::clock::{Clock, Millis, is_over};

const SHARDS: usize = 16;
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
const SWEEP_BATCH: usize = 1024;

/// Entries by key, spread over shards so that two callers seldom meet.
///
/// An entry that ended is invisible at once; its memory is freed by a sweep once a second, which
/// holds one shard at a time and visits ended entries only.
pub(crate) struct Expiring<V> {
    shards: Box<[Mutex<Shard<V>>]>,
    hasher: RandomState,
    clock: Clock,
}

/// One part of the keys; whoever holds it sees no change of them by others.
pub(crate) struct Shard<V> {
    entries: HashMap<Arc<str>, Entry<V>>,
    ends: BTreeSet<(Millis, Arc<str>)>,
}

/// What a key holds.
pub(crate) struct Entry<V> {
    /// The value.
    pub(crate) value: V,
    /// When it ends; 0 for never.
    pub(crate) end: Millis,
}

impl<V: Send + 'static> Expiring<V> {
    /// An empty map whose sweep is owned by `cx`.
    pub(crate) fn open(clock: Clock, cx: &Context) -> Arc<Self> {
        let map = Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            clock,
        });
        let (weak, shutdown) = (Arc::downgrade(&map), cx.shutdown.clone());
        cx.tasks
            .spawn(async move { shutdown.run_until_cancelled(sweep_until_dropped(weak)).await });
        map
    }

    /// The clock that entries end by.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Which shard holds `key`.
    pub(crate) fn shard_of(&self, key: &str) -> usize {
        self.hasher.hash_one(key) as usize % SHARDS
    }

    /// Takes hold of a shard. Take several in ascending order, or two callers wait for each other.
    pub(crate) fn hold(&self, shard: usize) -> MutexGuard<'_, Shard<V>> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes hold of the shard of `key`.
    pub(crate) fn hold_key(&self, key: &str) -> MutexGuard<'_, Shard<V>> {
        self.hold(self.shard_of(key))
    }

    fn sweep(&self) {
        for shard in 0..SHARDS {
            while self.hold(shard).sweep(self.clock.now()) == SWEEP_BATCH {}
        }
    }
}

async fn sweep_until_dropped<V: Send + 'static>(map: Weak<Expiring<V>>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        match map.upgrade() {
            Some(map) => map.sweep(),
            None => return,
        }
    }
}

impl<V> Default for Shard<V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            ends: BTreeSet::new(),
        }
    }
}

impl<V> Shard<V> {
    /// What `key` holds. The clock is read only where the entry has an end.
    pub(crate) fn get(&self, key: &str, clock: &Clock) -> Option<&Entry<V>> {
        let entry = self.entries.get(key)?;
        (entry.end == 0 || !is_over(entry.end, clock.now())).then_some(entry)
    }

    /// Sets what `key` holds, until `end`.
    pub(crate) fn put(&mut self, key: &str, value: V, end: Millis) {
        self.remove(key);
        let key: Arc<str> = key.into();
        if end != 0 {
            self.ends.insert((end, Arc::clone(&key)));
        }
        self.entries.insert(key, Entry { value, end });
    }

    /// Removes `key`.
    pub(crate) fn remove(&mut self, key: &str) {
        if let Some((key, entry)) = self.entries.remove_entry(key)
            && entry.end != 0
        {
            self.ends.remove(&(entry.end, key));
        }
    }

    fn sweep(&mut self, now: Millis) -> usize {
        let mut swept = 0;
        while swept < SWEEP_BATCH && self.ends.first().is_some_and(|(end, _)| is_over(*end, now)) {
            if let Some((_, key)) = self.ends.pop_first() {
                self.entries.remove(&key);
                swept += 1;
            }
        }
        swept
    }
}

#[cfg(test)]
impl<V: Send + 'static> Expiring<V> {
    /// How many entries take up memory, ended or not.
    pub(crate) fn occupied(&self) -> usize {
        (0..SHARDS)
            .map(|shard| {
                let shard = self.hold(shard);
                shard.entries.len().max(shard.ends.len())
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ended_entries_are_invisible_at_once_and_freed_soon() {
        let map = Expiring::open(Clock::default(), &Context::standalone("test", "."));
        let end = map.clock().after(Duration::from_millis(100));
        map.hold_key("brief").put("brief", 1, end);
        map.hold_key("lasting").put("lasting", 2, 0);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(map.hold_key("brief").get("brief", map.clock()).is_none());
        assert_eq!(map.occupied(), 2);
        tokio::time::sleep(SWEEP_INTERVAL * 2).await;
        assert_eq!(map.occupied(), 1);
        assert_eq!(
            map.hold_key("lasting")
                .get("lasting", map.clock())
                .map(|e| e.value),
            Some(2)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_end_replaces_the_old_one() {
        let map = Expiring::open(Clock::default(), &Context::standalone("test", "."));
        let soon = map.clock().after(Duration::from_millis(10));
        map.hold_key("k").put("k", 1, soon);
        map.hold_key("k").put("k", 2, 0);
        tokio::time::sleep(SWEEP_INTERVAL * 2).await;
        assert_eq!(map.hold_key("k").get("k", map.clock()).map(|e| e.value), Some(2));
    }
}
