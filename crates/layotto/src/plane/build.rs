//! From a configuration to what serves it, in two steps. What is built changes nothing outside:
//! what cannot be built is an error before anything is used. What is opened writes files.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, bail};
use layotto_mesh::{
    access_log::Log,
    cluster::Clusters,
    drain,
    filter::{self, Filter, KINDS},
    front::Front,
    observe::Observer,
    proxy::{
        http::{Http, Settings},
        tcp::TcpProxy,
    },
    router::Table,
    tap::tcpcopy::Tcpcopy,
    tls::server::{Acceptor, Options},
};

use super::{Plane, Running, open::Open, portraits::Portraits};
use crate::config::{self, Config, StreamFilter, Terminal};

/// A configuration of which everything was built, and nothing is opened or used yet.
pub struct Built {
    pub clusters: Arc<Clusters>,
    pub listeners: Vec<Planned>,
}

/// A listener to be.
pub struct Planned {
    pub config: config::Listener,
    pub filters: Vec<(StreamFilter, Arc<dyn Filter>)>,
    pub tls: Option<Acceptor>,
    /// Ends its connections; `None`: as it does already.
    pub drain: Option<drain::Signal>,
    pub watch: drain::Watch,
    end: End,
    /// The traffic dump that goes on.
    tcpcopy: Option<Arc<Tcpcopy>>,
}

/// What stands at the end of the filters.
enum End {
    Runtime(Arc<dyn filter::Terminal>),
    Proxy { table: Arc<Table>, http: Http },
    Tcp(Arc<TcpProxy>),
}

/// What a listener serves, with all that it writes to.
pub struct Opened {
    pub serves: Serves,
    pub tcpcopy: Option<Arc<Tcpcopy>>,
}

/// What answers.
pub enum Serves {
    /// Requests.
    Front(Box<Front>),
    /// Connections.
    Tcp(Arc<TcpProxy>),
}

impl Built {
    /// The names of its listeners.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.listeners.iter().map(|planned| planned.config.name.as_str())
    }

    /// Those of its listeners that need a socket.
    pub fn moved(&self) -> impl Iterator<Item = &config::Listener> {
        let moved = self.listeners.iter().filter(|planned| planned.drain.is_some());
        moved
            .map(|planned| &planned.config)
            .filter(|listener| listener.opens())
    }

    /// Whether a listener stays where it is.
    pub fn keeps(&self, open: &Open) -> bool {
        let mut staying = self.listeners.iter().filter(|planned| planned.drain.is_none());
        staying.any(|planned| planned.config.name == open.config.name)
    }
}

/// What all listeners of one configuration share.
struct Shared<'c> {
    tables: HashMap<&'c str, Arc<Table>>,
    clusters: Arc<Clusters>,
}

impl Plane {
    /// Builds all of `config`; what did not change is taken over from `running`.
    pub(super) fn build(&self, config: &Config, running: &Running) -> anyhow::Result<Built> {
        let folders = std::slice::from_ref(&self.parts.folder);
        let clusters = Clusters::build_in(&config.clusters, folders, Some(&running.clusters))?;
        let clusters = Arc::new(clusters);
        for router in &config.server.routers {
            // They were read with the file, at the start before there was a log.
            if let Some(folder) = router.config.folder(folders) {
                let (router, folder) = (&router.config.router_config_name, folder.display());
                tracing::info!(router, %folder, "virtual hosts are files of a folder");
            }
        }
        let routers = config.server.routers.iter();
        let tables = routers.map(|router| (&*router.config.router_config_name, Arc::clone(&router.table)));
        let shared = Shared {
            tables: tables.collect(),
            clusters,
        };
        let listeners = config.server.listeners.iter();
        let planned = listeners.filter(|listener| listener.serves()).map(|listener| {
            self.plan(listener, &shared, running.listeners.get(&listener.name))
                .with_context(|| format!("listener {}", listener.name))
        });
        Ok(Built {
            listeners: planned.collect::<anyhow::Result<_>>()?,
            clusters: shared.clusters,
        })
    }

    fn plan(
        &self,
        listener: &config::Listener,
        shared: &Shared<'_>,
        before: Option<&Open>,
    ) -> anyhow::Result<Planned> {
        let mut known: Vec<_> = before.map(|open| open.filters.clone()).unwrap_or_default();
        let filters = listener.stream_filters.iter().map(|filter| {
            let built = self.filter(filter, listener, &mut known)?;
            Ok((filter.clone(), built))
        });
        let filters = filters.collect::<anyhow::Result<Vec<_>>>()?;
        let (drain, watch) = match before.filter(|open| open.is_at(listener)) {
            Some(open) => (None, open.watch.clone()),
            None => {
                let (signal, watch) = drain::channel();
                (Some(signal), watch)
            }
        };
        let same_dump = |open: &&Open| open.is_at(listener) && open.config.tcpcopy == listener.tcpcopy;
        Ok(Planned {
            end: self.end(listener, shared, &watch)?,
            tls: acceptor(listener, &self.parts.folder)?,
            tcpcopy: before.filter(same_dump).and_then(|open| open.tcpcopy.clone()),
            config: listener.clone(),
            filters,
            drain,
            watch,
        })
    }

