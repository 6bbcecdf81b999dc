//! How long a guest may run: time in which it waits for the host does not count.

use std::time::{Duration, Instant};

use thiserror::Error;

/// A guest ran longer than it may.
#[derive(Debug, Clone, Copy, Error)]
#[error("the function ran longer than its {} ms", .0.as_millis())]
pub struct OverTime(pub Duration);

/// The time of one call.
#[derive(Debug)]
pub(crate) struct Clock {
    budget: Duration,
    until: Instant,
    paused: Option<Instant>,
}

impl Clock {
    /// One that runs.
    pub(crate) fn start(budget: Duration) -> Self {
        Self {
            budget,
            until: Instant::now() + budget,
            paused: None,
        }
    }

    /// Begins anew, with the whole budget.
    pub(crate) fn restart(&mut self) {
        *self = Self::start(self.budget);
    }

    /// The guest waits.
    pub(crate) fn pause(&mut self) {
        self.paused.get_or_insert_with(Instant::now);
    }

    /// The guest runs again.
    pub(crate) fn resume(&mut self) {
        if let Some(since) = self.paused.take() {
            self.until += since.elapsed();
        }
    }

    /// Fails once the budget is used up.
    pub(crate) fn check(&self) -> Result<(), OverTime> {
        match Instant::now() >= self.until {
            true => Err(OverTime(self.budget)),
            false => Ok(()),
        }
    }

    /// What is left of the budget.
    pub(crate) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}
