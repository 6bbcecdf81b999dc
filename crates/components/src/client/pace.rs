//! How often a client that lost its product tries to connect.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_millis(800);

/// The time between tries to connect, whoever wants a connection: after a failure a quarter of a
/// second, later up to 0.8 s, each cut by up to a half at random so that many sidecars do not try
/// at once.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    wait: Duration,
    next: Option<Instant>,
}

impl Pace {
    /// Whether it is time for a try.
    pub(crate) fn is_due(&self) -> bool {
        self.next.is_none_or(|next| next <= Instant::now())
    }

    /// A try failed.
    pub(crate) fn failed(&mut self) {
        self.wait = (self.wait * 2).clamp(FIRST, LONGEST);
        self.next = Some(Instant::now() + cut(self.wait));
    }

    /// A try succeeded: the next one need not wait.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

fn cut(wait: Duration) -> Duration {
    let (_, random) = Uuid::new_v4().as_u64_pair();
    wait.mul_f64(1.0 - (random % 1000) as f64 / 2000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tries_are_few_and_never_far_apart() {
        let mut pace = Pace::default();
        let begun = Instant::now();
        let mut tries = 0;
        while begun.elapsed() < Duration::from_secs(20) {
            if pace.is_due() {
                tries += 1;
                pace.failed();
            }
            tokio::time::advance(Duration::from_millis(5)).await;
        }
        // At least 0.8 s apart once the wait is the longest, at most 0.4 s cut off.
        assert!((25..=55).contains(&tries), "{tries} tries in 20 s");
        pace.succeeded();
        assert!(pace.is_due());
    }
}
