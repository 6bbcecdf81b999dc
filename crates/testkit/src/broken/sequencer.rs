//! Defective sequencers.

use std::{ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use layotto_core::{
    Component, Metadata, Result,
    key_prefix::PrefixedKey,
    sequencer::{BiggerThan, Features, Sequencer},
};

use super::Defect;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    RepeatsIds,
    OverlapsSegments,
    IgnoresBounds,
}

pub(super) fn defects() -> Vec<Defect<dyn Sequencer>> {
    vec![
        Defect {
            name: "a sequencer that repeats ids",
            wrap: |inner| Faulty::around(inner, Fault::RepeatsIds),
            caught_by: &[
                "ids_are_positive_and_increase",
                "ids_are_unique_and_ordered_under_concurrency",
            ],
        },
        Defect {
            name: "a sequencer whose segments overlap",
            wrap: |inner| Faulty::around(inner, Fault::OverlapsSegments),
            caught_by: &[
                "segments_and_ids_never_meet",
                "segments_and_ids_never_meet_under_concurrency",
            ],
        },
        Defect {
            name: "a sequencer that ignores lower bounds",
            wrap: |inner| Faulty::around(inner, Fault::IgnoresBounds),
            caught_by: &[
                "ids_are_greater_than_the_bound",
                "segments_are_greater_than_the_bound",
            ],
        },
    ]
}

struct Faulty {
    inner: Arc<dyn Sequencer>,
    fault: Fault,
}

impl Faulty {
    fn around(inner: Arc<dyn Sequencer>, fault: Fault) -> Arc<dyn Sequencer> {
        Arc::new(Self { inner, fault })
    }
}

#[async_trait]
impl Component for Faulty {
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[async_trait]
impl Sequencer for Faulty {
    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn next_id(&self, key: &PrefixedKey, metadata: &Metadata) -> Result<i64> {
        let next = self.inner.next_id(key, metadata).await?;
        Ok(if self.fault == Fault::RepeatsIds {
            next / 2 + 1
        } else {
            next
        })
    }

    async fn segment(&self, key: &PrefixedKey, size: u32) -> Result<RangeInclusive<i64>> {
        let (from, to) = self.inner.segment(key, size).await?.into_inner();
        Ok(if self.fault == Fault::OverlapsSegments {
            from - 1..=to
        } else {
            from..=to
        })
    }

    async fn ensure_bigger_than(&self, bounds: &BiggerThan) -> Result<()> {
        if self.fault == Fault::IgnoresBounds {
            return Ok(());
        }
        self.inner.ensure_bigger_than(bounds).await
    }
}
