use std::{
    collections::HashSet,
    ops::RangeInclusive,
    sync::{
        Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use layotto_core::{
    Component,
    key_prefix::Scope,
    sequencer::{BiggerThan, Features},
};
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::{Components, ops::fake};

/// How a fetch of a segment goes.
#[derive(Debug, Clone, Copy)]
enum Fetch {
    Done { after: u64 },
    Failed { after: u64 },
    Never,
}

/// A counter whose segments fail and dawdle as told; untold they succeed at once.
#[derive(Default)]
struct Counter {
    last: AtomicI64,
    fetches: Mutex<Vec<Fetch>>,
    segments: AtomicUsize,
    strong: AtomicUsize,
    size: Option<i64>,
    without_segments: bool,
}

impl Component for Counter {}

#[async_trait]
impl Sequencer for Counter {
    fn features(&self) -> Features {
        Features {
            segments: !self.without_segments,
        }
    }

    async fn next_id(&self, _: &PrefixedKey, _: &Metadata) -> Result<i64> {
        self.strong.fetch_add(1, Ordering::Relaxed);
        Ok(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    async fn segment(&self, _: &PrefixedKey, size: u32) -> Result<RangeInclusive<i64>> {
        self.segments.fetch_add(1, Ordering::Relaxed);
        let told = self.fetches.lock().unwrap().pop();
        let (after, fails) = match told.unwrap_or(Fetch::Done { after: 0 }) {
            Fetch::Done { after } => (after, false),
            Fetch::Failed { after } => (after, true),
            Fetch::Never => std::future::pending().await,
        };
        tokio::time::sleep(Duration::from_millis(after)).await;
        if fails {
            return Err(Error::unavailable("away"));
        }
        let size = self.size.unwrap_or(i64::from(size));
        let before = self.last.fetch_add(size, Ordering::Relaxed);
        Ok(before + 1..=before + size)
    }

    async fn ensure_bigger_than(&self, _: &BiggerThan) -> Result<()> {
        Ok(())
    }
}

fn runtime(stores: &[(&str, &Arc<Counter>)]) -> Arc<Runtime> {
    let mut components = Components::default();
    for (name, counter) in stores {
        let counter = Arc::clone(counter) as Arc<dyn Sequencer>;
        components
            .sequencer
            .insert(fake::slot(name, Scope::Sequencer, counter));
    }
    fake::runtime_of(components)
}

async fn weak(runtime: &Runtime, store: &str, key: &str) -> Result<i64> {
    next_id(runtime, store, key, Some(Increment::Weak), &Metadata::new()).await
}

async fn strong(runtime: &Runtime, key: &str) -> Result<i64> {
    next_id(runtime, "demo", key, Some(Increment::Strong), &Metadata::new()).await
}

#[tokio::test]
async fn checks_in_the_order_of_upstream() {
    let counter = Arc::new(Counter::default());
    let some = runtime(&[("demo", &counter)]);
    let none = runtime(&[]);
    let weak = Some(Increment::Weak);
    for (runtime, store, key, increment, expected) in [
        (&none, "a", "", None, "Sequencer store is not configured"),
        (&some, "nope", "", None, "Key is empty in sequencer store nope"),
        (&some, "nope", "a||b", None, "options.Increment is illegal"),
        (
            &some,
            "nope",
            "a||b",
            weak,
            "input key/keyPrefix 'a||b' can't contain '||'",
        ),
        (&some, "nope", "k", weak, "Sequencer store nope not found"),
    ] {
        let error = next_id(runtime, store, key, increment, &Metadata::new())
            .await
            .unwrap_err();
        assert_eq!(error.message(), expected);
    }
}

#[tokio::test]
async fn strong_ids_jump_over_the_segment_of_weak_ones() {
    let counter = Arc::new(Counter::default());
    let runtime = runtime(&[("demo", &counter)]);
    assert_eq!(strong(&runtime, "k").await.unwrap(), 1);
    assert_eq!(weak(&runtime, "demo", "k").await.unwrap(), 2);
    assert_eq!(strong(&runtime, "k").await.unwrap(), 10_002);
    assert_eq!(weak(&runtime, "demo", "k").await.unwrap(), 3);
}

#[tokio::test]
async fn weak_ids_cost_one_fetch_in_ten_thousand_and_are_fetched_ahead_at_upstreams_point() {
    let counter = Arc::new(Counter::default());
    let runtime = runtime(&[("demo", &counter)]);
    for expected in 1..=8_998 {
        assert_eq!(weak(&runtime, "demo", "k").await.unwrap(), expected);
    }
    tokio::task::yield_now().await;
    assert_eq!(counter.segments.load(Ordering::Relaxed), 1);
    assert_eq!(weak(&runtime, "demo", "k").await.unwrap(), 8_999);
    runtime.tasks.close();
    runtime.tasks.wait().await;
    assert_eq!(counter.segments.load(Ordering::Relaxed), 2);
    runtime.tasks.reopen();
    for expected in 9_000..=18_998 {
        assert_eq!(weak(&runtime, "demo", "k").await.unwrap(), expected);
    }
    assert_eq!(counter.segments.load(Ordering::Relaxed), 2);
}

// deviation: D021
#[tokio::test]
async fn two_stores_and_two_keys_never_share_ids() {
    let (one, other) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    let runtime = runtime(&[("one", &one), ("other", &other)]);
    assert_eq!(weak(&runtime, "one", "k").await.unwrap(), 1);
    assert_eq!(weak(&runtime, "other", "k").await.unwrap(), 1);
    assert_eq!(weak(&runtime, "one", "k2").await.unwrap(), 10_001);
}

#[tokio::test]
async fn weak_is_strong_where_there_are_no_segments() {
    let counter = Arc::new(Counter {
        without_segments: true,
        ..Counter::default()
    });
    let runtime = runtime(&[("demo", &counter)]);
    assert_eq!(weak(&runtime, "demo", "k").await.unwrap(), 1);
    assert_eq!(counter.strong.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_first_fetch_is_answered_and_not_remembered() {
    let counter = Arc::new(Counter::default());
    counter
        .fetches
        .lock()
        .unwrap()
        .push(Fetch::Failed { after: 5_000 });
    let runtime = runtime(&[("demo", &counter)]);
    let callers = futures::future::join_all((0..50).map(|_| weak(&runtime, "demo", "k"))).await;
    for outcome in callers {
        assert_eq!(outcome.unwrap_err().message(), "away");
    }
    assert_eq!(counter.segments.load(Ordering::Relaxed), 1);
    assert_eq!(weak(&runtime, "demo", "k").await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_neither_loses_the_segment_nor_stops_others() {
    let counter = Arc::new(Counter::default());
    counter.fetches.lock().unwrap().push(Fetch::Done { after: 1_000 });
    let runtime = runtime(&[("demo", &counter)]);
    let early = tokio::time::timeout(Duration::from_millis(10), weak(&runtime, "demo", "k"));
    assert!(early.await.is_err());
    assert_eq!(weak(&runtime, "demo", "k").await.unwrap(), 1);
    assert_eq!(counter.segments.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_key_waits_two_seconds_and_recovers() {
    let counter = Arc::new(Counter {
        size: Some(10),
        ..Counter::default()
    });
    let runtime = runtime(&[("demo", &counter)]);
    counter
        .fetches
        .lock()
        .unwrap()
        .extend([Fetch::Done { after: 5_000 }, Fetch::Done { after: 0 }]);
    for expected in 1..=10 {
        assert_eq!(weak(&runtime, "demo", "k").await.unwrap(), expected);
    }
    let before = Instant::now();
    let error = weak(&runtime, "demo", "k").await.unwrap_err();
    assert_eq!(
        (error.message(), before.elapsed()),
        ("[DoubleBuffer] swap error", Duration::from_secs(2))
    );
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(weak(&runtime, "demo", "k").await.unwrap(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_ahead_is_tried_five_times_at_once_and_then_every_two_seconds() {
    let counter = Arc::new(Counter {
        size: Some(10),
        ..Counter::default()
    });
    let runtime = runtime(&[("demo", &counter)]);
    let mut fetches = vec![Fetch::Failed { after: 0 }; 7];
    fetches.push(Fetch::Done { after: 0 });
    *counter.fetches.lock().unwrap() = fetches;
    assert_eq!(weak(&runtime, "demo", "k").await.unwrap(), 1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(counter.segments.load(Ordering::Relaxed), 1 + 5);
    tokio::time::sleep(Duration::from_millis(2_000)).await;
    assert_eq!(counter.segments.load(Ordering::Relaxed), 1 + 6);
    tokio::time::sleep(Duration::from_millis(4_000)).await;
    assert_eq!(counter.segments.load(Ordering::Relaxed), 1 + 8);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_fetch_ends_with_the_runtime() {
    let counter = Arc::new(Counter {
        size: Some(10),
        ..Counter::default()
    });
    counter
        .fetches
        .lock()
        .unwrap()
        .extend([Fetch::Never, Fetch::Done { after: 0 }]);
    let runtime = runtime(&[("demo", &counter)]);
    weak(&runtime, "demo", "k").await.unwrap();
    runtime.tasks.close();
    runtime.shutdown.cancel();
    runtime.tasks.wait().await;
}

fn fetch() -> impl Strategy<Value = Fetch> {
    prop_oneof![
        (0..50_u64).prop_map(|after| Fetch::Done { after }),
        (0..50_u64).prop_map(|after| Fetch::Failed { after }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn concurrent_callers_never_get_an_id_twice(
        fetches in proptest::collection::vec(fetch(), 0..40),
        size in 1..300_i64,
        callers in 1..16_usize,
        calls in 1..200_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let counter = Arc::new(Counter { size: Some(size), fetches: Mutex::new(fetches), ..Counter::default() });
            let runtime = self::runtime(&[("demo", &counter)]);
            let callers: Vec<_> = (0..callers).map(|_| {
                let runtime = Arc::clone(&runtime);
                tokio::spawn(async move {
                    let mut ids = Vec::new();
                    for call in 0..calls {
                        if let Ok(id) = weak(&runtime, "demo", "k").await {
                            ids.push(id);
                        }
                        if call % 7 == 0 {
                            tokio::task::yield_now().await;
                        }
                    }
                    ids
                })
            }).collect();
            let mut seen = HashSet::new();
            for caller in callers {
                let ids = caller.await.unwrap();
                prop_assert!(ids.is_sorted(), "{ids:?}");
                for id in ids {
                    prop_assert!(seen.insert(id), "{id} was handed out twice");
                }
            }
            Ok(())
        })?;
    }
}
