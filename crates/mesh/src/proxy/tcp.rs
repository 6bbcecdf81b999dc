//! The TCP proxy: passes the bytes of a connection on to a host of a cluster, and back.

mod config;
mod relay;

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::timeout;

pub use self::config::{IdleTimeout, Network, OTHER_KEYS, RouteConfig, TcpProxyConfig};
use self::{
    config::Route,
    relay::{Far, relay},
};
use crate::{
    ConfigError,
    cluster::{Cluster, Clusters, Host, Permit, Pick},
    connection::{Info, RawService, Remote, Wire},
    upstream::{Open, dial, server_name},
};

/// How many hosts are tried before a client is sent away.
const TRIES: usize = 3;

/// Passes connections on to clusters.
pub struct TcpProxy {
    routes: Vec<Route>,
    idle_timeout: Option<Duration>,
    clusters: Arc<Clusters>,
}

/// A connection to a host, counted among the host's requests.
struct Busy(Arc<Host>);

/// What a connection holds as long as it lasts.
type Counted = (Permit, Busy, Open);

impl TcpProxy {
    /// The proxy of a configuration. Its clusters may be unknown: clients are sent away then.
    ///
    /// # Errors
    /// Addresses and ports that are none, and a proxy that leads nowhere.
    pub fn build(config: &TcpProxyConfig, clusters: Arc<Clusters>) -> Result<Self, ConfigError> {
        Ok(Self {
            routes: config.routes()?,
            idle_timeout: config
                .idle_timeout
                .map(IdleTimeout::get)
                .filter(|limit| !limit.is_zero()),
            clusters,
        })
    }

    fn cluster(&self, info: &Info) -> Option<&Arc<Cluster>> {
        let route = self.routes.iter().find(|route| route.matches(info))?;
        self.clusters.get(&route.cluster)
    }

    /// Connects a client to a host; `None`: the client is sent away.
    async fn open(&self, info: &Info) -> Option<(Far, Counted)> {
        let (remote, listener) = (info.remote(), info.listener());
        let Some(cluster) = self.cluster(info) else {
            tracing::debug!(%remote, listener, "closed, as no route leads to a cluster");
            return None;
        };
        let permit = match cluster.limits().try_connection() {
            Ok(permit) => permit,
            Err(error) => {
                tracing::debug!(%remote, listener, %error, "closed");
                return None;
            }
        };
        let Some((far, busy)) = connect(cluster, hash(info)).await else {
            tracing::debug!(%remote, listener, cluster = &*cluster.name, "closed, as no host answers");
            return None;
        };
        let open = Open::new(&busy.0);
        Some((far, (permit, busy, open)))
    }
}

impl fmt::Debug for TcpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpProxy")
            .field("routes", &self.routes)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}

impl RawService for TcpProxy {
    fn serve(self: Arc<Self>, near: Wire) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let info = near.info().clone();
            let idle = self.idle_timeout.or(near.idle_timeout());
            let opened = self.open(&info).await;
            // A connection may outlive many configurations, and keeps none of them.
            drop(self);
            let Some((far, _counted)) = opened else {
                return;
            };
            let (remote, listener) = (info.remote(), info.listener());
            match relay(near, far, idle).await {
                Ok((up, down)) => tracing::debug!(%remote, listener, up, down, "closed"),
                Err(error) => tracing::debug!(%remote, listener, %error, "connection failed"),
            }
        })
    }
}

impl Busy {
    fn with(host: Arc<Host>) -> Self {
        host.active.fetch_add(1, Relaxed);
        Self(host)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

/// Connects to a host, to another one if that fails; `None`: no try was good.
async fn connect(cluster: &Cluster, hash: u64) -> Option<(Far, Busy)> {
    let mut tried = Vec::new();
    while tried.len() < TRIES {
        let host = cluster.choose(&Pick { hash, tried: &tried })?;
        let busy = Busy::with(host.clone());
        match timeout(cluster.connect_timeout(), secured(cluster, &host)).await {
            Ok(Ok(far)) => return Some((far, busy)),
            Ok(Err(error)) => tracing::debug!(host = &*host.name, %error, "cannot connect"),
            Err(_) => tracing::debug!(host = &*host.name, "connecting takes too long"),
        }
        host.count(|stats| stats.connection_con_fail.inc());
        tried.push(host);
    }
    None
}

async fn secured(cluster: &Cluster, host: &Host) -> io::Result<Far> {
    let far = dial(host).await?;
    Ok(match cluster.connector(host) {
        Some(connector) => Box::new(connector.connect(far, server_name(host)).await?),
        None => Box::new(far),
    })
}

/// What balancers that hash go by: the client's address without its port.
fn hash(info: &Info) -> u64 {
    let mut hasher = DefaultHasher::new();
    match info.remote() {
        Remote::Tcp(address) => address.ip().to_canonical().hash(&mut hasher),
        Remote::Unix { uid, .. } => uid.hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
