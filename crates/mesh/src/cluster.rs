//! Clusters: sets of hosts that can answer alike, and the choice among them.
//!
//! What changes while a cluster lives - its hosts and their health - is one immutable set that is
//! swapped whole, so that choosing takes no lock. Each cluster owns its tasks (health checks,
//! look-ups): they end when it is dropped.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use self::{
    config::{ClusterConfig, ClusterManager, HostConfig, Keepalive, MAX_WEIGHT},
    discovery::dns::Dns,
    health::Checks,
    host::{Home, Ill, Place},
    hosts::Hosts,
    outlier::Outlier,
    resolve::Lookup,
};
use crate::{
    Address, ConfigError,
    tls::{client::Connector, config::TlsContext},
    upstream::Secure,
};

mod balance;
pub mod config;
mod directory;
mod discovery;
mod figures;
mod health;
mod host;
mod hosts;
mod latency;
pub mod limits;
pub mod outlier;
mod resolve;
pub mod stats;

pub use self::{
    host::{Host, InFlight, Outcome},
    limits::{Limits, Overflow, Permit},
    resolve::Endpoint,
    stats::{HealthStats, Stats},
};

/// All clusters of a configuration.
#[derive(Debug, Default)]
pub struct Clusters(HashMap<Arc<str>, Arc<Cluster>>);

/// A set of hosts that can answer alike.
#[derive(Debug)]
pub struct Cluster {
    /// Its name.
    pub name: Arc<str>,
    /// What is counted of it; goes on when its configuration changes.
    pub stats: Arc<Stats>,
    /// What is counted of its health checks; goes on when its configuration changes.
    pub health: Arc<HealthStats>,
    config: ClusterConfig,
    tls: Option<Tls>,
    limits: Arc<Limits>,
    hosts: ArcSwap<Hosts>,
    /// Held while `hosts` is replaced.
    change: Mutex<()>,
    home: Home,
    dns: Option<Arc<Dns>>,
    checks: Option<Arc<Checks>>,
    started: AtomicBool,
}

/// TLS towards the hosts of a cluster.
#[derive(Debug)]
struct Tls {
    context: TlsContext,
    /// `None`: it is switched off.
    connector: Option<Connector>,
}

impl Tls {
    fn new(context: &TlsContext, folders: &[PathBuf]) -> Result<Self, ConfigError> {
        Ok(Self {
            connector: Connector::new(context, folders)?,
            context: context.clone(),
        })
    }
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
    /// Builds the clusters of `manager`. A cluster of `previous` whose configuration is the same is
    /// taken over as it is; of one that changed, the counters and the health of hosts with the same
    /// address are. Errors name the key, relative to the `cluster_manager`.
    pub fn build(manager: &ClusterManager, previous: Option<&Self>) -> Result<Self, ConfigError> {
        Self::build_in(manager, &[], previous)
    }

    /// Like [`build`](Self::build); relative paths that the working directory does not have are
    /// looked up in `folders`.
    pub fn build_in(
        manager: &ClusterManager,
        folders: &[PathBuf],
        previous: Option<&Self>,
    ) -> Result<Self, ConfigError> {
        Self::construct(manager, folders, previous, &Lookup::system())
    }

    fn construct(
        manager: &ClusterManager,
        folders: &[PathBuf],
        previous: Option<&Self>,
        lookup: &Lookup,
    ) -> Result<Self, ConfigError> {
        let mut built = Self::default();
        for (path, config) in directory::clusters(manager, folders)? {
            if built.get(&config.name).is_some() {
                let text = format!("{:?} is the name of another cluster already", config.name);
                return Err(ConfigError::new("name", text).under(&path));
            }
            let context = match config.cluster_manager_tls {
                true => manager.tls_context.as_ref(),
                false => config.tls_context.as_ref(),
            };
            let previous = previous.and_then(|previous| previous.get(&config.name));
            let cluster = match previous {
                Some(same) if same.config == config && same.tls_context() == context => same.clone(),
                previous => {
                    let tls = context.map(|context| Tls::new(context, folders)).transpose();
                    let tls = tls.map_err(|error| error.under("tls_context"));
                    tls.and_then(|tls| Cluster::build(config, tls, previous, lookup))
                        .map_err(|error| error.under(&path))?
                }
            };
            built.0.insert(cluster.name.clone(), cluster);
        }
        Ok(built)
    }

    /// Starts health checks and look-ups; of clusters taken over they go on. To be called in a
    /// runtime once the configuration is in use; another call does nothing. They end when the last
    /// request that uses a cluster has let go of it.
    pub fn start(&self) {
        self.iter().for_each(Cluster::start);
    }

    /// Waits until the names of all `STRICT_DNS` clusters were looked up once, with or without
    /// success, but no longer than `limit`: until then such a cluster has no hosts. After
    /// [`start`](Self::start).
    pub async fn ready(&self, limit: Duration) {
        let asked = self
            .iter()
            .filter_map(|cluster| cluster.dns.as_ref())
            .map(|dns| dns.asked());
        if tokio::time::timeout(limit, futures::future::join_all(asked))
            .await
            .is_err()
        {
            tracing::warn!("names of clusters are not looked up yet");
        }
    }

