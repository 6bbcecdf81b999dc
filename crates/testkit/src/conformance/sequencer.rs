//! Sequencers.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use futures::future::join_all;
use layotto_core::{
    ErrorKind::{FailedPrecondition, InvalidArgument, ResourceExhausted, Unsupported},
    Metadata,
    key_prefix::PrefixedKey,
    sequencer::{BiggerThan, Sequencer},
};

use super::{
    Assertion, Subject, Verified, always, assertions,
    check::{OrSay, ensure, equal, fails},
    common, durable,
};

type Ids = Subject<dyn Sequencer>;

/// The assertions of a sequencer.
pub fn assertions() -> Vec<Assertion<dyn Sequencer>> {
    let own: Vec<Assertion<dyn Sequencer>> = assertions! {
        always => [
            ids_are_positive_and_increase,
            ids_are_unique_and_ordered_under_concurrency,
            keys_are_independent,
            segments_work_only_where_announced,
            ids_are_greater_than_the_bound,
            a_lower_bound_changes_nothing,
        ],
        counts => [a_bound_of_one_key_leaves_others, the_end_of_the_range_is_an_error],
        segments => [
            segments_have_the_size_asked,
            segments_and_ids_never_meet,
            segments_and_ids_never_meet_under_concurrency,
            an_empty_segment_consumes_nothing,
            segments_are_greater_than_the_bound,
        ],
        durable => [ids_go_on_after_a_restart],
    };
    own.into_iter().chain(common::assertions()).collect()
}

fn segments(ids: &Ids) -> Option<&'static str> {
    (!ids.features().segments).then_some("has no segments")
}

fn counts(ids: &Ids) -> Option<&'static str> {
    (!ids.fixture.facts.counts).then_some("its ids are no counter")
}

impl Ids {
    async fn next(&self, key: &PrefixedKey) -> Result<i64, String> {
        self.next_id(key, &Metadata::new()).await.or_say("next id")
    }

    async fn ensure_above(&self, key: &PrefixedKey, bound: i64) -> Verified {
        let bounds = BiggerThan::from([(key.clone(), bound)]);
        match self.ensure_bigger_than(&bounds).await {
            // Products that cannot raise a counter may say so; then no id may be had either.
            Err(error) if error.kind() == FailedPrecondition => {
                let next = self.next_id(key, &Metadata::new()).await;
                fails(
                    "an id after a bound that does not hold",
                    next,
                    &[FailedPrecondition],
                )
            }
            result => result.or_say("setting a lower bound"),
        }
    }
}

async fn ids_are_positive_and_increase(ids: Ids) -> Verified {
    let key = ids.key("k");
    let mut last = 0;
    for _ in 0..50 {
        let next = ids.next(&key).await?;
        ensure!(next > last, "id {next} follows {last}");
        last = next;
    }
    Ok(())
}

/// Whatever was handed out before a call began is less than what the call gives.
async fn ids_are_unique_and_ordered_under_concurrency(ids: Ids) -> Verified {
    let greatest = Arc::new(AtomicI64::new(0));
    let workers = (0..8).map(|_| {
        let (ids, key, greatest) = (ids.clone(), ids.key("k"), greatest.clone());
        tokio::spawn(async move {
            let mut mine = Vec::new();
            for _ in 0..20 {
                let before = greatest.load(Ordering::SeqCst);
                let next = ids.next(&key).await?;
                ensure!(next > before, "id {next} was handed out after {before}");
                greatest.fetch_max(next, Ordering::SeqCst);
                mine.push(next);
            }
            Ok(mine)
        })
    });
    let mut seen = HashSet::new();
    for joined in join_all(workers).await {
        for id in joined.map_err(|error| error.to_string())?? {
            ensure!(seen.insert(id), "id {id} was handed out twice");
        }
    }
    equal("ids handed out", &seen.len(), &160)
}

async fn keys_are_independent(ids: Ids) -> Verified {
    let keys = ["k", "k2", "K", "k/1"].map(|name| ids.key(name));
    let mut last = [0; 4];
    for _ in 0..5 {
        for (key, last) in keys.iter().zip(&mut last) {
            let next = ids.next(key).await?;
            ensure!(next > *last, "id {next} of {} follows {last}", key.0);
            if ids.fixture.facts.counts {
                equal(&format!("id of {}", key.0), &next, &(*last + 1))?;
            }
            *last = next;
        }
    }
    Ok(())
}

async fn segments_work_only_where_announced(ids: Ids) -> Verified {
    let result = ids.segment(&ids.key("k"), 10).await;
    if ids.features().segments {
        return result.or_say("segment").map(drop);
    }
    fails("segment", result, &[Unsupported])
}

async fn ids_are_greater_than_the_bound(ids: Ids) -> Verified {
    let (fresh, used) = (ids.key("fresh"), ids.key("used"));
    ids.next(&used).await?;
    for key in [&fresh, &used] {
        ids.ensure_above(key, 5000).await?;
        if let Ok(next) = ids.next(key).await {
            ensure!(next > 5000, "id {next} with the lower bound 5000");
            ensure!(
                ids.next(key).await? > next,
                "the counter stands still above its bound"
            );
        }
    }
    Ok(())
}

