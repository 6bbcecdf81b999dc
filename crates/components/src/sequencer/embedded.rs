//! Ids from the embedded store.

use std::{ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Metadata, Open, Result,
    key_prefix::PrefixedKey,
    sequencer::{BiggerThan, Features, Sequencer},
};
use redb::ReadableTable;
use schemars::JsonSchema;
use serde::Deserialize;

use super::following;
use crate::client::embedded::{Durability, Effect, SEQUENCE, Store, StorePath};

/// Ids from a file of the process: never repeated, whatever ends the process. For one process on
/// one machine. Weak ids are taken in segments and cost next to nothing; each strong id waits for
/// a commit.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// The store's file, relative to the data directory. Components that name the same file share
    /// it, and so their counters. Default `layotto.db`.
    pub path: StorePath,
    /// When an id is answered: `fsync`, when it is on the disk; `os`, when the operating system
    /// has it. Components that share a file get the strictest of theirs. Default `fsync`.
    pub durability: Durability,
}

/// A sequencer in the embedded store.
pub struct Embedded {
    store: Arc<Store>,
}

impl Open for Embedded {
    const TYPE: &'static str = "embedded";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        let store = Store::shared(&config.path, config.durability, &cx).await?;
        Ok(Self { store })
    }
}

impl Embedded {
    async fn reserve(&self, key: &PrefixedKey, size: u32) -> Result<RangeInclusive<i64>> {
        let key = key.0.clone();
        self.store
            .write(move |tx| {
                let mut table = tx.open_table(SEQUENCE)?;
                let last = table.get(key.as_str())?.map_or(0, |last| last.value());
                let ids = following(last, size)?;
                if size == 0 {
                    return Ok((ids, Effect::None));
                }
                table.insert(key.as_str(), *ids.end())?;
                Ok((ids, Effect::Durable))
            })
            .await
    }
}

#[async_trait]
impl Component for Embedded {
    async fn ping(&self) -> Result<()> {
        self.store.check()
    }
}

#[async_trait]
impl Sequencer for Embedded {
    fn features(&self) -> Features {
        Features { segments: true }
    }

    async fn next_id(&self, key: &PrefixedKey, _: &Metadata) -> Result<i64> {
        self.reserve(key, 1).await.map(|ids| *ids.start())
    }

    async fn segment(&self, key: &PrefixedKey, size: u32) -> Result<RangeInclusive<i64>> {
        self.reserve(key, size).await
    }

    async fn ensure_bigger_than(&self, bounds: &BiggerThan) -> Result<()> {
        if bounds.is_empty() {
            return Ok(());
        }
        let bounds = bounds.clone();
        self.store
            .write(move |tx| {
                let mut table = tx.open_table(SEQUENCE)?;
                for (key, bound) in &bounds {
                    let last = table.get(key.0.as_str())?.map_or(0, |last| last.value());
                    table.insert(key.0.as_str(), last.max(*bound))?;
                }
                Ok(((), Effect::Durable))
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(folder: &tempfile::TempDir) -> Embedded {
        let cx = Context::standalone("test", folder.path());
        Embedded::open(Config::default(), cx).await.unwrap()
    }

    fn key() -> PrefixedKey {
        PrefixedKey("sequencer|||a".to_owned())
    }

    #[tokio::test]
    async fn ids_go_on_where_an_earlier_process_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let ids = open(&folder).await;
        assert_eq!(ids.next_id(&key(), &Metadata::new()).await.unwrap(), 1);
        assert_eq!(ids.segment(&key(), 100).await.unwrap(), 2..=101);
        assert!(ids.segment(&key(), 0).await.unwrap().is_empty());
        drop(ids);
        let ids = open(&folder).await;
        assert_eq!(ids.next_id(&key(), &Metadata::new()).await.unwrap(), 102);
    }

    #[tokio::test]
    async fn a_bound_raises_a_counter_and_never_lowers_it() {
        let folder = tempfile::tempdir().unwrap();
        let ids = open(&folder).await;
        for bound in [1000, 5] {
            let bounds = BiggerThan::from([(key(), bound)]);
            ids.ensure_bigger_than(&bounds).await.unwrap();
        }
        assert_eq!(ids.next_id(&key(), &Metadata::new()).await.unwrap(), 1001);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn callers_at_once_never_get_the_same_id() {
        let folder = tempfile::tempdir().unwrap();
        let ids = Arc::new(open(&folder).await);
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let ids = Arc::clone(&ids);
            callers.spawn(async move { ids.next_id(&key(), &Metadata::new()).await.unwrap() });
        }
        let mut handed_out = callers.join_all().await;
        handed_out.sort_unstable();
        assert_eq!(handed_out, (1..=32).collect::<Vec<_>>());
    }
}