    fn end(
        &self,
        listener: &config::Listener,
        shared: &Shared<'_>,
        watch: &drain::Watch,
    ) -> anyhow::Result<End> {
        Ok(match &listener.terminal {
            Terminal::Grpc(_) => {
                let Some(runtime) = self.parts.runtimes.get(&listener.name) else {
                    bail!("a runtime can only be added by a restart");
                };
                End::Runtime(Arc::clone(runtime))
            }
            Terminal::Proxy(proxy) => {
                let table = shared.tables.get(proxy.router_config_name.as_str());
                End::Proxy {
                    table: table.cloned().unwrap_or_default(),
                    http: Http::new(Settings::of(proxy)?, watch.clone()),
                }
            }
            Terminal::TcpProxy(config) => {
                let proxy = TcpProxy::build(config, Arc::clone(&shared.clusters))?;
                End::Tcp(Arc::new(proxy))
            }
            Terminal::Later { filter } => bail!("{filter} is not supported yet"),
        })
    }

    /// Opens what all listeners of `built` write to, in their order. After an error nothing of it
    /// is used.
    pub(super) fn open(&self, built: &Built) -> anyhow::Result<Vec<Opened>> {
        let open = |planned| {
            self.open_one(planned, &built.clusters)
                .with_context(|| format!("listener {}", planned.config.name))
        };
        built.listeners.iter().map(open).collect()
    }

    fn open_one(&self, planned: &Planned, clusters: &Arc<Clusters>) -> anyhow::Result<Opened> {
        let listener = &planned.config;
        let tcpcopy = self.tcpcopy(planned)?;
        let filters = planned.filters.iter().map(|(_, filter)| Arc::clone(filter));
        let mut filters: Vec<_> = filters.collect();
        let front = match &planned.end {
            End::Runtime(runtime) => {
                let portraits = tcpcopy.clone().map(Portraits);
                filters.extend(portraits.map(|portraits| Arc::new(portraits) as Arc<dyn Filter>));
                Front::over(&listener.name, filters, Arc::clone(runtime))
            }
            End::Proxy { table, http } => {
                let (table, clusters) = (Arc::clone(table), Arc::clone(clusters));
                Front::proxy(&listener.name, filters, table, clusters, http.clone())
            }
            End::Tcp(proxy) => {
                let serves = Serves::Tcp(Arc::clone(proxy));
                return Ok(Opened { serves, tcpcopy });
            }
        };
        let front = front.observed(self.observer(listener)?);
        Ok(Opened {
            serves: Serves::Front(Box::new(front)),
            tcpcopy,
        })
    }

    /// What observes the exchanges of a listener. The spans of a runtime's calls are its own.
    fn observer(&self, listener: &config::Listener) -> anyhow::Result<Observer> {
        let logs = listener.access_logs.iter().map(|log| {
            Log::open(log, &listener.name, &self.parts.folder, &self.parts.files).context("access_logs")
        });
        let traced = !matches!(listener.terminal, Terminal::Grpc(_));
        Ok(Observer::new(
            listener.name.as_str(),
            self.parts.metrics.listener(&listener.name),
            logs.collect::<anyhow::Result<_>>()?,
            self.parts.tracer.clone().filter(|_| traced),
        ))
    }

    /// One of the `known` filters, if its configuration did not change: it goes on with its counts,
    /// and stands for no other one.
    fn filter(
        &self,
        filter: &StreamFilter,
        listener: &config::Listener,
        known: &mut Vec<(StreamFilter, Arc<dyn Filter>)>,
    ) -> anyhow::Result<Arc<dyn Filter>> {
        let same = |other: &(StreamFilter, Arc<dyn Filter>)| {
            other.0.type_name == filter.type_name && other.0.config == filter.config
        };
        if let Some(at) = known.iter().position(same) {
            return Ok(known.remove(at).1);
        }
        if let Some(own) = (self.parts.own_filters)(filter) {
            return Ok(own);
        }
        let kind = KINDS.iter().find(|kind| kind.name == filter.type_name);
        let kind = kind.with_context(|| format!("no stream filter {}", filter.type_name))?;
        let context = filter::Context {
            listener: listener.name.as_str().into(),
            metrics: self.parts.metrics.clone(),
        };
        (kind.build)(&filter.config, &context).with_context(|| format!("stream filter {}", filter.type_name))
    }

    fn tcpcopy(&self, planned: &Planned) -> anyhow::Result<Option<Arc<Tcpcopy>>> {
        let listener = &planned.config;
        match (&listener.tcpcopy, &planned.tcpcopy) {
            (Some(config), None) => self
                .parts
                .dumps
                .add(&listener.name, &listener.address, config)
                .context("tcpcopy"),
            (_, goes_on) => Ok(goes_on.clone()),
        }
    }
}

fn acceptor(listener: &config::Listener, folder: &std::path::Path) -> anyhow::Result<Option<Acceptor>> {
    let options = Options {
        inspector: listener.inspector,
        protocol: listener.protocol(),
        raw: matches!(listener.terminal, Terminal::TcpProxy(_)),
        folders: vec![folder.to_owned()],
    };
    Acceptor::build(&listener.tls, &options).context("tls_context")
}
