use layotto_core::{
    Component, Error, Metadata, Result,
    key_prefix::{PrefixedKey, Scope},
    sequencer::{BiggerThan, Features, Sequencer},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::ops::fake;

struct Unused;

impl Component for Unused {}

#[async_trait::async_trait]
impl Sequencer for Unused {
    fn features(&self) -> Features {
        Features { segments: true }
    }

    async fn next_id(&self, _: &PrefixedKey, _: &Metadata) -> Result<i64> {
        Err(Error::internal("unused"))
    }

    async fn ensure_bigger_than(&self, _: &BiggerThan) -> Result<()> {
        Ok(())
    }
}

fn source(key: &str) -> Source {
    Source {
        slot: fake::slot("demo", Scope::Sequencer, Arc::new(Unused) as Arc<dyn Sequencer>),
        key: PrefixedKey(key.to_owned()),
        tasks: TaskTracker::new(),
        shutdown: CancellationToken::new(),
    }
}

#[test]
fn forgets_what_is_out_of_use_and_never_more_than_needed() {
    let mut shard = Shard::default();
    for key in 0..KEYS_PER_SHARD {
        shard.get_or_insert("demo", &key.to_string(), source("k"));
    }
    assert_eq!(shard.keys, KEYS_PER_SHARD);
    // All are new, hence in use: half goes.
    shard.get_or_insert("demo", "one more", source("k"));
    assert_eq!(shard.keys, KEYS_PER_SHARD / 2 + 1);
    for key in 0..KEYS_PER_SHARD / 2 - 1 {
        shard.get_or_insert("demo", &format!("later {key}"), source("k"));
    }
    assert_eq!(shard.keys, KEYS_PER_SHARD);
    // The older half was not used since, the younger half was.
    shard.get_or_insert("demo", "yet one more", source("k"));
    assert_eq!(shard.keys, KEYS_PER_SHARD / 2 + 1);
    assert!(shard.get("demo", "one more").is_some());
}

#[test]
fn a_known_key_keeps_its_segments() {
    let cache = SegmentCaches::default();
    let first = cache.segments("demo", "k", source("k"));
    let again = cache.segments("demo", "k", source("k"));
    let other = cache.segments("other", "k", source("k"));
    assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &other));
}
