//! `LB_ROUNDROBIN`: one host after the other, whatever their weights.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::Balance;
use crate::cluster::{Host, Pick, hosts::Hosts};

#[derive(Debug)]
pub(super) struct RoundRobin {
    next: AtomicUsize,
}

impl Default for RoundRobin {
    fn default() -> Self {
        // At random, or all processes that start together begin with the same host.
        Self {
            next: AtomicUsize::new(fastrand::usize(..1 << 16)),
        }
    }
}

impl Balance for RoundRobin {
    fn choose<'a>(&self, hosts: &'a Hosts, _: &Pick<'_>) -> Option<&'a Arc<Host>> {
        let healthy = hosts.healthy();
        let turn = self.next.fetch_add(1, Relaxed);
        healthy.get(turn.checked_rem(healthy.len())?)
    }
}

#[cfg(test)]
mod tests {
    use crate::cluster::balance::testing::{cluster, picks};

    #[test]
    fn every_host_has_its_turn() {
        let cluster = cluster("LB_ROUNDROBIN", &[1, 9, 1]);
        let names = picks(&cluster, 9);
        let (first, rest) = names.split_at(3);
        assert!(rest.chunks(3).all(|round| round == first), "{names:?}");
        let mut distinct = first.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 3);
    }
}
