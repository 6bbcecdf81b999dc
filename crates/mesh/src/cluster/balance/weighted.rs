//! `LB_WEIGHTED_ROUNDROBIN`: turns in proportion to weight, spread evenly: the schedule of an
//! earliest-deadline-first queue, without its heap and its lock.
//!
//! Every host is visited in each round; one with a share `w` of the largest weight is passed over
//! in all rounds but those in which the sum of its shares reaches a whole number.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{Balance, SlowStart};
use crate::cluster::{Host, Pick, config::MAX_WEIGHT, hosts::Hosts};

/// A whole turn.
const WHOLE: u64 = 1 << 20;

/// How many hosts may be passed over before one is drawn at random by weight instead, so that one
/// heavy host among many light ones does not make choosing slow.
const PATIENCE: usize = 32;

#[derive(Debug)]
pub(super) struct Weighted {
    visit: AtomicU64,
    slow_start: Option<SlowStart>,
}

impl Weighted {
    pub(super) fn new(slow_start: Option<SlowStart>) -> Self {
        Self {
            visit: AtomicU64::new(fastrand::u64(..1 << 16)),
            slow_start,
        }
    }

    /// The host's share of a turn, at most [`WHOLE`].
    fn share(&self, host: &Host, heaviest: u32) -> u64 {
        let whole = u64::from(host.weight) * WHOLE / u64::from(heaviest.max(1));
        match &self.slow_start {
            Some(slow_start) => (whole as f64 * slow_start.factor(host.age())) as u64,
            None => whole,
        }
    }
}

impl Balance for Weighted {
    fn choose<'a>(&self, hosts: &'a Hosts, _: &Pick<'_>) -> Option<&'a Arc<Host>> {
        let healthy = hosts.healthy();
        let count = u64::try_from(healthy.len()).unwrap_or(u64::MAX);
        for _ in 0..PATIENCE {
            let visit = self.visit.fetch_add(1, Relaxed);
            let (round, index) = (visit.checked_div(count)?, visit % count);
            let host = healthy.get(usize::try_from(index).ok()?)?;
            let share = self.share(host, hosts.heaviest());
            // Hosts of one weight take their turns in different rounds.
            let begin = index.wrapping_mul(WHOLE / 2 + WHOLE / 7);
            let sum = round.wrapping_mul(share).wrapping_add(begin) % WHOLE;
            if sum + share >= WHOLE {
                return Some(host);
            }
        }
        match &self.slow_start {
            Some(slow_start) => slow_start.draw(hosts),
            None => hosts.draw(),
        }
    }
}

const _: () = assert!(WHOLE >= MAX_WEIGHT as u64 * 1024, "shares would be too coarse");

#[cfg(test)]
mod tests {
    use crate::cluster::balance::testing::{cluster, picks, shares};

    #[test]
    fn shares_are_exact_over_a_full_schedule_and_spread_evenly() {
        let cluster = cluster("LB_WEIGHTED_ROUNDROBIN", &[4, 2, 1, 1]);
        let names = picks(&cluster, 80);
        let turns: Vec<_> = (0..80).filter(|i| names[*i] == "10.0.0.0:80").collect();
        assert!((39..=41).contains(&turns.len()), "{}", turns.len());
        assert!(turns.windows(2).all(|pair| pair[1] - pair[0] <= 4), "{turns:?}");
        let light = names.iter().filter(|name| **name == "10.0.0.3:80").count();
        assert!((9..=11).contains(&light), "{light}");
    }

    #[test]
    fn equal_weights_have_a_turn_each() {
        let cluster = cluster("LB_WEIGHTED_ROUNDROBIN", &[7, 7, 7]);
        let names = picks(&cluster, 30);
        for host in ["10.0.0.0:80", "10.0.0.1:80", "10.0.0.2:80"] {
            assert_eq!(names.iter().filter(|name| **name == host).count(), 10);
        }
    }

    proptest::proptest! {
        /// Within 5 % of all picks, whatever the weights.
        #[test]
        fn shares_follow_weights(weights in proptest::collection::vec(1u32..=128, 1..12)) {
            fastrand::seed(7);
            let cluster = cluster("LB_WEIGHTED_ROUNDROBIN", &weights);
            let total: u32 = weights.iter().sum();
            for (share, weight) in shares(&cluster, 4000).into_iter().zip(&weights) {
                let expected = f64::from(*weight) / f64::from(total);
                proptest::prop_assert!((share - expected).abs() < 0.05, "{} {}", share, expected);
            }
        }
    }

    #[test]
    fn one_heavy_host_among_many_light_ones_gets_its_share() {
        fastrand::seed(7);
        let mut weights = vec![1; 200];
        weights[0] = 128;
        let cluster = cluster("LB_WEIGHTED_ROUNDROBIN", &weights);
        let share = shares(&cluster, 20_000)[0];
        let expected = 128.0 / 327.0;
        assert!((share - expected).abs() < 0.05, "{share} {expected}");
    }
}
