//! Sequencers.

pub mod embedded;
pub mod etcd;
pub mod memory;
pub mod postgresql;
pub mod redis;
pub mod zookeeper;

use std::ops::RangeInclusive;

use layotto_core::{Error, ErrorKind, Result};

pub use self::{
    embedded::Embedded, etcd::Etcd, memory::Memory, postgresql::Postgresql, redis::Redis,
    zookeeper::Zookeeper,
};

/// The `size` ids after `last`; empty for none.
fn following(last: i64, size: u32) -> Result<RangeInclusive<i64>> {
    let to = last.checked_add(size.into());
    match (to, last.checked_add(1)) {
        (Some(to), Some(from)) => Ok(from..=to),
        _ => Err(exhausted()),
    }
}

/// There is no greater id.
fn exhausted() -> Error {
    Error::new(
        ErrorKind::ResourceExhausted,
        "the sequence reached its greatest id",
    )
}
