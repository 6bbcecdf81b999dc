//! What gRPC methods did, by their path.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;

use super::page::{CAP, Figure, Labels, OTHER, Page, Shape};

/// The longest path that is told apart, in bytes: paths are the client's, and are kept.
const MAX_PATH: usize = 256;

/// The counters of one method.
#[derive(Debug, Default)]
pub struct Method {
    requests: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// The counters of all methods called so far. A look-up takes no lock; a method that is new copies
/// the table, which happens at most [`CAP`] times.
#[derive(Debug, Default)]
pub(super) struct Methods {
    known: ArcSwap<HashMap<Box<str>, Arc<Method>>>,
    others: Arc<Method>,
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    requests: u64,
    succeeded: u64,
    failed: u64,
}

impl Method {
    /// Counts a call that begins.
    pub fn begin(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Counts a call that ended, with `grpc-status` 0 or otherwise.
    pub fn end(&self, ok: bool) {
        let counter = if ok { &self.succeeded } else { &self.failed };
        counter.fetch_add(1, Relaxed);
    }

    /// Calls begun, ended OK, and ended otherwise.
    pub fn counts(&self) -> (u64, u64, u64) {
        let counts = self.read();
        (counts.requests, counts.succeeded, counts.failed)
    }

    fn read(&self) -> Counts {
        Counts {
            requests: self.requests.load(Relaxed),
            succeeded: self.succeeded.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }
}

impl Methods {
    pub(super) fn known(&self, path: &str) -> Option<Arc<Method>> {
        self.known.load().get(path).cloned()
    }

    pub(super) fn others(&self) -> Arc<Method> {
        Arc::clone(&self.others)
    }

    pub(super) fn get(&self, path: &str) -> Arc<Method> {
        if let Some(method) = self.known(path) {
            return method;
        }
        if path.len() > MAX_PATH {
            return self.others();
        }
        let new = Arc::<Method>::default();
        self.known.rcu(|known| match known.len() < CAP {
            true => {
                let mut known = HashMap::clone(known);
                known.entry(path.into()).or_insert_with(|| Arc::clone(&new));
                Arc::new(known)
            }
            false => Arc::clone(known),
        });
        let known = self.known.load();
        Arc::clone(known.get(path).unwrap_or(&self.others))
    }

    pub(super) fn write(&self, page: &mut Page<'_, '_>) -> Result<(), fmt::Error> {
        let known = self.known.load();
        let named = known.iter().map(|(path, method)| (&**path, method));
        let all = named.chain([(OTHER, &self.others)]);
        let mut rows: Vec<(Labels, Counts)> = all
            .map(|(path, method)| (vec![("service", path.to_owned())], method.read()))
            .filter(|(_, counts)| counts.requests > 0)
            .collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        for figure in FIGURES {
            page.figure("grpc", figure, &rows, |counts| counts)?;
        }
        Ok(())
    }
}

const FIGURES: &[Figure<Counts>] = &[
    Figure {
        key: "request_total",
        shape: Shape::Counter,
        help: "Calls of a method",
        read: |counts| counts.requests,
    },
    Figure {
        key: "response_succ_total",
        shape: Shape::Counter,
        help: "Calls that ended OK",
        read: |counts| counts.succeeded,
    },
    Figure {
        key: "response_fail_total",
        shape: Shape::Counter,
        help: "Calls that ended otherwise",
        read: |counts| counts.failed,
    },
];
