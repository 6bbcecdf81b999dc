//! The listeners that there are now, for whoever shows them or calls them from inside.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use layotto_mesh::{cluster::Clusters, connection::Connections, front::Slot};

/// The listeners and clusters of the process. Clones share them.
#[derive(Clone, Default)]
pub struct Directory(Arc<Inner>);

#[derive(Default)]
struct Inner {
    listeners: ArcSwap<BTreeMap<String, Entry>>,
    clusters: ArcSwap<Clusters>,
}

/// One listener.
#[derive(Clone)]
pub struct Entry {
    /// What answers; `None` for one that passes connections on.
    pub slot: Option<Slot>,
    /// Its socket; `None` for one that only the process itself reaches.
    pub socket: Option<Bound>,
}

/// A listener's socket.
#[derive(Clone)]
pub struct Bound {
    /// The address, with the port that the system chose.
    pub address: String,
    /// Its connections.
    pub connections: Connections,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.all().keys()).finish()
    }
}

impl Directory {
    /// What answers behind the listener called `name`.
    pub fn slot(&self, name: &str) -> Option<Slot> {
        self.0.listeners.load().get(name)?.slot.clone()
    }

    /// All of them, by name.
    pub fn all(&self) -> Arc<BTreeMap<String, Entry>> {
        self.0.listeners.load_full()
    }

    /// Those with a socket, by name.
    pub fn bound(&self) -> Vec<(String, Bound)> {
        let all = self.all();
        let bound = all
            .iter()
            .filter_map(|(name, entry)| Some((name.clone(), entry.socket.clone()?)));
        bound.collect()
    }

    /// The clusters that requests can be sent to now.
    pub fn clusters(&self) -> Arc<Clusters> {
        self.0.clusters.load_full()
    }

    pub(super) fn replace(&self, entries: BTreeMap<String, Entry>) {
        self.0.listeners.store(Arc::new(entries));
    }

    pub(super) fn replace_clusters(&self, clusters: Arc<Clusters>) {
        self.0.clusters.store(clusters);
    }
}
