//! Ids from the memory of the process.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Metadata, Open, Result,
    key_prefix::PrefixedKey,
    sequencer::{BiggerThan, Features, Sequencer},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::following;

/// Ids from the memory of the process: they start at 1 again when it starts again, so they are
/// unique within one run only. For tests and development.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {}

/// A sequencer in memory. Its keys stay for as long as it lives: forgetting one would repeat ids.
#[derive(Default)]
pub struct Memory {
    last: Mutex<HashMap<String, i64>>,
}

impl Open for Memory {
    const TYPE: &'static str = "in-memory";
    type Config = Config;

    async fn open(_: Config, _: Context) -> Result<Self> {
        Ok(Self::default())
    }
}

impl Component for Memory {}

impl Memory {
    fn reserve(&self, key: &PrefixedKey, size: u32) -> Result<RangeInclusive<i64>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let current = last.get(&key.0).copied().unwrap_or_default();
        let ids = following(current, size)?;
        if size > 0 {
            last.insert(key.0.clone(), *ids.end());
        }
        Ok(ids)
    }
}

#[async_trait]
impl Sequencer for Memory {
    fn features(&self) -> Features {
        Features { segments: true }
    }

    async fn next_id(&self, key: &PrefixedKey, _: &Metadata) -> Result<i64> {
        self.reserve(key, 1).map(|ids| *ids.start())
    }

    async fn segment(&self, key: &PrefixedKey, size: u32) -> Result<RangeInclusive<i64>> {
        self.reserve(key, size)
    }

    async fn ensure_bigger_than(&self, bounds: &BiggerThan) -> Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, bound) in bounds {
            let current = last.entry(key.0.clone()).or_default();
            *current = (*current).max(*bound);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use layotto_core::ErrorKind;

    use super::*;

    fn key(key: &str) -> PrefixedKey {
        PrefixedKey(key.to_owned())
    }

    #[tokio::test]
    async fn segments_and_single_ids_come_from_one_counter() {
        let ids = Memory::default();
        assert_eq!(ids.next_id(&key("a"), &Metadata::new()).await.unwrap(), 1);
        assert_eq!(ids.segment(&key("a"), 10).await.unwrap(), 2..=11);
        assert!(ids.segment(&key("a"), 0).await.unwrap().is_empty());
        assert_eq!(ids.next_id(&key("a"), &Metadata::new()).await.unwrap(), 12);
        assert_eq!(ids.next_id(&key("b"), &Metadata::new()).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_bound_raises_a_counter_and_never_lowers_it() {
        let ids = Memory::default();
        for bound in [1000, 5] {
            let bounds = BiggerThan::from([(key("a"), bound)]);
            ids.ensure_bigger_than(&bounds).await.unwrap();
        }
        assert_eq!(ids.next_id(&key("a"), &Metadata::new()).await.unwrap(), 1001);
    }

    #[tokio::test]
    async fn the_last_id_is_followed_by_an_error() {
        let ids = Memory::default();
        let bounds = BiggerThan::from([(key("a"), i64::MAX - 1)]);
        ids.ensure_bigger_than(&bounds).await.unwrap();
        assert_eq!(ids.next_id(&key("a"), &Metadata::new()).await.unwrap(), i64::MAX);
        let error = ids.next_id(&key("a"), &Metadata::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    }
}
