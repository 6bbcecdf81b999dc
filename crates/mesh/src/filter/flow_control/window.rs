//! Sliding windows: calls counted in buckets of equal length, the youngest few of which are a
//! window.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The buckets of all resources, and how many of them are kept beside the one before them.
const BUCKET: Duration = Duration::from_millis(500);
const BUCKETS: usize = 20;

/// The time since a filter was built.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        nanos(self.0.elapsed())
    }

    /// When the clock shows `nanos`.
    pub fn at(&self, nanos: u64) -> Instant {
        self.0 + Duration::from_nanos(nanos)
    }
}

/// How an interval is cut: intervals of whole half seconds up to ten seconds read the half
/// seconds of the resource; others have buckets of their own, two, or twenty for long ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The length of a bucket in nanoseconds.
    pub bucket: u64,
    /// How many buckets are the interval.
    pub buckets: u64,
}

impl Cut {
    /// The cut of an interval of at least one millisecond.
    pub fn of(interval: Duration) -> Self {
        let (whole, all) = (nanos(interval), nanos(BUCKET));
        let buckets = match whole / all {
            n if n <= BUCKETS as u64 && whole.is_multiple_of(all) => n,
            n if n <= BUCKETS as u64 => 2,
            _ => BUCKETS as u64,
        };
        Self {
            bucket: whole / buckets,
            buckets,
        }
    }
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub passed: u64,
    pub blocked: u64,
}

/// The buckets of one length of one resource.
#[derive(Debug)]
pub struct Ring {
    bucket: u64,
    buckets: Mutex<Box<[Bucket]>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// Counted from 1, the first since the clock's start; 0 was never used.
    number: u64,
    counts: Counts,
}

impl Ring {
    /// An empty ring for buckets of `bucket` nanoseconds.
    pub fn new(bucket: u64) -> Self {
        Self {
            bucket,
            // One more than the longest window, for its look one bucket back.
            buckets: Mutex::new(vec![Bucket::default(); BUCKETS + 1].into()),
        }
    }

    /// The length of a bucket in nanoseconds.
    pub fn bucket(&self) -> u64 {
        self.bucket
    }

    /// Counts a call that passed or was blocked at `now`.
    pub fn count(&self, now: u64, passed: bool) {
        let number = self.number(now);
        let mut buckets = self.lock();
        let place = (number % buckets.len() as u64) as usize;
        let bucket = &mut buckets[place];
        if bucket.number < number {
            *bucket = Bucket {
                number,
                ..Bucket::default()
            };
        }
        match passed {
            true => bucket.counts.passed += 1,
            false => bucket.counts.blocked += 1,
        }
    }

    fn number(&self, now: u64) -> u64 {
        now / self.bucket + 1
    }

    /// The sum of the `buckets` buckets up to bucket `last`.
    fn sum(&self, last: u64, buckets: u64) -> Counts {
        let within = (last + 1).saturating_sub(buckets).max(1)..=last;
        let mut sum = Counts::default();
        for bucket in self
            .lock()
            .iter()
            .filter(|bucket| within.contains(&bucket.number))
        {
            sum.passed += bucket.counts.passed;
            sum.blocked += bucket.counts.blocked;
        }
        sum
    }

    fn lock(&self) -> MutexGuard<'_, Box<[Bucket]>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The youngest buckets of a ring.
#[derive(Debug, Clone)]
pub struct Window {
    pub ring: Arc<Ring>,
    pub buckets: u64,
}

impl Window {
    /// Its length in nanoseconds.
    pub fn length(&self) -> u64 {
        self.ring.bucket * self.buckets
    }

    /// What was counted in the window that ends with the bucket of `now`.
    pub fn counts(&self, now: u64) -> Counts {
        self.ring.sum(self.ring.number(now), self.buckets)
    }

    /// What was counted in the window that ends one bucket earlier.
    pub fn counts_before(&self, now: u64) -> Counts {
        self.ring.sum(self.ring.number(now) - 1, self.buckets)
    }
}

/// Nanoseconds, up to 584 years.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn intervals_are_cut_into_half_seconds_where_they_can_be() {
        for (interval, bucket, buckets) in [
            (1000, 500 * MS, 2),
            (500, 500 * MS, 1),
            (10_000, 500 * MS, 20),
            (100, 50 * MS, 2),
            (1, MS / 2, 2),
            (1250, 625 * MS, 2),
            (60_000, 3000 * MS, 20),
        ] {
            let cut = Cut::of(Duration::from_millis(interval));
            assert_eq!(cut, Cut { bucket, buckets }, "{interval}");
        }
    }

    #[test]
    fn a_window_forgets_a_bucket_at_a_time() {
        let ring = Arc::new(Ring::new(500 * MS));
        let window = Window { ring, buckets: 2 };
        let passed = |at: u64| window.counts(at * MS).passed;
        window.ring.count(499 * MS, true);
        window.ring.count(500 * MS, true);
        window.ring.count(500 * MS, false);
        assert_eq!(
            window.counts(999 * MS),
            Counts {
                passed: 2,
                blocked: 1
            }
        );
        assert_eq!((passed(1000), passed(1499), passed(1500)), (1, 1, 0));
        assert_eq!(window.counts_before(1500 * MS).passed, 1);
        assert_eq!(window.counts_before(0).passed, 0);
    }

    #[test]
    fn a_bucket_is_used_again_when_the_ring_comes_round() {
        let ring = Arc::new(Ring::new(MS));
        let window = Window { ring, buckets: 20 };
        for now in 0..100 {
            window.ring.count(now * MS, true);
        }
        assert_eq!(window.counts(99 * MS).passed, 20);
        assert_eq!(window.counts_before(99 * MS).passed, 20);
    }
}
