//! State stores.

mod change;
pub mod embedded;
pub mod etcd;
pub mod memory;
pub mod postgresql;
pub mod redis;
pub mod zookeeper;

pub use self::{
    embedded::Embedded, etcd::Etcd, memory::Memory, postgresql::Postgresql, redis::Redis,
    zookeeper::Zookeeper,
};

#[cfg(test)]
mod tests;
