//! A trie, kept flat: the prefixes in order, each with the longest other one that it starts with.

use std::collections::BTreeMap;

/// Values by prefix.
#[derive(Debug)]
pub(super) struct Prefixes<T>(Vec<Entry<T>>);

#[derive(Debug)]
struct Entry<T> {
    prefix: Box<str>,
    parent: Option<usize>,
    value: T,
}

impl<T> Prefixes<T> {
    pub(super) fn new(values: BTreeMap<Box<str>, T>) -> Self {
        let mut entries: Vec<Entry<T>> = Vec::with_capacity(values.len());
        for (prefix, value) in values {
            let mut parent = entries.len().checked_sub(1);
            while let Some(above) = parent.and_then(|index| entries.get(index))
                && !prefix.starts_with(&*above.prefix)
            {
                parent = above.parent;
            }
            entries.push(Entry {
                prefix,
                parent,
                value,
            });
        }
        Self(entries)
    }

    /// The values of all prefixes of `text`, the longest first.
    pub(super) fn of<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a T> {
        // All that sorts between a prefix of `text` and `text` starts with that prefix, so every
        // prefix is above the last entry that does not sort after `text`.
        let after = self.0.partition_point(|entry| *entry.prefix <= *text);
        let last = after.checked_sub(1).and_then(|index| self.0.get(index));
        std::iter::successors(last, |entry| self.0.get(entry.parent?))
            .filter(|entry| text.starts_with(&*entry.prefix))
            .map(|entry| &entry.value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_a_scan_finds(
            prefixes in prop::collection::btree_set("[ab/]{0,5}", 0..12),
            text in "[ab/]{0,8}",
        ) {
            let trie = Prefixes::new(prefixes.iter().map(|p| (p.as_str().into(), p.clone())).collect());
            let found: Vec<_> = trie.of(&text).collect();
            let mut scanned: Vec<_> = prefixes.iter().filter(|p| text.starts_with(p.as_str())).collect();
            scanned.sort_by_key(|p| std::cmp::Reverse(p.len()));
            prop_assert_eq!(found, scanned);
        }
    }
}
