//! A histogram of durations that is written without a lock.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

/// Upper bounds of the buckets in nanoseconds: 50 µs to 60 s; what takes longer is in one more.
const BOUNDS: [u64; 18] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    15_000_000_000,
    60_000_000_000,
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// How often durations were how long, in nanoseconds.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    buckets: [u64; BUCKETS],
    sum: u64,
    min: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| nanos <= *bound);
        self.buckets[bucket.unwrap_or(BOUNDS.len())].fetch_add(1, Relaxed);
        self.sum.fetch_add(nanos, Relaxed);
        // Extremes are seldom new: a load spares the write.
        if nanos < self.min.load(Relaxed) {
            self.min.fetch_min(nanos, Relaxed);
        }
        if nanos > self.max.load(Relaxed) {
            self.max.fetch_max(nanos, Relaxed);
        }
    }

    /// What it holds now.
    pub fn read(&self) -> Reading {
        Reading {
            buckets: std::array::from_fn(|index| self.buckets[index].load(Relaxed)),
            sum: self.sum.load(Relaxed),
            min: self.min.load(Relaxed),
            max: self.max.load(Relaxed),
        }
    }
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
            sum: 0,
            min: u64::MAX,
            max: 0,
        }
    }
}

impl Reading {
    /// All durations together, in nanoseconds.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The shortest duration in nanoseconds, 0 before the first.
    pub fn min(&self) -> u64 {
        if self.min > self.max { 0 } else { self.min }
    }

    /// The longest duration in nanoseconds.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Adds what another one held.
    pub fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += more;
        }
        self.sum = self.sum.wrapping_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

impl EncodeMetric for Reading {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let bounds = BOUNDS.iter().map(|bound| *bound as f64).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.buckets).collect();
        encoder.encode_histogram::<NoLabelSet>(self.sum as f64, self.count(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::default();
        for micros in [50, 51, 100_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let reading = histogram.read();
        assert_eq!(
            (reading.buckets[0], reading.buckets[1], reading.buckets[18]),
            (1, 1, 1)
        );
        assert_eq!(reading.count(), 3);
        assert_eq!(reading.sum(), 100_000_101_000);
        assert_eq!((reading.min(), reading.max()), (50_000, 100_000_000_000));
    }

    #[test]
    fn readings_add_up() {
        let histogram = Histogram::default();
        let mut sum = histogram.read();
        assert_eq!(sum.min(), 0);
        histogram.observe(Duration::from_millis(3));
        sum.add(&histogram.read());
        sum.add(&histogram.read());
        assert_eq!((sum.count(), sum.min(), sum.sum()), (2, 3_000_000, 6_000_000));
    }
}
