//! `LB_RING_HASH` (our own name, after Envoy's `RING_HASH`): hosts are points of a ring, several
//! each, and a request goes to the point that follows its hash.

use std::sync::Arc;

use super::{Balance, mix, stable_hash};
use crate::cluster::{Host, Pick, hosts::Hosts};

/// Points of a host of average weight.
const POINTS: usize = 512;

/// Points of a large ring; hosts have fewer each then, but at least [`FEWEST`].
const RING: usize = 1 << 17;

/// See [`RING`].
const FEWEST: usize = 32;

/// Points and the indices of their hosts among all, in order.
pub(super) struct Ring(Vec<(u64, u32)>);

impl Ring {
    pub(super) fn new(hosts: &[Arc<Host>]) -> Self {
        let total: usize = hosts.iter().map(|host| host.weight as usize).sum();
        let average = RING.checked_div(hosts.len()).unwrap_or(0).clamp(FEWEST, POINTS);
        let points = |host: &Host| (average * hosts.len() * host.weight as usize).div_ceil(total.max(1));
        let mut ring: Vec<_> = (0_u32..)
            .zip(hosts)
            .flat_map(|(index, host)| {
                (0..points(host)).map(move |n| (stable_hash(n as u64, host.name.as_bytes()), index))
            })
            .collect();
        ring.sort_unstable();
        Self(ring)
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({})", self.0.len())
    }
}

impl Balance for Ring {
    fn choose<'a>(&self, hosts: &'a Hosts, pick: &Pick<'_>) -> Option<&'a Arc<Host>> {
        let hash = mix(pick.hash);
        let (before, after) = self
            .0
            .split_at(self.0.partition_point(|(point, _)| *point < hash));
        let fits = |host: &&Arc<Host>| host.is_healthy() && !pick.has_tried(host);
        after
            .iter()
            .chain(before)
            .filter_map(|(_, index)| hosts.all().get(*index as usize))
            .find(fits)
            .or_else(|| hosts.healthy().first())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{
        balance::testing::{self, cluster},
        host::Ill,
    };

    #[test]
    fn keys_of_other_hosts_stay_when_one_is_lost() {
        let cluster = cluster("LB_RING_HASH", &[1; 5]);
        let at = |hash| cluster.choose(&Pick { hash, tried: &[] }).unwrap().name.clone();
        let before: Vec<_> = (0..1000).map(at).collect();
        let lost = cluster.hosts()[2].clone();
        lost.set(Ill::Checked, true);
        cluster.refresh();
        for (hash, name) in (0..).zip(before) {
            match name == lost.name {
                true => assert_ne!(at(hash), lost.name),
                false => assert_eq!(at(hash), name),
            }
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(12))]

        /// Within 6 % of all keys.
        #[test]
        fn shares_follow_weights(weights in proptest::collection::vec(1u32..=16, 1..10)) {
            testing::hash_shares_follow_weights("LB_RING_HASH", &weights, 0.06)?;
        }

        #[test]
        fn few_keys_move(hosts in 2usize..20, gone in 0usize..20, salt: u64) {
            testing::few_keys_move("LB_RING_HASH", hosts, gone % hosts, salt)?;
        }
    }
}
