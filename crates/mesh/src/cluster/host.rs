//! A server of a cluster: where it is, how it fares.

use std::{
    fmt, io,
    sync::{
        Arc, Weak,
        atomic::{
            AtomicU8, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use http::StatusCode;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Cluster, Endpoint, Stats,
    latency::Latency,
    outlier::{Outlier, Settings, Window},
    resolve::{Lookup, Resolver},
};
use crate::{Address, upstream};

/// A server of a cluster. Its health, pool and counters belong to this cluster alone, whatever
/// other clusters have the same address.
pub struct Host {
    /// Its address as the file has it, which names it; in a `STRICT_DNS` cluster an address that
    /// was looked up.
    pub name: Arc<str>,
    /// Where to connect.
    pub address: Address,
    /// Its name, for `Host` and for TLS.
    pub hostname: Option<Arc<str>>,
    /// Its share relative to the other hosts', 1 to 128.
    pub weight: u32,
    /// Whether connections to it are plain although the cluster has TLS.
    pub tls_disable: bool,
    /// Requests that it is answering now; see [`begin`](Self::begin).
    pub active: AtomicUsize,
    /// The connections to it.
    pub pool: upstream::Pool,
    /// What is counted of it.
    pub stats: Arc<Stats>,
    pub(super) cluster_stats: Arc<Stats>,
    pub(super) latency: Latency,
    pub(super) window: Window,
    pub(super) gone: CancellationToken,
    outlier: Arc<Outlier>,
    cluster: Weak<Cluster>,
    resolver: Resolver,
    ills: AtomicU8,
    born: Instant,
    /// Milliseconds after `born`.
    well_since: AtomicU64,
    /// Milliseconds after `born`.
    ejected_until: AtomicU64,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The status of the reply; `None`: there was none, as the connection could not be made, was
    /// lost, or the host took too long.
    pub status: Option<StatusCode>,
    /// How long it took until the head of the reply, or the failure.
    pub latency: Duration,
}

/// A request that a host is answering; dropped when the reply has ended.
#[derive(Debug)]
#[must_use = "the request counts as open until this is dropped"]
pub struct InFlight(Arc<Host>);

/// Why a host does not count as well; upstream's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Ill {
    /// A health check says so.
    Checked = 0x1,
    /// Its replies to requests say so.
    Ejected = 0x2,
}

/// What a host has from its cluster.
#[derive(Debug, Clone)]
pub(super) struct Home {
    pub(super) cluster: Weak<Cluster>,
    pub(super) stats: Arc<Stats>,
    pub(super) outlier: Arc<Outlier>,
    pub(super) lookup: Lookup,
    pub(super) alive: CancellationToken,
}

/// What tells a host from others of its cluster.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) name: Arc<str>,
    pub(super) address: Address,
    pub(super) hostname: Option<Arc<str>>,
    pub(super) weight: u32,
    pub(super) tls_disable: bool,
}

impl Host {
    pub(super) fn new(place: Place, home: &Home) -> Self {
        Self {
            resolver: Resolver::new(&place.address, home.lookup.clone()),
            name: place.name,
            address: place.address,
            hostname: place.hostname,
            weight: place.weight,
            tls_disable: place.tls_disable,
            active: AtomicUsize::new(0),
            pool: upstream::Pool::default(),
            stats: Arc::default(),
            cluster_stats: home.stats.clone(),
            latency: Latency::default(),
            window: Window::default(),
            gone: home.alive.child_token(),
            outlier: home.outlier.clone(),
            cluster: home.cluster.clone(),
            ills: AtomicU8::new(0),
            born: Instant::now(),
            well_since: AtomicU64::new(0),
            ejected_until: AtomicU64::new(0),
        }
    }

    /// Takes over what `before`, the host of the same name in the cluster's last configuration, went
    /// through; `checked` says whether health checks go on, as else nothing ends what they found.
    pub(super) fn succeed(&mut self, before: &Self, checked: bool) {
        let ills = match checked {
            true => before.ills.load(Acquire),
            false => before.ills.load(Acquire) & !(Ill::Checked as u8),
        };
        self.stats = before.stats.clone();
        self.latency = before.latency.clone();
        self.born = before.born;
        self.ills = AtomicU8::new(ills);
        self.well_since = AtomicU64::new(before.well_since.load(Acquire));
        self.ejected_until = AtomicU64::new(before.ejected_until.load(Acquire));
    }

