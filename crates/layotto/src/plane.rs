//! The data plane of the process: its listeners, routes and clusters, which a new configuration
//! changes as a whole or not at all.

mod build;
mod directory;
mod inside;
mod open;
mod portraits;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::Future,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::bail;
use futures::future::join_all;
use layotto_mesh::{
    Listener,
    access_log::Files,
    cluster::Clusters,
    filter::{Filter, Terminal as Service},
    metrics::{Metrics, Source},
    tap::tcpcopy::Dumps,
    trace::Tracer,
};
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use self::{
    build::{Built, Opened},
    open::{Open, mesh_settings},
};
pub use self::{
    directory::{Bound, Directory},
    inside::runtime,
};
use crate::config::{Config, StreamFilter};

/// How long connections of a listener that was removed may finish what they began.
const REMOVED: Duration = Duration::from_secs(30);

/// Gives the stream filters that belong to the process rather than to the data plane.
pub type OwnFilters = Box<dyn Fn(&StreamFilter) -> Option<Arc<dyn Filter>> + Send + Sync>;

/// What the data plane is given once, at the start.
pub struct Parts {
    /// The runtimes, by the name of their listener.
    pub runtimes: HashMap<String, Arc<dyn Service>>,
    /// The filters of the process.
    pub own_filters: OwnFilters,
    /// What the data plane counts.
    pub metrics: Metrics,
    /// The files of access logs.
    pub files: Files,
    /// Copies of traffic.
    pub dumps: Arc<Dumps>,
    /// Records the exchanges that are proxied.
    pub tracer: Option<Arc<dyn Tracer>>,
    /// Where relative paths are looked up second.
    pub folder: PathBuf,
    /// Where the listeners can be found.
    pub directory: Directory,
}

/// The data plane.
pub struct Plane {
    parts: Parts,
    running: Mutex<Running>,
    /// Listeners that were removed and finish what they began.
    closing: TaskTracker,
}

#[derive(Default)]
struct Running {
    clusters: Arc<Clusters>,
    listeners: BTreeMap<String, Open>,
    /// Nothing changes any more.
    draining: bool,
}

/// Sockets that are bound and do not accept yet, by the name of their listener.
pub type Sockets = HashMap<String, Listener>;

/// What a new configuration changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Listeners that are new.
    pub added: Vec<String>,
    /// Listeners that are gone.
    pub removed: Vec<String>,
}

/// Binds the sockets of all listeners, so that a taken address is an error before anything starts.
pub async fn bind(config: &Config) -> anyhow::Result<Sockets> {
    let mut sockets = Sockets::new();
    for listener in config.server.listeners.iter().filter(|listener| listener.opens()) {
        let socket = Listener::bind(&mesh_settings(listener)).await?;
        sockets.insert(listener.name.clone(), socket);
    }
    Ok(sockets)
}

impl Plane {
    /// Serves what `config` says over `sockets`. `prepared` is awaited once there are clusters, and
    /// before a listener accepts.
    pub async fn start(
        parts: Parts,
        config: &Config,
        sockets: Sockets,
        prepared: impl Future<Output = ()>,
    ) -> anyhow::Result<Self> {
        let plane = Self {
            parts,
            running: Mutex::default(),
            closing: TaskTracker::new(),
        };
        let mut running = plane.running.lock().await;
        let built = plane.build(config, &running)?;
        let opened = plane.open(&built)?;
        built.clusters.start();
        plane.parts.directory.replace_clusters(built.clusters.clone());
        prepared.await;
        plane.put_up(&mut running, built, opened, sockets);
        drop(running);
        Ok(plane)
    }

