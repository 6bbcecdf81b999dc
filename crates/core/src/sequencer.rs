//! Unique, increasing ids.

use std::{collections::HashMap, ops::RangeInclusive};

use async_trait::async_trait;

use crate::{Component, Metadata, Result, key_prefix::PrefixedKey};

/// Lower bounds from the configuration key `biggerThan`: each id of a key is greater than its bound.
pub type BiggerThan = HashMap<PrefixedKey, i64>;

/// What a sequencer can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// [`Sequencer::segment`] works.
    pub segments: bool,
}

/// A source of ids.
#[async_trait]
pub trait Sequencer: Component {
    /// What this sequencer can do.
    fn features(&self) -> Features;

    /// The next id of `key`: greater than every id handed out for it before, by anyone.
    async fn next_id(&self, key: &PrefixedKey, metadata: &Metadata) -> Result<i64>;

    /// Reserves the next `size` ids of `key`, from the same counter as [`next_id`](Self::next_id).
    async fn segment(&self, key: &PrefixedKey, size: u32) -> Result<RangeInclusive<i64>> {
        let _ = (key, size);
        Err(crate::Error::unsupported("a segment of ids"))
    }

    /// Makes every later id of each key greater than its bound, where the product can; fails with
    /// [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition) where a bound does not hold.
    async fn ensure_bigger_than(&self, bounds: &BiggerThan) -> Result<()>;
}
