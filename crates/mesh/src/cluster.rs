//! Clusters: sets of hosts that can answer alike, and the choice among them.

use std::sync::{Arc, atomic::AtomicUsize};

use crate::Address;

/// All clusters of a configuration.
#[derive(Debug, Default)]
pub struct Clusters;

/// A set of hosts that can answer alike.
#[derive(Debug)]
pub struct Cluster {
    /// Its name.
    pub name: Arc<str>,
}

/// A server of a cluster.
#[derive(Debug)]
pub struct Host {
    /// Its address as the file has it, which names it.
    pub name: Arc<str>,
    /// Where to connect.
    pub address: Address,
    /// Its name, for `Host` and for TLS.
    pub hostname: Option<Arc<str>>,
    /// Requests that it is answering now.
    pub active: AtomicUsize,
}

/// What a choice of a host depends on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pick<'a> {
    /// What balancers that hash go by.
    pub hash: u64,
    /// Hosts that failed this request already, to be avoided while there are others.
    pub tried: &'a [Arc<Host>],
}

impl Clusters {
    /// The cluster called `name`.
    pub fn get(&self, _name: &str) -> Option<&Arc<Cluster>> {
        None
    }
}

impl Cluster {
    /// Chooses a host that is well; `None`: there is none.
    pub fn choose(&self, _pick: &Pick<'_>) -> Option<Arc<Host>> {
        None
    }
}
