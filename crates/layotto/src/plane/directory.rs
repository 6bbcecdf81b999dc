//! The listeners that there are now, for whoever shows them or calls them from inside.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use layotto_mesh::{connection::Connections, front::Slot};

/// The listeners of the process. Clones share them.
#[derive(Clone, Default)]
pub struct Directory(Arc<ArcSwap<BTreeMap<String, Entry>>>);

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
        self.0.load().get(name)?.slot.clone()
    }

    /// All of them, by name.
    pub fn all(&self) -> Arc<BTreeMap<String, Entry>> {
        self.0.load_full()
    }

    /// Those with a socket, by name.
    pub fn bound(&self) -> Vec<(String, Bound)> {
        let all = self.all();
        let bound = all
            .iter()
            .filter_map(|(name, entry)| Some((name.clone(), entry.socket.clone()?)));
        bound.collect()
    }

    pub(super) fn replace(&self, entries: BTreeMap<String, Entry>) {
        self.0.store(Arc::new(entries));
    }
}