    /// Changes everything that differs in `config`, or nothing: the error says why. Exchanges that
    /// began go on as they were; listeners that stay keep their connections.
    pub async fn apply(&self, config: &Config) -> anyhow::Result<Changes> {
        let mut running = self.running.lock().await;
        if running.draining {
            bail!("the process is ending");
        }
        let built = self.build(config, &running)?;
        let mut sockets = Sockets::new();
        for listener in built.moved() {
            let mut leaving = running.listeners.values().filter(|open| !built.keeps(open));
            let socket = match leaving.find_map(|open| open.hand_over(listener)) {
                Some(socket) => socket?,
                None => Listener::bind(&mesh_settings(listener)).await?,
            };
            sockets.insert(listener.name.clone(), socket);
        }
        let opened = match self.open(&built) {
            Ok(opened) => opened,
            Err(error) => {
                self.keep_names(&running);
                return Err(error);
            }
        };
        let changes = changes(&running, &built);
        self.put_up(&mut running, built, opened, sockets);
        Ok(changes)
    }

    /// Ends listeners: those that show how the process is, or all others. Returns whether all of
    /// their exchanges ended within `limit`. No configuration is applied from then on.
    pub async fn drain(&self, limit: Duration, shows_health: bool) -> bool {
        let ending = {
            let mut running = self.running.lock().await;
            running.draining = true;
            let (ending, staying) = std::mem::take(&mut running.listeners)
                .into_iter()
                .partition::<BTreeMap<_, _>, _>(|(_, open)| open.config.shows_health() == shows_health);
            running.listeners = staying;
            ending
        };
        self.closing.close();
        let drains = join_all(ending.into_values().map(|open| open.end(limit)));
        let closed = tokio::time::timeout(limit, self.closing.wait());
        let (drained, closed) = tokio::join!(drains, closed);
        closed.is_ok() && drained.into_iter().all(|clean| clean)
    }

    /// Uses what was built. Nothing fails here.
    fn put_up(&self, running: &mut Running, built: Built, opened: Vec<Opened>, mut sockets: Sockets) {
        built.clusters.start();
        let mut before = std::mem::take(&mut running.listeners);
        for (mut planned, opened) in built.listeners.into_iter().zip(opened) {
            let name = planned.config.name.clone();
            let open = match (planned.drain.take(), before.remove(&name)) {
                (None, Some(open)) => open.become_(planned, opened),
                (drain, moved) => {
                    // The old one finishes what it began.
                    moved.into_iter().for_each(|open| self.close(open));
                    let drain = drain.expect("invariant: only what is there stays");
                    Open::new(
                        (planned, opened),
                        drain,
                        sockets.remove(&name),
                        &self.parts.metrics,
                    )
                }
            };
            running.listeners.insert(name, open);
        }
        for (name, open) in before {
            tracing::info!(listener = name, "listener removed");
            self.close(open);
        }
        self.keep_names(running);
        let sources = built.clusters.iter().cloned();
        let sources = sources.map(|cluster| cluster as Arc<dyn Source>).collect();
        self.parts.metrics.set_sources(sources);
        self.parts.directory.replace_clusters(built.clusters.clone());
        running.clusters = built.clusters;
        let entries = running.listeners.iter();
        let entries = entries.map(|(name, open)| (name.clone(), open.entry()));
        self.parts.directory.replace(entries.collect());
    }

    /// Lets the metrics forget listeners that do not run.
    fn keep_names(&self, running: &Running) {
        let names: Vec<&str> = running.listeners.keys().map(String::as_str).collect();
        self.parts.metrics.keep_listeners(&names);
    }

    /// Lets connections finish what they began, for as long as a drain may take.
    fn close(&self, open: Open) {
        self.closing.spawn(open.end(REMOVED));
    }
}

fn changes(running: &Running, built: &Built) -> Changes {
    let names: HashSet<&str> = built.names().collect();
    let gone = running
        .listeners
        .keys()
        .filter(|name| !names.contains(name.as_str()));
    let new = names
        .iter()
        .filter(|name| !running.listeners.contains_key(**name));
    Changes {
        removed: gone.cloned().collect(),
        added: new.map(|name| (*name).to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests;
