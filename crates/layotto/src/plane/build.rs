//! Builds everything that a configuration says, and changes nothing: what cannot be built is an
//! error before anything is used.

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

/// A configuration of which everything was built and nothing is used yet.
pub struct Built {
    pub clusters: Arc<Clusters>,
    pub listeners: Vec<Planned>,
}

/// A listener to be.
pub struct Planned {
    pub config: config::Listener,
    pub end: End,
    pub tls: Option<Acceptor>,
    pub tcpcopy: Option<Arc<Tcpcopy>>,
    pub filters: Vec<(StreamFilter, Arc<dyn Filter>)>,
    /// Ends its connections; `None`: as it does already.
    pub drain: Option<drain::Signal>,
    pub watch: drain::Watch,
}

/// What answers.
pub enum End {
    /// Requests.
    Front(Box<Front>),
    /// Connections.
    Tcp(TcpProxy),
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
        let clusters = Arc::new(Clusters::build_in(
            &config.clusters,
            std::slice::from_ref(&self.parts.folder),
            Some(&running.clusters),
        )?);
        let tables = config.server.routers.iter().map(|router| {
            let name = router.router_config_name.as_str();
            let table = Table::new(router, KINDS).with_context(|| format!("router {name}"))?;
            Ok((name, Arc::new(table)))
        });
        let shared = Shared {
            tables: tables.collect::<anyhow::Result<_>>()?,
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
        let mut chain: Vec<_> = filters.iter().map(|(_, filter)| Arc::clone(filter)).collect();
        let tcpcopy = self.tcpcopy(listener, before)?;
        if let (Some(dump), Terminal::Grpc(_)) = (&tcpcopy, &listener.terminal) {
            chain.push(Arc::new(Portraits(Arc::clone(dump))));
        }
        Ok(Planned {
            end: self.end(listener, chain, shared, &watch)?,
            tls: acceptor(listener, &self.parts.folder)?,
            tcpcopy,
            config: listener.clone(),
            filters,
            drain,
            watch,
        })
    }

    fn end(
        &self,
        listener: &config::Listener,
        filters: Vec<Arc<dyn Filter>>,
        shared: &Shared<'_>,
        watch: &drain::Watch,
    ) -> anyhow::Result<End> {
        let clusters = Arc::clone(&shared.clusters);
        let front = match &listener.terminal {
            Terminal::Grpc(_) => {
                let Some(runtime) = self.parts.runtimes.get(&listener.name) else {
                    bail!("a runtime can only be added by a restart");
                };
                Front::over(&listener.name, filters, Arc::clone(runtime))
            }
            Terminal::Proxy(proxy) => {
                let table = shared.tables.get(proxy.router_config_name.as_str());
                let table = table.cloned().unwrap_or_default();
                let http = Http::new(Settings::of(proxy)?, watch.clone());
                Front::proxy(&listener.name, filters, table, clusters, http)
            }
            Terminal::TcpProxy(config) => {
                return Ok(End::Tcp(TcpProxy::build(config, clusters)?));
            }
            Terminal::Later { filter } => bail!("{filter} is not supported yet"),
        };
        Ok(End::Front(Box::new(front.observed(self.observer(listener)?))))
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
        if let Some(own) = (self.parts.own_filters)(&filter.type_name) {
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

    fn tcpcopy(
        &self,
        listener: &config::Listener,
        before: Option<&Open>,
    ) -> anyhow::Result<Option<Arc<Tcpcopy>>> {
        let Some(config) = &listener.tcpcopy else {
            return Ok(None);
        };
        match before.filter(|open| open.is_at(listener) && open.config.tcpcopy.as_ref() == Some(config)) {
            Some(open) => Ok(open.tcpcopy.clone()),
            None => self
                .parts
                .dumps
                .add(&listener.name, &listener.address, config)
                .context("tcpcopy"),
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
