//! What many clients did and saw while things went wrong, and whether a correct back end can have
//! answered so.
//!
//! A [`History`] records each operation from its call to its answer. An operation without an
//! answer stays open: it may take effect at any time after its call, or never. The checkers take
//! the operations and report what cannot be.

pub mod delivery;
pub mod etag;
pub mod lock;
pub mod register;
pub mod sequence;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

/// The most operations that a history takes.
const MOST: usize = 4_000_000;
/// The most violations that a report spells out.
const SHOWN: usize = 20;

/// A moment; of two, the one with the lesser number was first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    number: u64,
    at: Instant,
}

/// One operation of one client.
#[derive(Debug, Clone)]
pub struct Operation<C, A> {
    /// Who asked.
    pub client: usize,
    /// For what.
    pub call: C,
    /// When.
    pub called: Stamp,
    /// When it was answered and how; nothing where what became of it is not known.
    pub answered: Option<(Stamp, A)>,
}

impl<C, A> Operation<C, A> {
    /// When it was over at the latest; never where it has no answer.
    fn end(&self) -> u64 {
        self.answered.as_ref().map_or(u64::MAX, |(stamp, _)| stamp.number)
    }

    fn answer(&self) -> Option<&A> {
        self.answered.as_ref().map(|(_, answer)| answer)
    }
}

/// The operations of all clients on one component, in the order of their calls.
#[derive(Debug)]
pub struct History<C, A>(Arc<Mutex<Log<C, A>>>);

#[derive(Debug)]
struct Log<C, A> {
    operations: Vec<Operation<C, A>>,
    stamps: u64,
}

impl<C, A> Log<C, A> {
    fn stamp(&mut self) -> Stamp {
        self.stamps += 1;
        Stamp {
            number: self.stamps,
            at: Instant::now(),
        }
    }
}

impl<C, A> Default for History<C, A> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Log {
            operations: Vec::new(),
            stamps: 0,
        })))
    }
}

impl<C, A> Clone for History<C, A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C, A> History<C, A> {
    /// Records that an operation begins; it stays open when the outcome is dropped.
    ///
    /// # Panics
    /// Where there are more operations than a history takes.
    pub fn begin(&self, client: usize, call: C) -> Pending<C, A> {
        let mut log = self.hold();
        assert!(log.operations.len() < MOST, "a history takes {MOST} operations");
        let called = log.stamp();
        let index = log.operations.len();
        log.operations.push(Operation {
            client,
            call,
            called,
            answered: None,
        });
        Pending {
            history: self.clone(),
            index,
        }
    }

    /// What was recorded so far.
    pub fn operations(&self) -> Vec<Operation<C, A>>
    where
        C: Clone,
        A: Clone,
    {
        self.hold().operations.clone()
    }

    fn hold(&self) -> MutexGuard<'_, Log<C, A>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An operation under way.
#[derive(Debug)]
#[must_use = "an operation without an answer stays open"]
pub struct Pending<C, A> {
    history: History<C, A>,
    index: usize,
}

impl<C, A> Pending<C, A> {
    /// Records the answer.
    pub fn end(self, answer: A) {
        let mut log = self.history.hold();
        let stamp = log.stamp();
        if let Some(operation) = log.operations.get_mut(self.index) {
            operation.answered = Some((stamp, answer));
        }
    }
}

/// What a checker found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What was checked.
    pub what: &'static str,
    /// How many operations there were.
    pub operations: usize,
    /// Of how many the outcome is not known.
    pub open: usize,
    /// How many faults were put in their way.
    pub faults: u64,
    /// How often what counts happened.
    pub counts: Vec<(&'static str, usize)>,
    /// What a correct back end cannot have done.
    pub violations: Vec<String>,
}

impl Report {
    fn new<C, A>(what: &'static str, operations: &[Operation<C, A>]) -> Self {
        Self {
            what,
            operations: operations.len(),
            open: operations
                .iter()
                .filter(|operation| operation.answered.is_none())
                .count(),
            faults: 0,
            counts: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// The same after so many faults.
    #[must_use]
    pub fn after(mut self, faults: u64) -> Self {
        self.faults = faults;
        self
    }

    /// How often `what` happened.
    pub fn count(&self, what: &str) -> usize {
        let found = self.counts.iter().find(|(name, _)| *name == what);
        found.map(|(_, count)| *count).unwrap_or_default()
    }

    fn violation(&mut self, text: impl Into<String>) {
        self.violations.push(text.into());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            operations,
            open,
            faults,
            ..
        } = self;
        write!(f, "{what}: {operations} operations, {open} of unknown outcome")?;
        for (name, count) in &self.counts {
            write!(f, ", {count} {name}")?;
        }
        write!(f, ", {faults} faults, {} violations", self.violations.len())?;
        for violation in self.violations.iter().take(SHOWN) {
            write!(f, "\n  {violation}")?;
        }
        Ok(())
    }
}
