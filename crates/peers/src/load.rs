//! Load: as many requests under way as asked for, each followed by the next (a closed loop).

pub mod grpc;
pub mod http1;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// What a load measured.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// Requests answered well.
    pub calls: u64,
    /// Requests answered otherwise, or not at all.
    pub failed: u64,
    /// What the first of them got.
    pub first_failure: Option<String>,
    /// Time it took.
    pub took: Duration,
    /// How long each request took that was answered well, sorted.
    pub latencies: Vec<Duration>,
    /// How long each took that was not, sorted.
    pub refusals: Vec<Duration>,
}

/// The value that `share` of all, sorted, keep.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

impl Round {
    /// The latency that `share` of all good answers keep.
    pub fn percentile(&self, share: f64) -> Duration {
        percentile(&self.latencies, share)
    }

    /// Requests answered well in a second.
    pub fn rate(&self) -> f64 {
        self.calls as f64 / self.took.as_secs_f64()
    }

    /// Fails unless there were requests, and all were answered well.
    pub fn ensure_no_failure(&self) -> Result<()> {
        ensure!(
            self.failed == 0 && self.calls > 0,
            "{} answered, {} failed: {:?}",
            self.calls,
            self.failed,
            self.first_failure
        );
        Ok(())
    }

    /// Adds what one worker saw.
    fn add(&mut self, worker: Self) {
        self.calls += worker.calls;
        self.failed += worker.failed;
        self.first_failure = self.first_failure.take().or(worker.first_failure);
        self.latencies.extend(worker.latencies);
        self.refusals.extend(worker.refusals);
    }

    fn answered(&mut self, begun: Instant) {
        self.calls += 1;
        self.latencies.push(begun.elapsed());
    }

    fn refused(&mut self, begun: Instant, error: &anyhow::Error) {
        self.refusals.push(begun.elapsed());
        self.fail(error);
    }

    fn fail(&mut self, error: &anyhow::Error) {
        self.failed += 1;
        self.first_failure.get_or_insert_with(|| format!("{error:#}"));
    }
}

/// Puts together what the workers saw.
async fn gather(workers: Vec<tokio::task::JoinHandle<Round>>, begun: Instant) -> Round {
    let mut total = Round::default();
    for worker in workers {
        match worker.await {
            Ok(round) => total.add(round),
            Err(error) => total.fail(&anyhow::Error::from(error)),
        }
    }
    total.took = begun.elapsed();
    total.latencies.sort_unstable();
    total.refusals.sort_unstable();
    total
}
