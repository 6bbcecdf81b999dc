//! The hosts of a cluster at one moment: which there are, which are well, and who chooses among
//! them. Never changed; a new one takes its place.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Host, Pick, balance::Balance};

/// How often a balancer is asked for a host that was not tried, before any such host is taken.
const DRAWS: usize = 4;

/// The hosts of a cluster at one moment.
#[derive(Debug)]
pub(super) struct Hosts {
    all: Arc<[Arc<Host>]>,
    healthy: Vec<Arc<Host>>,
    /// Per healthy host the sum of its weight and those before it; empty if all are equal.
    sums: Vec<u32>,
    heaviest: u32,
    balancer: Arc<dyn Balance>,
    recovery: Option<Instant>,
}

impl Hosts {
    /// `balancer` was made for `all`.
    pub(super) fn new(all: Arc<[Arc<Host>]>, balancer: Arc<dyn Balance>) -> Self {
        let healthy: Vec<_> = all.iter().filter(|host| host.is_healthy()).cloned().collect();
        let recovery = all.iter().filter_map(|host| host.recovery()).min();
        Self {
            sums: sums(&healthy),
            heaviest: healthy.iter().map(|host| host.weight).max().unwrap_or(1),
            all,
            healthy,
            balancer,
            recovery,
        }
    }

    /// The same with the health that hosts have now.
    pub(super) fn refreshed(&self) -> Self {
        Self::new(self.all.clone(), self.balancer.clone())
    }

    /// All hosts.
    pub(super) fn all(&self) -> &Arc<[Arc<Host>]> {
        &self.all
    }

    /// The hosts that are well.
    pub(super) fn healthy(&self) -> &[Arc<Host>] {
        &self.healthy
    }

    /// Whether a host has been ejected for long enough.
    pub(super) fn is_due(&self) -> bool {
        self.recovery.is_some_and(|at| at <= Instant::now())
    }

    /// Chooses a healthy host, if possible one that was not tried.
    pub(super) fn choose(&self, pick: &Pick<'_>) -> Option<&Arc<Host>> {
        let first = self.balancer.choose(self, pick)?;
        if !pick.has_tried(first) {
            return Some(first);
        }
        let drawn = (1..DRAWS)
            .filter_map(|_| self.balancer.choose(self, pick))
            .find(|host| !pick.has_tried(host));
        drawn.or_else(|| self.untried(pick)).or(Some(first))
    }

    /// Draws a healthy host at random, by weight; `None`: there is none.
    pub(super) fn draw(&self) -> Option<&Arc<Host>> {
        let index = match self.sums.last() {
            Some(total) => {
                let point = fastrand::u32(..*total);
                self.sums.partition_point(|sum| *sum <= point)
            }
            None if self.healthy.is_empty() => return None,
            None => fastrand::usize(..self.healthy.len()),
        };
        self.healthy.get(index)
    }

    /// The largest weight of a healthy host.
    pub(super) fn heaviest(&self) -> u32 {
        self.heaviest
    }

    fn untried(&self, pick: &Pick<'_>) -> Option<&Arc<Host>> {
        let start = fastrand::usize(..self.healthy.len().max(1));
        let (before, after) = self.healthy.split_at_checked(start)?;
        after.iter().chain(before).find(|host| !pick.has_tried(host))
    }
}

fn sums(hosts: &[Arc<Host>]) -> Vec<u32> {
    if hosts.windows(2).all(|pair| pair[0].weight == pair[1].weight) {
        return Vec::new();
    }
    let add = |sum: &mut u32, host: &Arc<Host>| {
        *sum = sum.saturating_add(host.weight);
        Some(*sum)
    };
    hosts.iter().scan(0, add).collect()
}
