//! `LB_PEAK_EWMA`: of a few hosts drawn by weight, the one that has answered soonest lately, open
//! requests and errors counted against it.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use tokio::time::Instant;

use super::{Balance, SlowStart, best_of};
use crate::cluster::{Host, Pick, config::LbConfig, hosts::Hosts};

/// What a host counts as that is asked for the first time and has not answered yet, in seconds: it
/// must not draw all requests until it does.
const UNKNOWN: f64 = 1.0;

/// A host that only fails counts as if it answered one in ten.
const LEAST_SUCCESS: f64 = 0.1;

#[derive(Debug)]
pub(super) struct PeakEwma {
    config: LbConfig,
    slow_start: Option<SlowStart>,
}

impl PeakEwma {
    pub(super) fn new(config: &LbConfig, slow_start: Option<SlowStart>) -> Self {
        Self {
            config: config.clone(),
            slow_start,
        }
    }

    fn score(&self, host: &Host, now: Instant) -> f64 {
        let active = host.active.load(Relaxed) as f64;
        let seconds = match host.latency.seconds(now) {
            0.0 if active > 0.0 => UNKNOWN,
            seconds => seconds,
        };
        let success = (1.0 - host.latency.client_errors(now)).powf(self.config.client_error_bias)
            * (1.0 - host.latency.server_errors(now)).powf(self.config.server_error_bias);
        seconds * (active + 1.0).powf(self.config.active_request_bias) / success.max(LEAST_SUCCESS)
    }
}

impl Balance for PeakEwma {
    fn choose<'a>(&self, hosts: &'a Hosts, _: &Pick<'_>) -> Option<&'a Arc<Host>> {
        let now = Instant::now();
        best_of(self.config.choices(), hosts, self.slow_start.as_ref(), |host| {
            self.score(host, now)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::*;
    use crate::cluster::{
        Outcome,
        balance::testing::{cluster, shares},
    };

    fn record(host: &Host, status: u16, millis: u64) {
        host.record(Outcome {
            status: StatusCode::from_u16(status).ok(),
            latency: Duration::from_millis(millis),
        });
    }

    #[test]
    fn hosts_that_never_answered_are_drawn_alike_within_a_tenth() {
        fastrand::seed(7);
        let cluster = cluster("LB_PEAK_EWMA", &[1; 4]);
        for share in shares(&cluster, 20_000) {
            assert!((0.225..0.275).contains(&share), "{share}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_host_is_passed_over_until_that_is_long_ago() {
        let cluster = cluster("LB_PEAK_EWMA", &[1, 1]);
        let hosts = cluster.hosts();
        record(&hosts[0], 200, 100);
        record(&hosts[1], 200, 10);
        assert_eq!(shares(&cluster, 100), [0.0, 1.0]);
        tokio::time::advance(Duration::from_secs(60)).await;
        record(&hosts[1], 200, 10);
        assert_eq!(shares(&cluster, 100), [1.0, 0.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn errors_and_open_requests_count_against_a_host() {
        let cluster = cluster("LB_PEAK_EWMA", &[1, 1]);
        let hosts = cluster.hosts();
        record(&hosts[0], 503, 10);
        record(&hosts[1], 200, 15);
        assert_eq!(shares(&cluster, 100), [0.0, 1.0], "it fails, if sooner");
        let _open: Vec<_> = (0..20).map(|_| hosts[1].begin()).collect();
        assert_eq!(shares(&cluster, 100), [1.0, 0.0], "twenty requests are worse");
    }
}
