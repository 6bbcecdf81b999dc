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

/// How often others can have their turn before the guest has its own: what one of them does may be for
/// another to go on with, and a request is not to wait for a guest at each of its steps.
const PASSES: u32 = 8;
/// A pass that is shorter than this was nobody's.
const NOBODY: Duration = Duration::from_micros(10);
/// No other pass begins after this, for there may always be somebody.
const LONG_ENOUGH: Duration = Duration::from_millis(1);

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
    /// How long it had run when it gave way last.
    gave_way: Duration,
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
            gave_way: Duration::ZERO,
            away: Arc::default(),
        }
    }

    /// Begins anew, with the whole budget.
    pub(crate) fn restart(&mut self) {
        self.until = Instant::now() + self.budget;
        self.paused = None;
        self.gave_way = Duration::ZERO;
        self.away.store(0, Relaxed);
    }

    /// Lets others have their turn, for which the guest does not pay.
    pub(crate) fn turn(&self) -> impl Future<Output = ()> + Send + use<> {
        let away = self.away.clone();
        async move {
            let begun = Instant::now();
            let mut since = begun;
            for _ in 0..PASSES {
                // The runtime's own way to yield: it looks for what came over the network, and runs all
                // that is ready, before it comes back. By a mere wake it would run this guest again and
                // again, and look at the network once in sixty turns.
                yield_now().await;
                let now = Instant::now();
                if now - since < NOBODY || now - begun > LONG_ENOUGH {
                    break;
                }
                since = now;
            }
            let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            away.fetch_add(nanos, Relaxed);
        }
    }

    /// Whether it has run for `turn` since it gave way last, and so gives way now; if so, for how long it
    /// has run in all.
    pub(crate) fn gives_way(&mut self, turn: Duration) -> Option<Duration> {
        let used = self.budget.saturating_sub(self.left());
        if used.saturating_sub(self.gave_way) < turn {
            return None;
        }
        self.gave_way = used;
        Some(used)
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
        assert_eq!(clock.gives_way(BUDGET), None);
        work(BUDGET / 2);
        let used = clock.gives_way(BUDGET / 2).unwrap();
        assert!(used >= BUDGET / 2);
        assert_eq!(clock.gave_way, used);
        work(BUDGET / 2);
        assert!(clock.check().is_err(), "its own time counts");
        clock.restart();
        assert!(clock.left() <= BUDGET, "what was is forgotten");
    }
}
