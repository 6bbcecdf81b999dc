//! Clusters: sets of hosts that can answer alike, and the choice among them.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use crate::{Address, upstream};

/// All clusters of a configuration.
#[derive(Debug, Default)]
pub struct Clusters(pub HashMap<Arc<str>, Arc<Cluster>>);

/// A set of hosts that can answer alike.
#[derive(Debug)]
pub struct Cluster {
    /// Its name.
    pub name: Arc<str>,
    /// Its servers.
    pub hosts: Vec<Arc<Host>>,
    /// Its settings.
    pub settings: Settings,
    limits: Arc<Limits>,
}

/// Settings of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// See [`Cluster::connect_timeout`].
    pub connect_timeout: Option<Duration>,
    /// See [`Cluster::idle_timeout`].
    pub idle_timeout: Option<Duration>,
    /// See [`Cluster::max_requests_per_connection`].
    pub max_requests_per_connection: Option<u32>,
    /// Limits: connections, pending, requests, retries; 0: none.
    pub limits: [u64; 4],
    /// See [`Cluster::tls`].
    pub tls: Option<Arc<dyn upstream::Secure>>,
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
    /// Connections to it.
    pub pool: upstream::Pool,
    /// Tries with a reply, and without.
    pub outcomes: [AtomicU64; 2],
}

/// What a choice of a host depends on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pick<'a> {
    /// What balancers that hash go by.
    pub hash: u64,
    /// Hosts that failed this request already, to be avoided while there are others.
    pub tried: &'a [Arc<Host>],
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The status of the reply; `None`: there was none, as the connection could not be made, was
    /// lost, or the host took too long.
    pub status: Option<http::StatusCode>,
    /// How long it took until the head of the reply, or the failure.
    pub latency: Duration,
}

/// A request that a host is answering; dropped when the reply has ended.
#[derive(Debug)]
#[must_use = "the request counts as open until this is dropped"]
pub struct InFlight(Arc<Host>);

/// What can be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// TCP, at the first of these addresses that takes the connection; at least one.
    Tcp(Arc<[SocketAddr]>),
    /// A Unix socket.
    Unix(PathBuf),
}

/// The limits of a cluster.
#[derive(Debug)]
pub struct Limits {
    taken: [AtomicU64; 4],
    max: [u64; 4],
}

/// Something taken from a limit; given back when it is dropped.
#[derive(Debug)]
#[must_use = "dropping the permit gives it back"]
pub struct Permit(Arc<Limits>, usize);

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overflow {
    /// `max_connections`.
    #[error("the cluster has max_connections connections already")]
    Connections,
    /// `max_pending_requests`.
    #[error("max_pending_requests requests wait for a connection to the cluster already")]
    PendingRequests,
    /// `max_requests`.
    #[error("the cluster has max_requests requests already")]
    Requests,
    /// `max_retries`.
    #[error("the cluster has as many retries as it may have")]
    Retries,
}

impl Clusters {
    /// The cluster called `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.0.get(name)
    }
}

impl Cluster {
    /// A cluster of `hosts`.
    pub fn new(name: &str, hosts: Vec<Arc<Host>>, settings: Settings) -> Arc<Self> {
        let limits = Arc::new(Limits {
            taken: Default::default(),
            max: settings.limits,
        });
        Arc::new(Self {
            name: name.into(),
            hosts,
            settings,
            limits,
        })
    }

    /// Chooses a host that is well; `None`: there is none.
    pub fn choose(&self, pick: &Pick<'_>) -> Option<Arc<Host>> {
        let tried = |host: &&Arc<Host>| pick.tried.iter().any(|tried| Arc::ptr_eq(tried, host));
        let fresh = self.hosts.iter().find(|host| !tried(host));
        fresh.or_else(|| self.hosts.first()).cloned()
    }

    /// How long a connection may take until it can be used.
    pub fn connect_timeout(&self) -> Duration {
        self.settings.connect_timeout.unwrap_or(Duration::from_secs(10))
    }

    /// How long a connection may be idle; `None`: for ever.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.settings.idle_timeout
    }

    /// How many requests a connection carries; `None`: any number.
    pub fn max_requests_per_connection(&self) -> Option<u32> {
        self.settings.max_requests_per_connection
    }

    /// What may go to the cluster at a time.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// How connections to a host are made safe; `None`: not at all.
    pub fn tls(&self, _host: &Host) -> Option<&Arc<dyn upstream::Secure>> {
        self.settings.tls.as_ref()
    }
}

impl Host {
    /// A host at `address`.
    pub fn new(address: Address, hostname: Option<&str>) -> Arc<Self> {
        Arc::new(Self {
            name: address.to_string().into(),
            address,
            hostname: hostname.map(Into::into),
            active: AtomicUsize::new(0),
            pool: upstream::Pool::default(),
            outcomes: Default::default(),
        })
    }

    /// Where to connect now.
    pub async fn resolve(&self) -> io::Result<Endpoint> {
        match &self.address {
            Address::Unix(path) => Ok(Endpoint::Unix(path.clone())),
            Address::Tcp { host, port } => {
                let found = tokio::net::lookup_host((host.as_str(), *port)).await?;
                Ok(Endpoint::Tcp(found.collect()))
            }
        }
    }

    /// Counts a request as open until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.active.fetch_add(1, Relaxed);
        InFlight(self.clone())
    }

    /// Notes how a try ended: once per try, when the head of the reply is there or the try failed.
    pub fn record(&self, outcome: Outcome) {
        let index = usize::from(outcome.status.is_none());
        self.outcomes[index].fetch_add(1, Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

impl Limits {
    /// For the life of a connection, from before it is made.
    pub fn try_connection(self: &Arc<Self>) -> Result<Permit, Overflow> {
        self.take(0, Overflow::Connections)
    }

    /// For the wait for a connection.
    pub fn try_pending(self: &Arc<Self>) -> Result<Permit, Overflow> {
        self.take(1, Overflow::PendingRequests)
    }

    /// For a request, until its reply has ended.
    pub fn try_request(self: &Arc<Self>) -> Result<Permit, Overflow> {
        self.take(2, Overflow::Requests)
    }

    /// For a retry, beside the permit for its request.
    pub fn try_retry(self: &Arc<Self>) -> Result<Permit, Overflow> {
        self.take(3, Overflow::Retries)
    }

    fn take(self: &Arc<Self>, index: usize, overflow: Overflow) -> Result<Permit, Overflow> {
        let max = if self.max[index] == 0 {
            u64::MAX
        } else {
            self.max[index]
        };
        let more = |taken| (taken < max).then_some(taken + 1);
        match self.taken[index].fetch_update(SeqCst, SeqCst, more) {
            Ok(_) => Ok(Permit(self.clone(), index)),
            Err(_) => Err(overflow),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken[self.1].fetch_sub(1, SeqCst);
    }
}
