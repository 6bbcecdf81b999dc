//! How often a client that lost its product tries again.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Pauses between tries: doubled after each failure, up to the longest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Of clients that open connections: less than ten tries a second, and none much later than
    /// three quarters of a second after the product is back.
    pub(crate) const CONNECT: Self = Self::new(Duration::from_millis(150), Duration::from_millis(500));

    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The pause after so many failures in a row, [spread].
    pub(crate) fn after(self, failures: u32) -> Duration {
        let doubled = self.first * 2_u32.saturating_pow(failures.saturating_sub(1).min(8));
        spread(doubled.min(self.longest))
    }
}

/// Longer by up to a half at random, so that many sidecars do not try at once.
pub(crate) fn spread(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + fastrand::f64() / 2.0)
}

/// The time between tries, whoever wants one.
#[derive(Debug)]
pub(crate) struct Pace {
    backoff: Backoff,
    failures: u32,
    next: Option<Instant>,
}

impl Pace {
    pub(crate) const fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            failures: 0,
            next: None,
        }
    }

    /// Whether it is time for a try.
    pub(crate) fn is_due(&self) -> bool {
        self.next.is_none_or(|next| next <= Instant::now())
    }

    /// A try failed, or begins that the next one is not to follow at once.
    pub(crate) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.next = Some(Instant::now() + self.backoff.after(self.failures));
    }

    /// A try succeeded: the next one need not wait.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::new(self.backoff);
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(Backoff::CONNECT)
    }
}

/// Tries of callers that each make one of their own: while the product is away, one of them in a
/// while does, and the others fail with what the last try failed with.
#[derive(Debug)]
pub(crate) struct Turns(Mutex<Away>);

#[derive(Debug)]
struct Away {
    pace: Pace,
    /// Why the last try failed, where it did.
    reason: Option<String>,
}

impl Turns {
    pub(crate) const fn new(backoff: Backoff) -> Self {
        Self(Mutex::new(Away {
            pace: Pace::new(backoff),
            reason: None,
        }))
    }

    /// Fails, with what the last try failed with, unless it is this caller's turn to try.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut away = self.held();
        match &away.reason {
            Some(reason) if !away.pace.is_due() => Err(reason.clone()),
            Some(_) => {
                away.pace.failed();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The product could not be reached.
    pub(crate) fn failed(&self, reason: &str) {
        let mut away = self.held();
        away.pace.failed();
        away.reason = Some(reason.to_owned());
    }

    /// The product was reached.
    pub(crate) fn succeeded(&self) {
        let mut away = self.held();
        away.pace.succeeded();
        away.reason = None;
    }

    fn held(&self) -> MutexGuard<'_, Away> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        // From half a second to three quarters apart once the pause is the longest.
        assert!((25..=45).contains(&tries), "{tries} tries in 20 s");
        pace.succeeded();
        assert!(pace.is_due());
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_differ_by_a_half() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(400));
        for (failures, least) in [(0, 100), (1, 100), (2, 200), (3, 400), (4, 400), (u32::MAX, 400)] {
            let least = Duration::from_millis(least);
            for _ in 0..20 {
                let pause = backoff.after(failures);
                assert!((least..=least * 3 / 2).contains(&pause), "{failures}: {pause:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_product_is_away_one_caller_in_a_while_tries() {
        let pause = Duration::from_millis(200);
        let turns = Turns::new(Backoff::new(pause, pause));
        assert_eq!(turns.check(), Ok(()));
        turns.failed("gone");
        let mut tries = 0;
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(10)).await;
            match turns.check() {
                Ok(()) => tries += 1,
                Err(reason) => assert_eq!(reason, "gone"),
            }
        }
        assert!((3..=5).contains(&tries), "{tries}");
        turns.succeeded();
        assert_eq!(turns.check(), Ok(()));
    }
}
