//! How long a guest may run: time in which it waits for the host, or for its turn among others, does not
//! count.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::task::yield_now;

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
    /// Nanoseconds for which others had their turn since it began.
    away: Arc<AtomicU64>,
}

impl Clock {
    /// One that runs.
    pub(crate) fn start(budget: Duration) -> Self {
        Self {
            budget,
            until: Instant::now() + budget,
            paused: None,
            away: Arc::default(),
        }
    }

    /// Begins anew, with the whole budget.
    pub(crate) fn restart(&mut self) {
        self.until = Instant::now() + self.budget;
        self.paused = None;
        self.away.store(0, Relaxed);
    }

    /// Lets others have their turn, for which the guest does not pay.
    pub(crate) fn turn(&self) -> impl Future<Output = ()> + Send + use<> {
        let away = self.away.clone();
        async move {
            let since = Instant::now();
            // The runtime's own way to yield: it looks for what came over the network, and runs all
            // that is ready, before it comes back. By a mere wake it would run this guest again and
            // again, and look at the network once in sixty turns of two milliseconds.
            yield_now().await;
            let nanos = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            away.fetch_add(nanos, Relaxed);
        }
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
        match self.left().is_zero() {
            true => Err(OverTime(self.budget)),
            false => Ok(()),
        }
    }

    /// What is left of the budget.
    pub(crate) fn left(&self) -> Duration {
        let away = Duration::from_nanos(self.away.load(Relaxed));
        (self.until + away).saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;

    use super::*;

    /// Uses the thread for so long.
    fn work(time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn the_turn_of_others_does_not_count() {
        const BUDGET: Duration = Duration::from_millis(50);
        let mut clock = Clock::start(BUDGET);
        let mut turn = pin!(clock.turn());
        assert!(turn.as_mut().now_or_never().is_none());
        work(BUDGET * 2);
        assert_eq!(clock.left(), Duration::ZERO);
        turn.await;
        assert!(clock.check().is_ok() && clock.left() <= BUDGET);
        work(BUDGET);
        assert!(clock.check().is_err(), "its own time counts");
        clock.restart();
        assert!(clock.left() <= BUDGET, "what was is forgotten");
    }
}
