//! Counters of the data plane. Who counts holds the counters, looked up when a listener is built;
//! who shows them reads all at once. Names and labels are upstream's, `{type}_{key}`.

mod downstream;
mod grpc;
mod histogram;
mod matcher;
mod page;
#[cfg(test)]
mod tests;
mod upstream;
mod xds;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use self::{
    downstream::Counts,
    page::{CAP, Figure, OTHER, Page, Shape},
};
pub use self::{
    downstream::{Downstream, Outcome},
    grpc::Method,
    histogram::{Histogram, Reading},
    matcher::Matcher,
    upstream::{Figures, HealthFigures, Row, Source},
    xds::Xds,
};

/// The counters of the data plane; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    listeners: Mutex<Listeners>,
    methods: grpc::Methods,
    sources: ArcSwap<Vec<Arc<dyn Source>>>,
    matcher: ArcSwap<Matcher>,
    version: ArcSwap<Option<String>>,
    state: AtomicI64,
    xds: Xds,
}

/// The listeners by name, and what became of those that are gone: the sum must not shrink.
#[derive(Debug, Default)]
struct Listeners {
    present: BTreeMap<Arc<str>, Arc<Downstream>>,
    leaving: Vec<Arc<Downstream>>,
    gone: Counts,
}

impl Metrics {
    /// The counters of the listener called `name`; the same for every call with that name.
    pub fn listener(&self, name: &str) -> Arc<Downstream> {
        let mut listeners = self.listeners();
        let known = listeners.present.len() < CAP || listeners.present.contains_key(name);
        let name = if known { name } else { OTHER };
        Arc::clone(listeners.present.entry(name.into()).or_default())
    }

    /// Forgets listeners that are not among `names`; their requests stay in the sum.
    pub fn keep_listeners(&self, names: &[&str]) {
        let mut listeners = self.listeners();
        let (kept, left) = std::mem::take(&mut listeners.present)
            .into_iter()
            .partition(|(name, _)| names.contains(&&**name));
        listeners.present = kept;
        let left: BTreeMap<_, _> = left;
        listeners.leaving.extend(left.into_values());
        listeners.settle();
    }

    /// The counters of the gRPC method at `path`, if [`method`](Self::method) was asked for them.
    pub fn known_method(&self, path: &str) -> Option<Arc<Method>> {
        self.0.methods.known(path)
    }

    /// The counters that all gRPC methods share which have none of their own.
    pub fn other_methods(&self) -> Arc<Method> {
        self.0.methods.others()
    }

    /// The counters of the gRPC method at `path`, such as `/pkg.Svc/Method`. Beyond 1,000 paths,
    /// new ones share their counters, as those of more than 256 bytes do.
    pub fn method(&self, path: &str) -> Arc<Method> {
        self.0.methods.get(path)
    }

    /// Replaces who is asked for figures of clusters; those of clusters that are gone go with them.
    pub fn set_sources(&self, sources: Vec<Arc<dyn Source>>) {
        self.0.sources.store(Arc::new(sources));
    }

    /// Replaces what is not shown.
    pub fn set_matcher(&self, matcher: Matcher) {
        self.0.matcher.store(Arc::new(matcher));
    }

    /// Shows the version of this program, among `meta`.
    pub fn set_version(&self, version: &str) {
        self.0.version.store(Arc::new(Some(version.to_owned())));
    }

    /// Shows the stage that the process is in, as upstream numbers them: 6 is running.
    pub fn set_state(&self, state: i64) {
        self.0.state.store(state, Relaxed);
    }

    /// Counts of what a control plane sent.
    pub fn xds(&self) -> &Xds {
        &self.0.xds
    }

    /// Adds all of it to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listeners {
    /// Adds up the listeners whose last request and connection have ended.
    fn settle(&mut self) {
        let (ended, leaving) = std::mem::take(&mut self.leaving)
            .into_iter()
            .partition(|listener| Arc::strong_count(listener) == 1 && listener.is_quiet());
        self.leaving = leaving;
        let ended: Vec<_> = ended;
        for listener in ended {
            self.gone.add(&listener.read());
        }
    }

    fn rows(&mut self) -> Vec<(page::Labels, Counts)> {
        self.settle();
        let rows = self.present.iter();
        let rows: Vec<_> = rows
            .map(|(name, listener)| (vec![("listener", name.to_string())], listener.read()))
            .collect();
        let mut global = self.gone;
        let leaving = self.leaving.iter().map(|listener| listener.read());
        for counts in leaving.chain(rows.iter().map(|row| row.1)) {
            global.add(&counts);
        }
        let global = (vec![("proxy", "global".to_owned())], global);
        [global].into_iter().chain(rows).collect()
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let matcher = self.0.matcher.load();
        let mut page = Page::new(&mut encoder, &matcher);
        let rows = self.listeners().rows();
        downstream::write(&mut page, &rows)?;
        upstream::write(&mut page, &self.0.sources.load())?;
        self.0.methods.write(&mut page)?;
        self.0.xds.write(&mut page)?;
        self.write_meta(&mut page)
    }
}

impl Metrics {
    fn write_meta(&self, page: &mut Page<'_, '_>) -> Result<(), fmt::Error> {
        let labels = vec![("mosn", "info".to_owned())];
        let state = Figure {
            key: "mosn_state_code",
            shape: Shape::Gauge,
            help: "The stage of the process; 6 is running",
            read: |state: &i64| u64::try_from(*state).unwrap_or_default(),
        };
        let rows = [(labels.clone(), self.0.state.load(Relaxed))];
        page.figure("meta", &state, &rows, |state| state)?;
        let version = self.0.version.load();
        let Some(version) = version.as_ref() else {
            return Ok(());
        };
        // Upstream's name holds the version; a label says it readably.
        let labels = [labels, vec![("version", version.clone())]].concat();
        let key = Figure {
            key: "version",
            shape: Shape::Gauge,
            help: "The version of this program",
            read: |one: &u64| *one,
        };
        page.figure("meta", &key, &[(labels, 1)], |one| one)
    }
}
