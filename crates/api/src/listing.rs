//! What is live now, for the actuator: counted, and listed until it ends.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Live things; clones share them.
#[derive(Debug)]
pub struct Listing<T: Ord>(Arc<Mutex<BTreeMap<T, usize>>>);

impl<T: Ord> Clone for Listing<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Ord> Default for Listing<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Ord + Clone> Listing<T> {
    /// All of them, sorted; equal ones show once.
    pub fn list(&self) -> Vec<T> {
        self.counts().keys().cloned().collect()
    }

    /// Lists `listed` until the entry is dropped.
    pub(crate) fn enter(&self, listed: T) -> Entry<T> {
        *self.counts().entry(listed.clone()).or_default() += 1;
        Entry {
            listing: self.clone(),
            listed,
        }
    }
}

impl<T: Ord> Listing<T> {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<T, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one thing listed.
#[derive(Debug)]
pub(crate) struct Entry<T: Ord> {
    listing: Listing<T>,
    listed: T,
}

impl<T: Ord> Drop for Entry<T> {
    fn drop(&mut self) {
        let mut counts = self.listing.counts();
        let Some(count) = counts.get_mut(&self.listed) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.listed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_entries_show_once_until_the_last_is_gone() {
        let listing = Listing::default();
        let (first, again, other) = (listing.enter("a"), listing.enter("a"), listing.enter("b"));
        assert_eq!(listing.list(), ["a", "b"]);
        drop((first, other));
        assert_eq!(listing.list(), ["a"]);
        drop(again);
        assert!(listing.list().is_empty());
    }
}
