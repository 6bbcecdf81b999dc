//! How much may go to a cluster at one time. What is taken is given back when its permit is dropped.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{config::Thresholds, stats::Stats};

/// Retries that are always allowed, where `max_retries` is not set.
const RETRY_FLOOR: u64 = 3;

/// One retry to so many open requests is allowed, where `max_retries` is not set.
const REQUESTS_PER_RETRY: u64 = 5;

/// The limits of one cluster, and what is taken of them.
#[derive(Debug)]
pub struct Limits {
    connections: Limit,
    pending: Limit,
    requests: Limit,
    retries: Limit,
    stats: Arc<Stats>,
}

/// Something taken from a limit; given back when it is dropped.
#[derive(Debug)]
#[must_use = "dropping the permit gives it back"]
pub struct Permit {
    limits: Arc<Limits>,
    of: Overflow,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overflow {
    /// `max_connections`.
    #[error("the cluster has max_connections connections already")]
    Connections,
    /// `max_pending_requests`.
    #[error("max_pending_requests requests wait for a connection to the cluster already")]
    PendingRequests,
    /// `max_requests`.
    #[error("the cluster has max_requests requests already")]
    Requests,
    /// `max_retries`, or the budget that holds without it.
    #[error("the cluster has as many retries as it may have")]
    Retries,
}

#[derive(Debug)]
struct Limit {
    taken: AtomicU64,
    max: u64,
}

impl Limits {
    pub(super) fn new(thresholds: Thresholds, stats: Arc<Stats>) -> Arc<Self> {
        Arc::new(Self {
            connections: Limit::new(thresholds.max_connections),
            pending: Limit::new(thresholds.max_pending_requests),
            requests: Limit::new(thresholds.max_requests),
            retries: Limit::new(thresholds.max_retries),
            stats,
        })
    }

    /// For the life of a connection, from before it is made.
    pub fn try_connection(self: &Arc<Self>) -> Result<Permit, Overflow> {
        self.take(Overflow::Connections)
    }

    /// For the wait for a connection.
    pub fn try_pending(self: &Arc<Self>) -> Result<Permit, Overflow> {
        self.take(Overflow::PendingRequests)
    }

    /// For a request, until its reply has ended.
    pub fn try_request(self: &Arc<Self>) -> Result<Permit, Overflow> {
        self.take(Overflow::Requests)
    }

    /// For a retry, beside the permit for its request. Where `max_retries` is not set, retries may
    /// be a fifth of the open requests, and always three, so that they cannot multiply the load of
    /// hosts that fail under it.
    pub fn try_retry(self: &Arc<Self>) -> Result<Permit, Overflow> {
        self.take(Overflow::Retries)
    }

    /// How much is taken of a limit now.
    pub fn taken(&self, of: Overflow) -> u64 {
        self.limit(of).taken.load(Relaxed)
    }

    fn take(self: &Arc<Self>, of: Overflow) -> Result<Permit, Overflow> {
        if !self.limit(of).take(self.max(of)) {
            self.count_refusal(of);
            return Err(of);
        }
        Ok(Permit {
            limits: self.clone(),
            of,
        })
    }

    fn max(&self, of: Overflow) -> u64 {
        match (of, self.limit(of).max) {
            (Overflow::Retries, 0) => (self.taken(Overflow::Requests) / REQUESTS_PER_RETRY).max(RETRY_FLOOR),
            (_, 0) => u64::MAX,
            (_, max) => max,
        }
    }

    fn count_refusal(&self, of: Overflow) {
        match of {
            Overflow::Retries => self.stats.request_retry_overflow.inc(),
            Overflow::PendingRequests | Overflow::Requests => self.stats.request_pending_overflow.inc(),
            Overflow::Connections => {}
        }
    }

    fn limit(&self, of: Overflow) -> &Limit {
        match of {
            Overflow::Connections => &self.connections,
            Overflow::PendingRequests => &self.pending,
            Overflow::Requests => &self.requests,
            Overflow::Retries => &self.retries,
        }
    }
}

impl Limit {
    fn new(max: u32) -> Self {
        Self {
            taken: AtomicU64::new(0),
            max: max.into(),
        }
    }

    fn take(&self, max: u64) -> bool {
        let more = |taken| (taken < max).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, more).is_ok()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.limit(self.of).taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(thresholds: Thresholds) -> (Arc<Limits>, Arc<Stats>) {
        let stats = Arc::new(Stats::default());
        (Limits::new(thresholds, stats.clone()), stats)
    }

    #[test]
    fn a_dropped_permit_is_given_back_once() {
        let (limits, stats) = limits(Thresholds {
            max_requests: 2,
            ..Thresholds::default()
        });
        let (first, second) = (limits.try_request().unwrap(), limits.try_request().unwrap());
        assert_eq!(limits.try_request().unwrap_err(), Overflow::Requests);
        assert_eq!(stats.request_pending_overflow.get(), 1);
        drop(first);
        let third = limits.try_request().unwrap();
        assert_eq!(limits.try_request().unwrap_err(), Overflow::Requests);
        drop((second, third));
        assert_eq!(limits.taken(Overflow::Requests), 0);
    }

    #[test]
    fn limits_are_apart() {
        let (limits, _) = limits(Thresholds {
            max_connections: 1,
            max_pending_requests: 1,
            max_requests: 1,
            max_retries: 1,
        });
        let _held = (
            limits.try_connection().unwrap(),
            limits.try_pending().unwrap(),
            limits.try_request().unwrap(),
            limits.try_retry().unwrap(),
        );
        assert_eq!(limits.try_connection().unwrap_err(), Overflow::Connections);
        assert_eq!(limits.try_pending().unwrap_err(), Overflow::PendingRequests);
        assert_eq!(limits.try_request().unwrap_err(), Overflow::Requests);
        assert_eq!(limits.try_retry().unwrap_err(), Overflow::Retries);
    }

    #[test]
    fn zero_is_no_limit() {
        let (limits, _) = limits(Thresholds::default());
        let held: Vec<_> = (0..1000).map(|_| limits.try_request().unwrap()).collect();
        assert_eq!(limits.taken(Overflow::Requests), 1000);
        drop(held);
    }

    // deviation: D052
    #[test]
    fn without_a_limit_retries_are_a_fifth_of_the_requests_and_at_least_three() {
        let (limits, stats) = limits(Thresholds::default());
        let mut retries: Vec<_> = (0..3).map(|_| limits.try_retry().unwrap()).collect();
        assert_eq!(limits.try_retry().unwrap_err(), Overflow::Retries);
        assert_eq!(stats.request_retry_overflow.get(), 1);
        let _requests: Vec<_> = (0..25).map(|_| limits.try_request().unwrap()).collect();
        retries.extend((0..2).map(|_| limits.try_retry().unwrap()));
        assert!(limits.try_retry().is_err());
    }

    #[test]
    fn many_threads_never_hold_more_than_the_limit() {
        let (limits, _) = limits(Thresholds {
            max_requests: 5,
            ..Thresholds::default()
        });
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let permit = limits.try_request();
                        assert!(limits.taken(Overflow::Requests) <= 5);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(limits.taken(Overflow::Requests), 0);
    }
}
