//! What is counted of a cluster and of each of its hosts; names are those of upstream's metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that goes up, or up and down; clones of its owner share it.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Takes one away; for gauges.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// Makes it `n`; for gauges.
    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// What it is now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! stats {
    ($name:ident, $about:literal, $($(#[$doc:meta])* $field:ident,)*) => {
        #[doc = $about]
        #[derive(Debug, Default)]
        pub struct $name {
            $($(#[$doc])* pub $field: Count,)*
        }

        impl $name {
            /// Every number with its name. Those that end in `_active` or are called `healthy` are
            /// gauges, the others only go up.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field.get()),)*].into_iter()
            }
        }
    };
}

stats! {
    Stats, "What is counted of a cluster, and of each host: see [`Host::count`](super::Host::count).",
    /// Connections made.
    connection_total,
    /// Connections closed, by either end.
    connection_close,
    /// Connections open now.
    connection_active,
    /// Connections that could not be made.
    connection_con_fail,
    /// Further tries after a connection could not be made.
    connection_retry,
    /// Connections closed by us.
    connection_local_close,
    /// Connections closed by the host.
    connection_remote_close,
    /// Connections closed by us while they carried a request.
    connection_local_close_with_active_request,
    /// Connections closed by the host while they carried a request.
    connection_remote_close_with_active_request,
    /// Requests sent, each try counted.
    request_total,
    /// Requests that wait for the end of their reply.
    request_active,
    /// Requests given up by us.
    request_local_reset,
    /// Requests given up by the host.
    request_remote_reset,
    /// Requests that took too long.
    request_timeout,
    /// Requests that failed because no host was well.
    request_failure_eject,
    /// Requests refused by a limit.
    request_pending_overflow,
    /// Retries.
    request_retry,
    /// Retries refused by a limit.
    request_retry_overflow,
    /// Nanoseconds until the heads of replies, summed up.
    request_duration_time_total,
    /// Replies below 500.
    response_success,
    /// Replies of 500 and more, and tries without a reply.
    response_failed,
}

stats! {
    HealthStats, "What is counted of a cluster's health checks.",
    /// Checks.
    attempt,
    /// Checks that succeeded.
    success,
    /// Checks that failed, for whatever reason.
    failure,
    /// Checks that failed by their reply.
    active_failure,
    /// Hosts ejected for their replies to requests.
    passive_failure,
    /// Checks that failed because there was no connection or no reply in time.
    network_failure,
    /// Hosts that became unhealthy by checks.
    became_unhealthy,
    /// Hosts that became healthy again by checks.
    became_healthy,
    /// Hosts that are well now.
    healthy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_listed_with_its_name() {
        let stats = Stats::default();
        stats.request_retry.add(3);
        stats.request_active.inc();
        stats.request_active.inc();
        stats.request_active.dec();
        let nonzero: Vec<_> = stats.all().filter(|(_, n)| *n > 0).collect();
        assert_eq!(nonzero, [("request_active", 1), ("request_retry", 3)]);
        assert_eq!(stats.all().count(), 21);
    }
}
