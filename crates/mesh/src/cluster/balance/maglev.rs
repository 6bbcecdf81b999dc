//! `LB_MAGLEV`: requests with the same hash go to the same host; when a host comes or goes, few
//! others change theirs. Eisenbud et al., Maglev (NSDI 2016), section 3.4.

use std::sync::Arc;

use super::{Balance, mix, stable_hash};
use crate::cluster::{Host, Pick, hosts::Hosts};

/// Slots of the table; a prime.
const SLOTS: u32 = 65_537;

/// How many further slots are looked at for a host that can take over, before any is taken.
const PROBES: u64 = 16;

/// Per slot the index of its host among all.
pub(super) struct Maglev(Vec<u32>);

impl Maglev {
    pub(super) fn new(hosts: &[Arc<Host>]) -> Self {
        if hosts.is_empty() {
            return Self(Vec::new());
        }
        let heaviest = hosts.iter().map(|host| host.weight).max().unwrap_or(1).max(1);
        let mut turns: Vec<_> = hosts.iter().map(|host| Turns::of(host)).collect();
        let mut table = vec![u32::MAX; SLOTS as usize];
        let mut left = SLOTS;
        for round in 0_u64.. {
            if left == 0 {
                break;
            }
            for (index, turns) in (0_u32..).zip(&mut turns) {
                // A host of half the largest weight takes a slot in every second round.
                let taken = |rounds: u64| rounds * u64::from(turns.weight) / u64::from(heaviest);
                if left > 0 && taken(round + 1) > taken(round) {
                    turns.take(&mut table, index);
                    left -= 1;
                }
            }
        }
        Self(table)
    }

    fn slot(&self, hash: u64) -> Option<usize> {
        let slot = usize::try_from(hash % u64::from(SLOTS)).ok()?;
        usize::try_from(*self.0.get(slot)?).ok()
    }
}

impl std::fmt::Debug for Maglev {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Maglev")
    }
}

impl Balance for Maglev {
    fn choose<'a>(&self, hosts: &'a Hosts, pick: &Pick<'_>) -> Option<&'a Arc<Host>> {
        let fits = |host: &&Arc<Host>| host.is_healthy() && !pick.has_tried(host);
        // Further slots are hashed, not neighbours, so that a lost host's keys are spread over all.
        (0..PROBES)
            .filter_map(|probe| {
                hosts
                    .all()
                    .get(self.slot(mix(pick.hash.wrapping_add(probe << 32)))?)
            })
            .find(fits)
            .or_else(|| hosts.healthy().iter().find(fits))
            .or_else(|| hosts.healthy().first())
    }
}

/// The order in which a host takes slots.
struct Turns {
    weight: u32,
    next: u64,
    skip: u64,
}

impl Turns {
    fn of(host: &Host) -> Self {
        Self {
            weight: host.weight,
            next: stable_hash(1, host.name.as_bytes()) % u64::from(SLOTS),
            skip: stable_hash(2, host.name.as_bytes()) % u64::from(SLOTS - 1) + 1,
        }
    }

    /// Takes the first free slot; there must be one.
    fn take(&mut self, table: &mut [u32], index: u32) {
        loop {
            let slot = self.next as usize;
            self.next = (self.next + self.skip) % u64::from(SLOTS);
            if table[slot] == u32::MAX {
                table[slot] = index;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{
        balance::testing::{self, cluster, shares},
        host::Ill,
    };

    #[test]
    fn a_lost_host_leaves_its_keys_to_all_others() {
        let cluster = cluster("LB_MAGLEV", &[1; 5]);
        let lost = cluster.hosts()[2].clone();
        lost.set(Ill::Checked, true);
        cluster.refresh();
        for (index, share) in shares(&cluster, 20_000).into_iter().enumerate() {
            match index {
                2 => assert_eq!(share, 0.0),
                _ => assert!((0.225..0.275).contains(&share), "{share}"),
            }
        }
    }

    #[test]
    fn a_retry_goes_elsewhere_and_always_to_the_same() {
        let cluster = cluster("LB_MAGLEV", &[1; 5]);
        for hash in 0..100 {
            let first = cluster.choose(&Pick { hash, tried: &[] }).unwrap();
            let tried = [first.clone()];
            let second = cluster.choose(&Pick { hash, tried: &tried }).unwrap();
            assert_ne!(first.name, second.name);
            assert_eq!(
                second.name,
                cluster.choose(&Pick { hash, tried: &tried }).unwrap().name
            );
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(12))]

        /// Within 1.5 % of all keys.
        #[test]
        fn shares_follow_weights(weights in proptest::collection::vec(1u32..=16, 1..10)) {
            testing::hash_shares_follow_weights("LB_MAGLEV", &weights, 0.015)?;
        }

        #[test]
        fn few_keys_move(hosts in 2usize..20, gone in 0usize..20, salt: u64) {
            testing::few_keys_move("LB_MAGLEV", hosts, gone % hosts, salt)?;
        }
    }
}
