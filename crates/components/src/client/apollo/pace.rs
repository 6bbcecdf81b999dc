//! How often a service is tried that cannot be reached.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// While a service cannot be reached, one call in this time tries again; the others fail at once.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether the service was reached last, and when it is tried again.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Option<Away>>);

#[derive(Debug)]
struct Away {
    next: Instant,
    reason: String,
}

impl Pace {
    /// Fails, with what the last try failed with, unless it is this caller's turn to try.
    pub(super) fn check(&self) -> Result<(), String> {
        match &mut *self.held() {
            Some(away) if away.next > Instant::now() => Err(away.reason.clone()),
            Some(away) => {
                away.next = next();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The service could not be reached.
    pub(super) fn failed(&self, reason: &str) {
        let reason = reason.to_owned();
        *self.held() = Some(Away { next: next(), reason });
    }

    /// The service was reached.
    pub(super) fn succeeded(&self) {
        *self.held() = None;
    }

    fn held(&self) -> MutexGuard<'_, Option<Away>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Later by up to a half at random, so that many sidecars do not try at once.
fn next() -> Instant {
    Instant::now() + PAUSE.mul_f64(1.0 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn while_a_service_is_away_one_caller_in_a_while_tries() {
        let pace = Pace::default();
        assert_eq!(pace.check(), Ok(()));
        pace.failed("gone");
        let mut tries = 0;
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(10)).await;
            match pace.check() {
                Ok(()) => tries += 1,
                Err(reason) => assert_eq!(reason, "gone"),
            }
        }
        assert!((3..=5).contains(&tries), "{tries}");
        pace.succeeded();
        assert_eq!(pace.check(), Ok(()));
    }
}
