//! `LB_RANDOM`: each host with the same chance, whatever its weight.

use std::sync::Arc;

use super::Balance;
use crate::cluster::{Host, Pick, hosts::Hosts};

#[derive(Debug)]
pub(super) struct Random;

impl Balance for Random {
    fn choose<'a>(&self, hosts: &'a Hosts, _: &Pick<'_>) -> Option<&'a Arc<Host>> {
        match hosts.healthy() {
            [] => None,
            healthy => healthy.get(fastrand::usize(..healthy.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cluster::balance::testing::{cluster, shares};

    #[test]
    fn every_host_gets_the_same_within_a_tenth() {
        fastrand::seed(7);
        let cluster = cluster("LB_RANDOM", &[1, 5, 128, 1]);
        for share in shares(&cluster, 20_000) {
            assert!((0.225..0.275).contains(&share), "{share}");
        }
    }
}