    /// The cluster called `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.0.get(name)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.0.values()
    }
}

impl Cluster {
    fn build(
        config: ClusterConfig,
        tls: Option<Tls>,
        previous: Option<&Arc<Self>>,
        lookup: &Lookup,
    ) -> Result<Arc<Self>, ConfigError> {
        validate(&config)?;
        let places = places(&config.hosts)?;
        let checks = Checks::new(&config.health_check).map_err(|error| error.under("health_check"))?;
        let dns = match config.kind.as_str() {
            "STRICT_DNS" => Some(Arc::new(Dns::new(&config, places.clone(), lookup.clone())?)),
            _ => None,
        };
        if let (Some(dns), Some(before)) = (&dns, previous.and_then(|before| before.dns.as_ref())) {
            dns.succeed(before);
        }
        let places = dns.as_ref().map_or(places, |dns| dns.places());
        let stats = previous.map(|before| before.stats.clone()).unwrap_or_default();
        let cluster = Arc::new_cyclic(|cluster| {
            let home = Home {
                cluster: cluster.clone(),
                stats: stats.clone(),
                outlier: Arc::new(Outlier::new()),
                lookup: lookup.clone(),
                alive: CancellationToken::new(),
            };
            Self {
                name: config.name.as_str().into(),
                limits: Limits::new(
                    config.circuit_breakers.first().copied().unwrap_or_default(),
                    stats.clone(),
                ),
                stats,
                health: previous.map(|before| before.health.clone()).unwrap_or_default(),
                hosts: ArcSwap::from_pointee(Hosts::new(Arc::new([]), balance::build(&config, &[]))),
                config,
                tls,
                change: Mutex::new(()),
                home,
                dns,
                checks,
                started: AtomicBool::new(false),
            }
        });
        let before = previous.map(|before| before.hosts()).unwrap_or_default();
        cluster.replace_from(places, &before);
        Ok(cluster)
    }

    /// Chooses a host that is well, if possible one that was not tried; `None`: there is none, and
    /// the caller answers 503 with the flag `NO_HEALTHY`.
    pub fn choose(&self, pick: &Pick<'_>) -> Option<Arc<Host>> {
        let mut hosts = self.hosts.load();
        if hosts.is_due() {
            self.refresh();
            hosts = self.hosts.load();
        }
        let chosen = hosts.choose(pick).cloned();
        if chosen.is_none() {
            self.stats.request_failure_eject.inc();
        }
        chosen
    }

    /// Its hosts now, whether well or not, in the order of the configuration.
    pub fn hosts(&self) -> Arc<[Arc<Host>]> {
        self.hosts.load().all().clone()
    }

    /// How much may go to it at one time.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Its configuration.
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// How long a connection may take to be made.
    pub fn connect_timeout(&self) -> Duration {
        match self.config.connect_timeout.0 {
            Duration::ZERO => ClusterConfig::default().connect_timeout.0,
            timeout => timeout,
        }
    }

    /// How long a connection may be unused before it is closed; `None`: for ever.
    pub fn idle_timeout(&self) -> Option<Duration> {
        Some(self.config.idle_timeout.0).filter(|timeout| !timeout.is_zero())
    }

    /// How many requests one connection carries before it is closed; `None`: any number.
    pub fn max_requests_per_connection(&self) -> Option<u32> {
        Some(self.config.max_request_per_conn).filter(|max| *max > 0)
    }

    /// When unused connections are asked whether they still live.
    pub fn keepalive(&self) -> &Keepalive {
        &self.config.keepalive
    }

    /// How connections to `host` are made safe; `None`: they are plain.
    pub fn tls(&self, host: &Host) -> Option<&dyn Secure> {
        Some(self.connector(host)?)
    }

    /// What secures bytes to `host` that are no requests; `None`: they stay as they are.
    pub fn connector(&self, host: &Host) -> Option<&Connector> {
        let tls = self.tls.as_ref().filter(|_| !host.tls_disable)?;
        tls.connector.as_ref()
    }

    fn tls_context(&self) -> Option<&TlsContext> {
        self.tls.as_ref().map(|tls| &tls.context)
    }

    fn start(self: &Arc<Self>) {
        let _changing = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if self.started.swap(true, Relaxed) {
            return;
        }
        self.hosts().iter().for_each(|host| self.watch(host));
        if let Some(dns) = &self.dns {
            let (alive, task) = (self.home.alive.clone(), dns.clone().run(Arc::downgrade(self)));
            tokio::spawn(async move { alive.run_until_cancelled_owned(task).await });
        }
    }

