//! Clusters: sets of hosts that can answer alike, and the choice among them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use self::config::ClusterManager;
use crate::{Address, ConfigError};

pub mod config;

/// All clusters of a configuration.
#[derive(Debug, Default)]
pub struct Clusters(HashMap<Arc<str>, Arc<Cluster>>);

/// A set of hosts that can answer alike.
#[derive(Debug)]
pub struct Cluster {
    /// Its name.
    pub name: Arc<str>,
    hosts: Vec<Arc<Host>>,
    limits: Arc<Limits>,
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

/// The limits of one cluster, and what is taken of them.
#[derive(Debug)]
pub struct Limits {
    connections: AtomicU64,
    max_connections: u64,
}

/// Something taken from a limit; given back when it is dropped.
#[derive(Debug)]
#[must_use = "dropping the permit gives it back"]
pub struct Permit(Arc<Limits>);

/// A limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cluster has max_connections connections already")]
pub struct Overflow;

impl Clusters {
    /// Builds the clusters of `manager`.
    pub fn build(manager: &ClusterManager, _previous: Option<&Self>) -> Result<Self, ConfigError> {
        let mut built = HashMap::new();
        for config in &manager.clusters {
            let host = |host: &config::HostConfig| {
                let address = host.address.parse();
                let address = address.map_err(|error: crate::address::AddressError| {
                    ConfigError::new("hosts[].address", error.to_string())
                })?;
                Ok(Arc::new(Host {
                    name: host.address.as_str().into(),
                    address,
                    hostname: None,
                    active: AtomicUsize::new(0),
                }))
            };
            let max = config.circuit_breakers.first().map_or(0, |it| it.max_connections);
            let cluster = Cluster {
                name: config.name.as_str().into(),
                hosts: config.hosts.iter().map(host).collect::<Result<_, _>>()?,
                limits: Arc::new(Limits {
                    connections: AtomicU64::new(0),
                    max_connections: max.into(),
                }),
            };
            built.insert(cluster.name.clone(), Arc::new(cluster));
        }
        Ok(Self(built))
    }

    /// The cluster called `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.0.get(name)
    }
}

impl Cluster {
    /// Chooses a host that is well; `None`: there is none.
    pub fn choose(&self, pick: &Pick<'_>) -> Option<Arc<Host>> {
        let fresh = |host: &&Arc<Host>| !pick.tried.iter().any(|tried| Arc::ptr_eq(tried, host));
        self.hosts.iter().find(fresh).or(self.hosts.first()).cloned()
    }

    /// How much may go to it at one time.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// How long a connection may take to be made.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(10)
    }
}

impl Limits {
    /// For the life of a connection, from before it is made.
    pub fn try_connection(self: &Arc<Self>) -> Result<Permit, Overflow> {
        let taken = self.connections.fetch_add(1, Relaxed);
        let permit = Permit(self.clone());
        match self.max_connections > 0 && taken >= self.max_connections {
            true => Err(Overflow),
            false => Ok(permit),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}
