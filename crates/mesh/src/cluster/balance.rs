//! Balancers: how one host is chosen among those that are well.

use std::{fmt, sync::Arc};

use super::{Host, Pick, config::ClusterConfig, hosts::Hosts};

mod least;
mod maglev;
mod peak_ewma;
mod random;
mod request_round_robin;
mod ring;
mod round_robin;
mod slow_start;
#[cfg(test)]
pub(super) mod testing;
mod weighted;

pub(super) use self::slow_start::SlowStart;

/// Chooses among the hosts that are well. Made for one set of hosts; their health may change.
/// Choosing takes no lock.
pub(super) trait Balance: fmt::Debug + Send + Sync {
    /// A healthy host; `None` only if there is none. Only balancers that go by a hash or by the
    /// number of tries heed `pick`; the others are asked again for a host that was not tried.
    fn choose<'a>(&self, hosts: &'a Hosts, pick: &Pick<'_>) -> Option<&'a Arc<Host>>;
}

/// The balancer that `config` names, for `all` hosts of the cluster.
pub(super) fn build(config: &ClusterConfig, all: &[Arc<Host>]) -> Arc<dyn Balance> {
    let slow_start = SlowStart::new(&config.slow_start);
    match config.lb_type.as_str() {
        "LB_RANDOM" => Arc::new(random::Random),
        "LB_WEIGHTED_ROUNDROBIN" => Arc::new(weighted::Weighted::new(slow_start)),
        "LB_LEAST_REQUEST" => Arc::new(least::Least::requests(&config.lbconfig, slow_start)),
        "LB_LEAST_CONNECTION" => Arc::new(least::Least::connections(&config.lbconfig, slow_start)),
        "LB_MAGLEV" => Arc::new(maglev::Maglev::new(all)),
        "LB_RING_HASH" => Arc::new(ring::Ring::new(all)),
        "LB_REQUEST_ROUNDROBIN" => Arc::new(request_round_robin::RequestRoundRobin),
        "LB_PEAK_EWMA" => Arc::new(peak_ewma::PeakEwma::new(&config.lbconfig, slow_start)),
        _ => Arc::new(round_robin::RoundRobin::default()),
    }
}

/// The best of some hosts drawn by weight, or of all if they are as few: the first with the lowest
/// score.
fn best_of<'a>(
    choices: usize,
    hosts: &'a Hosts,
    slow_start: Option<&SlowStart>,
    score: impl Fn(&Host) -> f64,
) -> Option<&'a Arc<Host>> {
    let draw = || match slow_start {
        Some(slow_start) => slow_start.draw(hosts),
        None => hosts.draw(),
    };
    let few = hosts.healthy().len() <= choices && slow_start.is_none();
    let first = draw()?;
    let best = |best: (&'a Arc<Host>, f64), host: &'a Arc<Host>| match score(host) {
        score if score < best.1 => (host, score),
        _ => best,
    };
    let begin = (first, score(first));
    let found = match few {
        true => hosts.healthy().iter().fold(begin, best),
        false => (1..choices).filter_map(|_| draw()).fold(begin, best),
    };
    Some(found.0)
}

/// A hash of `bytes` that is the same in every process, so that all of them agree on who serves a
/// key.
fn stable_hash(seed: u64, bytes: &[u8]) -> u64 {
    // FNV-1a (draft-eastlake-fnv), whose high bits are mixed poorly.
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325 ^ mix(seed), fold))
}

/// Spreads the bits of `n` over the whole number: the finaliser of SplitMix64.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
