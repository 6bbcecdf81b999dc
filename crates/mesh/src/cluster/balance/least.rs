//! `LB_LEAST_REQUEST` and `LB_LEAST_CONNECTION`: of a few hosts drawn by weight, the one with the
//! least to do for its weight.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{Balance, SlowStart, best_of};
use crate::cluster::{Host, Pick, config::LbConfig, hosts::Hosts};

#[derive(Debug)]
pub(super) struct Least {
    load: fn(&Host) -> f64,
    choices: usize,
    bias: f64,
    slow_start: Option<SlowStart>,
}

impl Least {
    /// By open requests.
    pub(super) fn requests(config: &LbConfig, slow_start: Option<SlowStart>) -> Self {
        Self::by(|host| host.active.load(Relaxed) as f64, config, slow_start)
    }

    /// By open connections.
    pub(super) fn connections(config: &LbConfig, slow_start: Option<SlowStart>) -> Self {
        Self::by(
            |host| host.stats.connection_active.get() as f64,
            config,
            slow_start,
        )
    }

    fn by(load: fn(&Host) -> f64, config: &LbConfig, slow_start: Option<SlowStart>) -> Self {
        Self {
            load,
            choices: config.choices(),
            bias: config.active_request_bias,
            slow_start,
        }
    }

    fn score(&self, host: &Host) -> f64 {
        // Hosts were drawn by weight already: with nothing to do they are alike, whatever theirs.
        match self.bias {
            0.0 => 0.0,
            bias => (self.load)(host).powf(bias) / f64::from(host.weight),
        }
    }
}

impl Balance for Least {
    fn choose<'a>(&self, hosts: &'a Hosts, _: &Pick<'_>) -> Option<&'a Arc<Host>> {
        best_of(self.choices, hosts, self.slow_start.as_ref(), |host| {
            self.score(host)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::balance::testing::{cluster, shares};

    #[test]
    fn idle_hosts_get_their_share_within_a_tenth() {
        fastrand::seed(7);
        for lb_type in ["LB_LEAST_REQUEST", "LB_LEAST_CONNECTION"] {
            let cluster = cluster(lb_type, &[3, 1, 1, 1]);
            let shares = shares(&cluster, 20_000);
            assert!((0.45..0.55).contains(&shares[0]), "{shares:?}");
            assert!((0.15..0.185).contains(&shares[1]), "{shares:?}");
        }
    }

    #[test]
    fn open_requests_level_out() {
        fastrand::seed(7);
        let cluster = cluster("LB_LEAST_REQUEST", &[1; 10]);
        let open: Vec<_> = (0..1000)
            .map(|_| cluster.choose(&Pick::default()).unwrap().begin())
            .collect();
        for host in cluster.hosts().iter() {
            let active = host.active.load(Relaxed);
            assert!((90..=110).contains(&active), "{active}");
        }
        drop(open);
        assert!(cluster.hosts().iter().all(|host| host.active.load(Relaxed) == 0));
    }

    #[test]
    fn open_requests_level_out_by_weight() {
        fastrand::seed(7);
        let cluster = cluster("LB_LEAST_REQUEST", &[3, 1, 1, 1]);
        let _open: Vec<_> = (0..600)
            .map(|_| cluster.choose(&Pick::default()).unwrap().begin())
            .collect();
        let active = cluster.hosts()[0].active.load(Relaxed);
        // Half of them, within a tenth.
        assert!((270..=330).contains(&active), "{active}");
    }

    #[test]
    fn a_host_with_more_to_do_is_passed_over() {
        let cluster = cluster("LB_LEAST_REQUEST", &[1, 1]);
        let busy = cluster.hosts()[0].clone();
        let _open = busy.begin();
        for _ in 0..100 {
            assert_ne!(cluster.choose(&Pick::default()).unwrap().name, busy.name);
        }
    }

    #[test]
    fn connections_count_for_least_connection() {
        let cluster = cluster("LB_LEAST_CONNECTION", &[1, 1]);
        let busy = cluster.hosts()[1].clone();
        busy.count(|stats| stats.connection_active.inc());
        for _ in 0..100 {
            assert_ne!(cluster.choose(&Pick::default()).unwrap().name, busy.name);
        }
    }
}
