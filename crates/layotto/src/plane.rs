//! The data plane of the process: its listeners, routes and clusters, which a new configuration
//! changes as a whole or not at all.

mod directory;
mod inside;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use futures::future::join_all;
use layotto_mesh::{
    Listener,
    cluster::Clusters,
    drain,
    filter::{self, Filter, KINDS, Terminal as Service},
    front::{Front, Slot},
    listener::SettingsSlot,
    router::Table,
    stack::{self, catch_panic},
};
use tokio::sync::Mutex;

pub use self::{
    directory::{Bound, Directory, Entry},
    inside::runtime,
};
use crate::config::{self, Config, Terminal};

/// How long connections of a listener that was removed may finish what they began.
const REMOVED: Duration = Duration::from_secs(30);

/// Gives the stream filters that belong to the process rather than to the data plane, by type.
pub type OwnFilters = Box<dyn Fn(&str) -> Option<Arc<dyn Filter>> + Send + Sync>;

/// What the data plane is given once, at the start.
pub struct Parts {
    /// The runtimes, by the name of their listener.
    pub runtimes: HashMap<String, Arc<dyn Service>>,
    /// The filters of the process.
    pub own_filters: OwnFilters,
    /// What the data plane counts.
    pub metrics: layotto_mesh::metrics::Metrics,
    /// Where the listeners can be found.
    pub directory: Directory,
}

/// The data plane.
pub struct Plane {
    parts: Parts,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    clusters: Clusters,
    listeners: BTreeMap<String, Open>,
}

/// A listener as it is now.
struct Open {
    config: config::Listener,
    slot: Slot,
    socket: Option<OpenSocket>,
}

struct OpenSocket {
    bound: Bound,
    settings: SettingsSlot,
    drain: drain::Signal,
}

/// Sockets that are bound and do not accept yet, by the name of their listener.
pub type Sockets = HashMap<String, Listener>;

/// A configuration of which everything was built and nothing is used yet.
struct Built {
    clusters: Clusters,
    fronts: Vec<(config::Listener, Front)>,
}

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
        sockets.insert(listener.name.clone(), Listener::bind(&listener.settings()).await?);
    }
    Ok(sockets)
}

impl Plane {
    /// Serves what `config` says over `sockets`.
    pub async fn start(parts: Parts, config: &Config, sockets: Sockets) -> anyhow::Result<Self> {
        let plane = Self {
            parts,
            running: Mutex::default(),
        };
        let mut running = plane.running.lock().await;
        let built = plane.build(config, None)?;
        plane.put_up(&mut running, built, sockets);
        drop(running);
        Ok(plane)
    }

    /// Changes everything that differs in `config`, or nothing: the error says why. Exchanges that
    /// began go on as they were; listeners that stay keep their connections.
    pub async fn apply(&self, config: &Config) -> anyhow::Result<Changes> {
        let mut running = self.running.lock().await;
        let built = self.build(config, Some(&running.clusters))?;
        let mut changes = Changes::default();
        let mut sockets = Sockets::new();
        for (listener, _) in &built.fronts {
            let open = running.listeners.get(&listener.name);
            if open.is_none() {
                changes.added.push(listener.name.clone());
            }
            let stays = open.is_some_and(|open| {
                open.config.address == listener.address && open.socket.is_some() == listener.opens()
            });
            if !stays && listener.opens() {
                let socket = Listener::bind(&listener.settings()).await?;
                sockets.insert(listener.name.clone(), socket);
            }
        }
        let names: HashSet<&str> = built.fronts.iter().map(|(listener, _)| listener.name.as_str()).collect();
        let gone = running.listeners.keys().filter(|name| !names.contains(name.as_str()));
        changes.removed = gone.cloned().collect();
        self.put_up(&mut running, built, sockets);
        Ok(changes)
    }

    /// Ends the listeners: those that show how the process is last.
    pub async fn drain(&self, limit: Duration, shows_health: bool) -> bool {
        let mut running = self.running.lock().await;
        let (ending, staying) = std::mem::take(&mut running.listeners)
            .into_iter()
            .partition(|(_, open)| open.config.shows_health() == shows_health);
        running.listeners = staying;
        drop(running);
        let ending: BTreeMap<String, Open> = ending;
        let drains = ending.into_values().filter_map(|open| open.socket).map(|socket| socket.drain);
        let drains = drains.map(|drain| async move { drain.drain_within(limit).await });
        join_all(drains).await.into_iter().all(|clean| clean)
    }