    /// Whether it belongs to the cluster that `home` is of, not to the one before it.
    pub(super) fn is_of(&self, home: &Home) -> bool {
        self.cluster.ptr_eq(&home.cluster)
    }

    /// Where to connect now. The answer to a name is used for 15 s, and longer if there is no other.
    pub async fn resolve(&self) -> io::Result<Endpoint> {
        self.resolver.resolve().await
    }

    /// Counts a request as open until the guard is dropped: in `active`, and in the counters of the
    /// host and its cluster.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.active.fetch_add(1, Relaxed);
        self.count(|stats| {
            stats.request_total.inc();
            stats.request_active.inc();
        });
        InFlight(self.clone())
    }

    /// Counts something of the host and of its cluster.
    pub fn count(&self, count: impl Fn(&Stats)) {
        count(&self.stats);
        count(&self.cluster_stats);
    }

    /// Its counters and those of its cluster, for what may outlive it.
    pub(crate) fn counters(&self) -> [Arc<Stats>; 2] {
        [self.stats.clone(), self.cluster_stats.clone()]
    }

    /// Notes how a try ended: once per try, when the head of the reply is there or the try failed.
    pub fn record(&self, outcome: Outcome) {
        let failed = outcome.status.is_none_or(|status| status.as_u16() >= 500);
        let nanos = u64::try_from(outcome.latency.as_nanos()).unwrap_or(u64::MAX);
        self.count(|stats| {
            stats.request_duration_time_total.add(nanos);
            match failed {
                true => stats.response_failed.inc(),
                false => stats.response_success.inc(),
            }
        });
        self.latency.record(&outcome, Instant::now());
        if let Some(cluster) = self
            .outlier
            .record(self, &outcome)
            .and_then(|()| self.cluster.upgrade())
        {
            self.outlier.judge(&cluster);
        }
    }

    /// From now on ejects hosts of this cluster by `settings`, as long as their owner keeps them;
    /// the first owner of several counts.
    pub fn judge_by(&self, settings: &Arc<Settings>) {
        self.outlier.judge_by(settings);
    }

    /// Whether it counts as well.
    pub fn is_healthy(&self) -> bool {
        self.ills.load(Acquire) == 0
    }

    /// Whether it is ejected for its replies to requests.
    pub fn is_ejected(&self) -> bool {
        self.has(Ill::Ejected)
    }

    pub(super) fn has(&self, ill: Ill) -> bool {
        self.ills.load(Acquire) & ill as u8 != 0
    }

    /// Sets or clears an ill; returns whether that changed it. The cluster has to be refreshed then.
    pub(super) fn set(&self, ill: Ill, on: bool) -> bool {
        let bit = ill as u8;
        let before = match on {
            true => self.ills.fetch_or(bit, AcqRel),
            false => self.ills.fetch_and(!bit, AcqRel),
        };
        if !on && before == bit {
            self.well_since.store(self.now(), Release);
        }
        (before & bit != 0) != on
    }

    pub(super) fn eject(&self, recover: Duration) -> bool {
        self.ejected_until
            .store(self.now().saturating_add(millis(recover)), Release);
        self.set(Ill::Ejected, true)
    }

    /// When it stops being ejected, if it is.
    pub(super) fn recovery(&self) -> Option<Instant> {
        let after = Duration::from_millis(self.ejected_until.load(Acquire));
        self.has(Ill::Ejected).then(|| self.born + after)
    }

    /// How long it has counted as well.
    pub(super) fn age(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.well_since.load(Relaxed)))
    }

    fn now(&self) -> u64 {
        millis(self.born.elapsed())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("name", &self.name)
            .field("weight", &self.weight)
            .field("healthy", &self.is_healthy())
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

impl InFlight {
    /// The host that is answering.
    pub fn host(&self) -> &Arc<Host> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
        self.0.count(|stats| stats.request_active.dec());
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