    /// Checks the health of `host` from now on.
    fn watch(self: &Arc<Self>, host: &Arc<Host>) {
        if let Some(checks) = &self.checks {
            checks.spawn(self, host);
        }
    }

    /// Puts what changed of the health of hosts into effect, and ends ejections that are over.
    fn refresh(&self) {
        let _changing = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let hosts = self.hosts.load();
        if hosts.is_due() {
            let now = tokio::time::Instant::now();
            let due = |host: &&Arc<Host>| host.recovery().is_some_and(|at| at <= now);
            for host in hosts.all().iter().filter(due) {
                host.set(Ill::Ejected, false);
                tracing::info!(cluster = %self.name, host = %host.name, "host is no longer ejected");
            }
        }
        self.store(hosts.refreshed());
    }

    /// Has these hosts from now on. Those that it has already stay as they are.
    fn replace(self: &Arc<Self>, places: Vec<Place>) {
        self.replace_from(places, &self.hosts());
    }

    /// Like [`replace`](Self::replace); hosts of `before` that are of another cluster hand on what
    /// they went through.
    fn replace_from(self: &Arc<Self>, places: Vec<Place>, before: &[Arc<Host>]) {
        let _changing = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let before: HashMap<&str, &Arc<Host>> = before.iter().map(|host| (&*host.name, host)).collect();
        let mut names = HashSet::new();
        let (mut all, mut new) = (Vec::with_capacity(places.len()), Vec::new());
        for place in places {
            if !names.insert(place.name.clone()) {
                continue;
            }
            let host = match before.get(&*place.name) {
                Some(same) if same.is_of(&self.home) => (*same).clone(),
                before => {
                    let mut host = Host::new(place, &self.home);
                    if let Some(before) = before {
                        host.succeed(before, self.checks.is_some());
                    }
                    let host = Arc::new(host);
                    new.push(host.clone());
                    host
                }
            };
            all.push(host);
        }
        if new.is_empty() && all.len() == self.hosts.load().all().len() {
            return;
        }
        for host in self
            .hosts
            .load()
            .all()
            .iter()
            .filter(|host| !names.contains(&host.name))
        {
            host.gone.cancel();
        }
        let balancer = balance::build(&self.config, &all);
        self.store(Hosts::new(all.into(), balancer));
        if self.started.load(Relaxed) {
            new.iter().for_each(|host| self.watch(host));
        }
    }

    fn store(&self, hosts: Hosts) {
        self.health.healthy.set(hosts.healthy().len() as u64);
        self.hosts.store(Arc::new(hosts));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.home.alive.cancel();
    }
}

impl Pick<'_> {
    /// Whether `host` failed this request already.
    fn has_tried(&self, host: &Host) -> bool {
        self.tried.iter().any(|tried| tried.name == host.name)
    }
}

fn validate(config: &ClusterConfig) -> Result<(), ConfigError> {
    let (lb, slow) = (&config.lbconfig, &config.slow_start);
    let not_negative = "a number of 0 or more is expected";
    let checks = [
        (config.name.is_empty(), "name", "a cluster needs a name"),
        (
            !is_size(lb.active_request_bias),
            "lbconfig.active_request_bias",
            not_negative,
        ),
        (
            !is_size(lb.client_error_bias),
            "lbconfig.client_error_bias",
            not_negative,
        ),
        (
            !is_size(lb.server_error_bias),
            "lbconfig.server_error_bias",
            not_negative,
        ),
        (!is_size(slow.aggression), "slow_start.aggression", not_negative),
        (
            !(0.0..=1.0).contains(&slow.min_weight_percent),
            "slow_start.min_weight_percent",
            "a share from 0 to 1 is expected",
        ),
    ];
    if let Some((_, key, text)) = checks.into_iter().find(|(wrong, ..)| *wrong) {
        return Err(ConfigError::new(key, text));
    }
    if config.kind == "ORIGINAL_DST" || config.lb_type == "LB_ORIGINAL_DST" {
        tracing::warn!(
            cluster = config.name,
            "hosts are not chosen by original destination; only those listed are"
        );
    }
    Ok(())
}

fn is_size(n: f64) -> bool {
    n.is_finite() && n >= 0.0
}

fn places(hosts: &[HostConfig]) -> Result<Vec<Place>, ConfigError> {
    let read = |(index, host): (usize, &HostConfig)| {
        let wrong = |text: String| ConfigError::new(format!("hosts[{index}].address"), text);
        let address: Address = host.address.parse().map_err(|error| wrong(format!("{error}")))?;
        if matches!(&address, Address::Tcp { host, .. } if host.is_empty()) {
            return Err(wrong(format!("{:?} has no host", host.address)));
        }
        Ok(Place {
            name: host.address.as_str().into(),
            address,
            hostname: Some(&*host.hostname)
                .filter(|name| !name.is_empty())
                .map(Arc::from),
            weight: host.weight.clamp(1, MAX_WEIGHT),
            tls_disable: host.tls_disable,
        })
    };
    hosts.iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests;
