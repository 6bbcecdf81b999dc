//! The time that stores measure expiry with.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Milliseconds since 1970 (UTC). `0` stands for "never" wherever an end of life is stored.
pub(crate) type Millis = u64;

/// Wall clock time that never goes back while the process runs.
///
/// The wall clock is read once; from there on the monotonic clock counts. Setting the clock of the
/// machine therefore neither revives nor ends what a running process keeps. Uniqueness (ids,
/// fencing tokens, etags) never rests on a clock.
#[derive(Debug, Clone)]
pub(crate) struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    Running {
        started: Instant,
        wall: Millis,
    },
    #[cfg(test)]
    Manual(std::sync::Arc<std::sync::atomic::AtomicU64>),
}

impl Default for Clock {
    fn default() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Source::Running {
            started: Instant::now(),
            wall: millis(wall),
        })
    }
}

impl Clock {
    /// A clock that stands still until [`advance`](Self::advance) moves it; clones share it.
    #[cfg(test)]
    pub(crate) fn manual() -> Self {
        Self(Source::Manual(std::sync::Arc::new(1_700_000_000_000.into())))
    }

    /// Moves a manual clock.
    #[cfg(test)]
    pub(crate) fn advance(&self, by: Duration) {
        match &self.0 {
            Source::Manual(now) => now.fetch_add(millis(by), std::sync::atomic::Ordering::SeqCst),
            Source::Running { .. } => panic!("a running clock moves by itself"),
        };
    }

    /// The time now.
    pub(crate) fn now(&self) -> Millis {
        match &self.0 {
            Source::Running { started, wall } => wall.saturating_add(millis(started.elapsed())),
            #[cfg(test)]
            Source::Manual(now) => now.load(std::sync::atomic::Ordering::SeqCst),
        }
    }

    /// The time `span` from now.
    pub(crate) fn after(&self, span: Duration) -> Millis {
        self.now().saturating_add(millis(span))
    }
}

/// Whole milliseconds of `span`.
pub(crate) fn millis(span: Duration) -> Millis {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Whether something that ends at `end` is over at `now`.
pub(crate) fn is_over(end: Millis, now: Millis) -> bool {
    end != 0 && end <= now
}