    /// Builds everything, and changes nothing.
    fn build(&self, config: &Config, before: Option<&Clusters>) -> anyhow::Result<Built> {
        let clusters = Clusters::build(&config.clusters, before)?;
        let shared = Arc::new(clusters.clone());
        let tables = config.server.routers.iter().map(|router| {
            let table = Table::new(router, KINDS)
                .with_context(|| format!("router {}", router.router_config_name))?;
            Ok((router.router_config_name.as_str(), Arc::new(table)))
        });
        let tables = tables.collect::<anyhow::Result<HashMap<_, _>>>()?;
        let serving = config.server.listeners.iter().filter(|listener| listener.serves());
        let fronts = serving.map(|listener| {
            let front = self.front(listener, &tables, &shared)?;
            Ok((listener.clone(), front))
        });
        Ok(Built {
            fronts: fronts.collect::<anyhow::Result<_>>()?,
            clusters,
        })
    }

    fn front(
        &self,
        listener: &config::Listener,
        tables: &HashMap<&str, Arc<Table>>,
        clusters: &Arc<Clusters>,
    ) -> anyhow::Result<Front> {
        let filters = listener.stream_filters.iter().map(|filter| self.filter(filter, listener));
        let filters = filters.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(match &listener.terminal {
            Terminal::Grpc(_) => {
                let Some(runtime) = self.parts.runtimes.get(&listener.name) else {
                    bail!("listener {}: a runtime can only be added by a restart", listener.name);
                };
                Front::over(&listener.name, filters, Arc::clone(runtime))
            }
            Terminal::Proxy(proxy) => {
                let table = tables.get(proxy.router.as_str()).cloned().unwrap_or_default();
                Front::proxy(&listener.name, filters, table, Arc::clone(clusters), proxy.http())
            }
        })
    }

    fn filter(&self, filter: &config::StreamFilter, listener: &config::Listener) -> anyhow::Result<Arc<dyn Filter>> {
        if let Some(own) = (self.parts.own_filters)(&filter.type_name) {
            return Ok(own);
        }
        let kind = KINDS.iter().find(|kind| kind.name == filter.type_name);
        let kind = kind.with_context(|| format!("no stream filter {}", filter.type_name))?;
        let context = filter::Context {
            listener: listener.name.as_str().into(),
            metrics: self.parts.metrics.clone(),
        };
        (kind.build)(&filter.config, &context)
            .with_context(|| format!("listener {}: stream filter {}", listener.name, filter.type_name))
    }

    /// Uses what was built. Nothing fails here.
    fn put_up(&self, running: &mut Running, built: Built, mut sockets: Sockets) {
        built.clusters.start();
        running.clusters = built.clusters;
        let mut before = std::mem::take(&mut running.listeners);
        for (config, front) in built.fronts {
            let name = config.name.clone();
            let socket = sockets.remove(&name);
            let open = match before.remove(&name) {
                Some(open) => open.become(config, front, socket),
                None => Open::new(config, front, socket),
            };
            running.listeners.insert(name, open);
        }
        for (name, open) in before {
            tracing::info!(listener = name, "listener removed");
            open.close();
        }
        let entries = running.listeners.iter().map(|(name, open)| (name.clone(), open.entry()));
        self.parts.directory.replace(entries.collect());
    }
}

impl Open {
    fn new(config: config::Listener, front: Front, socket: Option<Listener>) -> Self {
        let slot = Slot::new(front);
        let socket = socket.map(|socket| OpenSocket::serve(socket, &slot));
        Self {
            config,
            slot,
            socket,
        }
    }

    /// The same listener with another configuration.
    fn become(mut self, config: config::Listener, front: Front, socket: Option<Listener>) -> Self {
        self.slot.swap(front);
        match (socket, config.opens()) {
            (Some(socket), _) => {
                let old = self.socket.replace(OpenSocket::serve(socket, &self.slot));
                old.into_iter().for_each(OpenSocket::close);
            }
            (None, false) => self.socket.take().into_iter().for_each(OpenSocket::close),
            (None, true) => {
                if let Some(open) = &self.socket {
                    open.settings.swap(config.settings());
                }
            }
        }
        self.config = config;
        self
    }

    fn close(self) {
        self.socket.into_iter().for_each(OpenSocket::close);
    }

    fn entry(&self) -> Entry {
        Entry {
            slot: self.slot.clone(),
            socket: self.socket.as_ref().map(|socket| socket.bound.clone()),
        }
    }
}

impl OpenSocket {
    fn serve(socket: Listener, slot: &Slot) -> Self {
        let (signal, watch) = drain::channel();
        let bound = Bound {
            address: socket.local_addr().to_string(),
            connections: socket.connections(),
        };
        let settings = socket.settings();
        let service = stack::over(slot.service()).push(catch_panic::layer());
        tokio::spawn(socket.serve(service.into_service(), watch));
        Self {
            bound,
            settings,
            drain: signal,
        }
    }

    /// Lets connections finish what they began, for as long as a drain may take.
    fn close(self) {
        tokio::spawn(async move { self.drain.drain_within(REMOVED).await });
    }
}
