//! Slow start: a host that is new, or well again, gets less than its share at first.

use std::{sync::Arc, time::Duration};

use crate::cluster::{Host, config, hosts::Hosts};

/// How often a draw is repeated before the last host drawn is taken.
const DRAWS: usize = 8;

/// How a host comes to its full share.
#[derive(Debug, Clone)]
pub(in crate::cluster) struct SlowStart {
    window: Duration,
    exponent: f64,
    floor: f64,
}

impl SlowStart {
    /// `None`: it is off.
    pub(in crate::cluster) fn new(config: &config::SlowStart) -> Option<Self> {
        let window = config.slow_start_duration.0;
        let aggression = match config.aggression {
            0.0 => 1.0,
            aggression => aggression,
        };
        (config.mode == "duration" && !window.is_zero()).then(|| Self {
            window,
            exponent: aggression.recip(),
            floor: config.min_weight_percent,
        })
    }

    /// The part of its weight that a host of this age has.
    pub(super) fn factor(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let passed = age.max(Duration::from_secs(1)).as_secs_f64() / self.window.as_secs_f64();
        passed.min(1.0).powf(self.exponent).max(self.floor)
    }

    /// Draws a host by weight and age.
    pub(super) fn draw<'a>(&self, hosts: &'a Hosts) -> Option<&'a Arc<Host>> {
        let mut host = hosts.draw()?;
        for _ in 1..DRAWS {
            if fastrand::f64() < self.factor(host.age()) {
                break;
            }
            host = hosts.draw()?;
        }
        Some(host)
    }
}

#[cfg(test)]
mod tests {
    use layotto_core::GoDuration;

    use super::*;
    use crate::cluster::{
        balance::testing::{cluster_of, config, shares},
        config::ClusterConfig,
        host::Ill,
    };

    fn slow(aggression: f64) -> config::SlowStart {
        config::SlowStart {
            mode: "duration".into(),
            slow_start_duration: GoDuration(Duration::from_secs(100)),
            aggression,
            min_weight_percent: 0.1,
        }
    }

    #[test]
    fn the_factor_rises_from_the_floor_to_one() {
        let linear = SlowStart::new(&slow(1.0)).unwrap();
        for (age, factor) in [(0, 0.1), (5, 0.1), (25, 0.25), (50, 0.5), (100, 1.0), (1000, 1.0)] {
            assert_eq!(linear.factor(Duration::from_secs(age)), factor, "{age}");
        }
        let aggressive = SlowStart::new(&slow(2.0)).unwrap();
        assert_eq!(aggressive.factor(Duration::from_secs(25)), 0.5);
        assert!(SlowStart::new(&config::SlowStart::default()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_is_well_again_gets_less_until_the_window_is_over() {
        for lb_type in ["LB_WEIGHTED_ROUNDROBIN", "LB_LEAST_REQUEST"] {
            fastrand::seed(7);
            let cluster = cluster_of(ClusterConfig {
                slow_start: slow(1.0),
                ..config(lb_type, &[1, 1])
            });
            tokio::time::advance(Duration::from_secs(200)).await;
            let host = cluster.hosts()[0].clone();
            host.set(Ill::Checked, true);
            host.set(Ill::Checked, false);
            cluster.refresh();
            tokio::time::advance(Duration::from_secs(25)).await;
            let share = shares(&cluster, 4000)[0];
            // A quarter of the other's, within a tenth of all.
            assert!((0.1..0.3).contains(&share), "{lb_type} {share}");
            tokio::time::advance(Duration::from_secs(100)).await;
            let share = shares(&cluster, 4000)[0];
            assert!((0.45..0.55).contains(&share), "{lb_type} {share}");
        }
    }
}
