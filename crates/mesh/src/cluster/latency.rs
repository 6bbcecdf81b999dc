//! Moving averages of what tries of a host came to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::Outcome;

/// The time in which the weight of a sample falls to 1/e.
const MEMORY: Duration = Duration::from_secs(10);

/// Moving averages of what tries of a host came to; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Latency(Arc<Averages>);

#[derive(Debug)]
struct Averages {
    born: Instant,
    /// Of the last sample: nanoseconds after `born`; 0 before the first.
    at: AtomicU64,
    seconds: Float,
    client_errors: Float,
    server_errors: Float,
}

/// An f64 in an atomic.
#[derive(Debug, Default)]
struct Float(AtomicU64);

impl Latency {
    /// Adds a sample. Concurrent samples may overwrite each other: an average bears that.
    pub(super) fn record(&self, outcome: &Outcome, now: Instant) {
        // Many samples in an instant count too.
        let keep = self.faded(now).min(0.95);
        let sample = outcome.latency.as_secs_f64();
        // A peak counts at once, relief only by and by.
        match sample > self.seconds(now) {
            true => self.0.seconds.set(sample),
            false => self.0.seconds.mix(keep, sample),
        }
        let status = outcome.status.map_or(599, |status| status.as_u16());
        self.0
            .client_errors
            .mix(keep, f64::from((400..500).contains(&status)));
        self.0.server_errors.mix(keep, f64::from(status >= 500));
        self.0.at.store(self.0.nanos(now).max(1), Relaxed);
    }

    /// The average time until a reply, in seconds; 0 before the first. It falls while there is no
    /// new sample, so that a host that was slow gets another chance.
    pub(super) fn seconds(&self, now: Instant) -> f64 {
        self.0.seconds.get() * self.faded(now)
    }

    /// The share of 4xx replies; it falls like the time.
    pub(super) fn client_errors(&self, now: Instant) -> f64 {
        self.0.client_errors.get() * self.faded(now)
    }

    /// The share of 5xx replies and of tries without a reply; it falls like the time.
    pub(super) fn server_errors(&self, now: Instant) -> f64 {
        self.0.server_errors.get() * self.faded(now)
    }

    /// What is left of the weight of the last sample.
    fn faded(&self, now: Instant) -> f64 {
        match self.0.at.load(Relaxed) {
            0 => 0.0,
            at => (-(self.0.nanos(now).saturating_sub(at) as f64) / MEMORY.as_nanos() as f64).exp(),
        }
    }
}

impl Averages {
    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Default for Averages {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            at: AtomicU64::new(0),
            seconds: Float::default(),
            client_errors: Float::default(),
            server_errors: Float::default(),
        }
    }
}

impl Float {
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }

    fn mix(&self, keep: f64, sample: f64) {
        self.set(self.get() * keep + sample * (1.0 - keep));
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn outcome(status: u16, millis: u64) -> Outcome {
        Outcome {
            status: StatusCode::from_u16(status).ok(),
            latency: Duration::from_millis(millis),
        }
    }

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let (latency, begin) = (Latency::default(), Instant::now());
        latency.record(&outcome(200, 10), begin);
        latency.record(&outcome(200, 1000), begin);
        assert_eq!(latency.seconds(begin), 1.0);
        latency.record(&outcome(200, 10), begin);
        assert!((0.9..1.0).contains(&latency.seconds(begin)));
        let later = latency.seconds(begin + MEMORY);
        assert!((0.3..0.4).contains(&later), "{later}");
        latency.record(&outcome(200, 10), begin + 10 * MEMORY);
        let after = latency.seconds(begin + 10 * MEMORY);
        assert!((0.009..0.011).contains(&after), "{after}");
    }

    #[test]
    fn errors_are_told_apart() {
        let (latency, now) = (Latency::default(), Instant::now());
        latency.record(&outcome(404, 1), now);
        assert!(latency.client_errors(now) > 0.9 && latency.server_errors(now) == 0.0);
        (0..200).for_each(|_| {
            latency.record(
                &Outcome {
                    status: None,
                    ..outcome(0, 1)
                },
                now,
            )
        });
        assert!(latency.client_errors(now) < 0.1 && latency.server_errors(now) > 0.9);
    }
}
