//! Metrics that guests define. Their names are the process's: two guests that define one share it.

use std::sync::Mutex;

use super::lock;
use crate::abi::Status;

/// The most metrics of a process.
const MOST: usize = 1_000;

/// Upper bounds of the buckets of histograms. Guests record in units of their own, milliseconds as a
/// rule.
pub const BOUNDS: [u64; 18] = [
    1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000,
    1_800_000, 3_600_000,
];

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// What a metric shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number that grows.
    Counter(u64),
    /// A number that goes up and down.
    Gauge(i64),
    /// How many values were recorded, and their sum.
    Histogram {
        /// How many.
        count: u64,
        /// Their sum.
        sum: u64,
        /// How many of them are in each bucket of [`BOUNDS`], and last how many are above.
        buckets: [u64; BOUNDS.len() + 1],
    },
}

/// A metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// As the guest calls it; any text.
    pub name: String,
    /// What it shows now.
    pub value: Value,
}

/// All metrics; an id is a place in the list, counted from 1.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Vec<Metric>>);

impl Kind {
    pub(crate) fn of(number: u32) -> Result<Self, Status> {
        match number {
            0 => Ok(Self::Counter),
            1 => Ok(Self::Gauge),
            2 => Ok(Self::Histogram),
            _ => Err(Status::BadArgument),
        }
    }

    fn zero(self) -> Value {
        match self {
            Self::Counter => Value::Counter(0),
            Self::Gauge => Value::Gauge(0),
            Self::Histogram => Value::Histogram {
                count: 0,
                sum: 0,
                buckets: [0; BOUNDS.len() + 1],
            },
        }
    }
}

impl Metrics {
    pub(super) fn list(&self) -> Vec<Metric> {
        lock(&self.0).clone()
    }

    /// The id of the metric called `name`, which is made if it is not there; one of another kind is
    /// in the way.
    pub(crate) fn define(&self, kind: Kind, name: String) -> Result<u32, Status> {
        let mut list = lock(&self.0);
        let there = list.iter().position(|metric| metric.name == name);
        if there.is_none() && list.len() == MOST {
            return Err(Status::InternalFailure);
        }
        let at = there.unwrap_or_else(|| {
            list.push(Metric {
                name,
                value: kind.zero(),
            });
            list.len() - 1
        });
        let same = std::mem::discriminant(&list[at].value) == std::mem::discriminant(&kind.zero());
        if !same {
            return Err(Status::BadArgument);
        }
        u32::try_from(at + 1).map_err(|_| Status::InternalFailure)
    }

    pub(crate) fn increment(&self, id: u32, by: i64) -> Result<(), Status> {
        self.change(id, |value| match value {
            Value::Counter(count) => {
                *count = count.wrapping_add(u64::try_from(by).map_err(|_| Status::BadArgument)?);
                Ok(())
            }
            Value::Gauge(level) => {
                *level = level.wrapping_add(by);
                Ok(())
            }
            Value::Histogram { .. } => Err(Status::BadArgument),
        })
    }

    /// Sets a gauge, adds to a counter, adds a value to a histogram.
    pub(crate) fn record(&self, id: u32, number: u64) -> Result<(), Status> {
        self.change(id, |value| {
            match value {
                Value::Counter(count) => *count = count.wrapping_add(number),
                Value::Gauge(level) => *level = number.cast_signed(),
                Value::Histogram { count, sum, buckets } => {
                    buckets[BOUNDS.partition_point(|bound| *bound < number)] += 1;
                    *count += 1;
                    *sum = sum.wrapping_add(number);
                }
            }
            Ok(())
        })
    }

    /// The number of a counter or gauge; a histogram has none.
    pub(crate) fn get(&self, id: u32) -> Result<u64, Status> {
        let mut found = 0;
        self.change(id, |value| {
            found = match value {
                Value::Counter(count) => *count,
                Value::Gauge(level) => level.cast_unsigned(),
                Value::Histogram { .. } => return Err(Status::BadArgument),
            };
            Ok(())
        })?;
        Ok(found)
    }

    fn change(&self, id: u32, change: impl FnOnce(&mut Value) -> Result<(), Status>) -> Result<(), Status> {
        let index = (id as usize).checked_sub(1).ok_or(Status::NotFound)?;
        let mut list = lock(&self.0);
        change(&mut list.get_mut(index).ok_or(Status::NotFound)?.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_metric_of_one_kind() {
        let metrics = Metrics::default();
        let id = metrics.define(Kind::Counter, "a".to_owned()).unwrap();
        assert_eq!(metrics.define(Kind::Counter, "a".to_owned()), Ok(id));
        assert_eq!(
            metrics.define(Kind::Gauge, "a".to_owned()),
            Err(Status::BadArgument)
        );
        assert_ne!(metrics.define(Kind::Gauge, "b".to_owned()), Ok(id));
    }

    #[test]
    fn counters_only_grow_and_gauges_move() {
        let metrics = Metrics::default();
        let counter = metrics.define(Kind::Counter, "c".to_owned()).unwrap();
        let gauge = metrics.define(Kind::Gauge, "g".to_owned()).unwrap();
        metrics.increment(counter, 2).unwrap();
        metrics.record(counter, 3).unwrap();
        assert_eq!(metrics.increment(counter, -1), Err(Status::BadArgument));
        assert_eq!(metrics.get(counter), Ok(5));
        metrics.record(gauge, 3).unwrap();
        metrics.increment(gauge, -5).unwrap();
        assert_eq!(metrics.get(gauge), Ok((-2_i64).cast_unsigned()));
    }

    #[test]
    fn a_histogram_counts_and_sums_and_is_neither_incremented_nor_read() {
        let metrics = Metrics::default();
        let id = metrics.define(Kind::Histogram, "h".to_owned()).unwrap();
        metrics.record(id, 3).unwrap();
        metrics.record(id, 4).unwrap();
        metrics.record(id, 5).unwrap();
        metrics.record(id, u64::MAX - 12).unwrap();
        let Value::Histogram { count, sum, buckets } = metrics.list()[0].value else {
            panic!("a histogram");
        };
        assert_eq!((count, sum), (4, u64::MAX));
        assert_eq!((buckets[0], buckets[1], buckets[BOUNDS.len()]), (0, 3, 1));
        assert_eq!(metrics.increment(id, 1), Err(Status::BadArgument));
        assert_eq!(metrics.get(id), Err(Status::BadArgument));
        assert_eq!(metrics.get(0), Err(Status::NotFound));
        assert_eq!(metrics.get(9), Err(Status::NotFound));
    }

    #[test]
    fn there_are_so_many_metrics_and_no_more() {
        let metrics = Metrics::default();
        for number in 0..MOST {
            metrics.define(Kind::Gauge, number.to_string()).unwrap();
        }
        assert_eq!(
            metrics.define(Kind::Gauge, "more".to_owned()),
            Err(Status::InternalFailure)
        );
        assert_eq!(metrics.define(Kind::Gauge, "7".to_owned()), Ok(8), "it is there");
    }
}