async fn a_lower_bound_changes_nothing(ids: Ids) -> Verified {
    let key = ids.key("k");
    let mut last = 0;
    for _ in 0..5 {
        last = ids.next(&key).await?;
    }
    for bound in [-5, 0, last - 1] {
        ids.ensure_above(&key, bound).await?;
        let next = ids.next(&key).await?;
        ensure!(next > last, "id {next} follows {last} after the bound {bound}");
        last = next;
    }
    Ok(())
}

async fn a_bound_of_one_key_leaves_others(ids: Ids) -> Verified {
    let (bound, other) = (ids.key("bound"), ids.key("other"));
    ids.ensure_above(&bound, 1_000_000).await?;
    let next = ids.next(&other).await?;
    ensure!(next < 1_000_000, "id {next} of a key without a bound");
    Ok(())
}

async fn the_end_of_the_range_is_an_error(ids: Ids) -> Verified {
    let key = ids.key("k");
    ids.ensure_above(&key, i64::MAX - 1).await?;
    let Ok(last) = ids.next(&key).await else {
        return Ok(());
    };
    equal("the last id", &last, &i64::MAX)?;
    let beyond = ids.next_id(&key, &Metadata::new()).await;
    ensure!(beyond.is_err(), "after the last id came {beyond:?}");
    if ids.features().segments {
        let beyond = ids.segment(&key, 10).await;
        ensure!(beyond.is_err(), "after the last id came the segment {beyond:?}");
    }
    Ok(())
}

async fn segments_have_the_size_asked(ids: Ids) -> Verified {
    let key = ids.key("k");
    let mut last = 0;
    for size in [1, 2, 100, 10_000] {
        let segment = ids.segment(&key, size).await.or_say("segment")?;
        let (from, to) = (*segment.start(), *segment.end());
        equal("size of a segment", &(to - from + 1), &i64::from(size))?;
        ensure!(from > last, "a segment from {from} follows {last}");
        last = to;
    }
    Ok(())
}

async fn segments_and_ids_never_meet(ids: Ids) -> Verified {
    let key = ids.key("k");
    let mut last = 0;
    for _ in 0..10 {
        let id = ids.next(&key).await?;
        ensure!(id > last, "id {id} follows a segment up to {last}");
        let segment = ids.segment(&key, 7).await.or_say("segment")?;
        ensure!(
            *segment.start() > id,
            "a segment from {} follows id {id}",
            segment.start()
        );
        last = *segment.end();
    }
    Ok(())
}

async fn segments_and_ids_never_meet_under_concurrency(ids: Ids) -> Verified {
    let workers = (0..8).map(|worker| {
        let (ids, key) = (ids.clone(), ids.key("k"));
        tokio::spawn(async move {
            let mut mine = Vec::new();
            for _ in 0..10 {
                if worker % 2 == 0 {
                    mine.push(ids.next(&key).await?);
                } else {
                    mine.extend(ids.segment(&key, 5).await.or_say("segment")?);
                }
            }
            Ok::<_, String>(mine)
        })
    });
    let mut seen = HashSet::new();
    for joined in join_all(workers).await {
        for id in joined.map_err(|error| error.to_string())?? {
            ensure!(seen.insert(id), "id {id} was handed out twice");
        }
    }
    equal("ids handed out", &seen.len(), &(4 * 10 + 4 * 10 * 5))
}

async fn an_empty_segment_consumes_nothing(ids: Ids) -> Verified {
    let key = ids.key("k");
    let before = ids.next(&key).await?;
    match ids.segment(&key, 0).await {
        Ok(segment) => ensure!(segment.is_empty(), "a segment of size 0 holds {segment:?}"),
        result => fails("segment of size 0", result, &[InvalidArgument])?,
    }
    let after = ids.next(&key).await?;
    ensure!(after > before, "id {after} follows {before}");
    Ok(())
}

async fn segments_are_greater_than_the_bound(ids: Ids) -> Verified {
    let key = ids.key("k");
    ids.ensure_above(&key, 5000).await?;
    match ids.segment(&key, 10).await {
        Ok(segment) => ensure!(
            *segment.start() > 5000,
            "a segment from {} with the bound 5000",
            segment.start()
        ),
        result => fails("segment", result, &[FailedPrecondition, ResourceExhausted])?,
    }
    Ok(())
}

async fn ids_go_on_after_a_restart(ids: Ids) -> Verified {
    let own = ids.fresh([]).await?;
    let (key, bound) = (own.key("k"), own.key("bound"));
    let mut last = 0;
    for _ in 0..5 {
        last = own.next(&key).await?;
    }
    if own.features().segments {
        last = *own.segment(&key, 10).await.or_say("segment")?.end();
    }
    own.ensure_above(&bound, 700).await?;
    let holds = own.next(&bound).await.is_ok();
    let own = own.reopen().await?;
    let next = own.next(&key).await?;
    ensure!(next > last, "id {next} follows {last} over a restart");
    // Where the product cannot raise a counter, the bound is set again before any id is asked for.
    if holds {
        let next = own.next(&bound).await?;
        ensure!(next > 700, "id {next} with the lower bound 700, after a restart");
    }
    Ok(())
}
