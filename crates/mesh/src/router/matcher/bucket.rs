//! The rules that one path leads to.

use std::collections::HashMap;

use super::{super::rule::Key, Search};

type ByValue = HashMap<Box<str>, Vec<u32>>;

/// Rules by the value of a header or variable; those that need no certain value are all looked at.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// A handful of names, so a list.
    keyed: Vec<(Key, ByValue)>,
    rest: Vec<u32>,
    first: u32,
}

impl Bucket {
    /// Adds the rule `index`, which is larger than the ones before, and needs the value of `key`.
    pub(super) fn add(&mut self, index: u32, key: Option<(&Key, &str)>) {
        if self.keyed.is_empty() && self.rest.is_empty() {
            self.first = index;
        }
        match key {
            None => self.rest.push(index),
            Some((key, value)) => self.values(key).entry(value.into()).or_default().push(index),
        }
    }

    fn values(&mut self, key: &Key) -> &mut ByValue {
        let at = self
            .keyed
            .iter()
            .position(|(known, _)| known == key)
            .unwrap_or_else(|| {
                self.keyed.push((key.clone(), ByValue::new()));
                self.keyed.len() - 1
            });
        &mut self.keyed[at].1
    }

    /// Its lowest rule.
    pub(super) fn first(&self) -> u32 {
        self.first
    }

    /// Looks for a better rule here.
    pub(super) fn search(&self, search: &mut Search<'_>) {
        if !search.may_gain_from(self.first) {
            return;
        }
        for (key, values) in &self.keyed {
            let value = key.value(search.subject);
            if let Some(candidates) = value.and_then(|value| values.get(&*value)) {
                search.examine(candidates);
            }
        }
        search.examine(&self.rest);
    }
}
