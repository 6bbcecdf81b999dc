//! Lock stores.

pub mod embedded;
pub mod etcd;
pub mod memory;
pub mod postgresql;
pub mod redis;
pub mod redis_cluster;
pub mod zookeeper;

use layotto_core::lock::Status;

pub use self::{
    embedded::Embedded, etcd::Etcd, memory::Memory, postgresql::Postgresql, redis::Redis,
    redis_cluster::RedisCluster, zookeeper::Zookeeper,
};

/// What `owner` may do with a lock that `holder` holds.
fn standing(holder: Option<&str>, owner: &str) -> Status {
    match holder {
        None => Status::Unexist,
        Some(holder) if holder == owner => Status::Success,
        Some(_) => Status::BelongsToOthers,
    }
}

#[cfg(test)]
mod tests;
