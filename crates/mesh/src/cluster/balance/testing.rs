//! Clusters and counts for the tests of balancers.

use std::{collections::HashMap, sync::Arc};

use proptest::{prop_assert, test_runner::TestCaseError};

use crate::cluster::{
    Cluster, Clusters, Pick,
    config::{ClusterConfig, ClusterManager, HostConfig},
};

/// A cluster `c` with hosts 10.0.0.0:80, 10.0.0.1:80 and so on of these weights.
pub(in crate::cluster) fn config(lb_type: &str, weights: &[u32]) -> ClusterConfig {
    let host = |(n, weight): (usize, &u32)| HostConfig {
        address: format!("10.0.{}.{}:80", n / 250, n % 250),
        weight: *weight,
        ..HostConfig::default()
    };
    ClusterConfig {
        name: "c".into(),
        lb_type: lb_type.into(),
        hosts: weights.iter().enumerate().map(host).collect(),
        ..ClusterConfig::default()
    }
}

pub(in crate::cluster) fn cluster_of(config: ClusterConfig) -> Arc<Cluster> {
    let manager = ClusterManager {
        clusters: vec![config],
        ..ClusterManager::default()
    };
    Clusters::build(&manager, None).unwrap().get("c").unwrap().clone()
}

pub(super) fn cluster(lb_type: &str, weights: &[u32]) -> Arc<Cluster> {
    cluster_of(config(lb_type, weights))
}

/// The names of `n` hosts chosen, for hashes 0, 1 and so on.
pub(super) fn picks(cluster: &Cluster, n: u64) -> Vec<String> {
    (0..n)
        .map(|hash| {
            cluster
                .choose(&Pick { hash, tried: &[] })
                .unwrap()
                .name
                .to_string()
        })
        .collect()
}

/// The share of each host, in their order, of `n` choices.
pub(super) fn shares(cluster: &Cluster, n: u64) -> Vec<f64> {
    let mut counts = HashMap::<_, f64>::new();
    for name in picks(cluster, n) {
        *counts.entry(name).or_default() += 1.0 / n as f64;
    }
    let share = |host: &Arc<crate::cluster::Host>| counts.get(&*host.name).copied().unwrap_or(0.0);
    cluster
        .hosts()
        .iter()
        .map(share)
        .map(|share| (share * 1e9).round() / 1e9)
        .collect()
}

pub(super) fn hash_shares_follow_weights(
    lb_type: &str,
    weights: &[u32],
    tolerance: f64,
) -> Result<(), TestCaseError> {
    let total: u32 = weights.iter().sum();
    for (share, weight) in shares(&cluster(lb_type, weights), 20_000)
        .into_iter()
        .zip(weights)
    {
        let expected = f64::from(*weight) / f64::from(total);
        prop_assert!((share - expected).abs() < tolerance, "{} {}", share, expected);
    }
    Ok(())
}

/// Without one of `n` hosts, and so with one more, at most 1/n + 10 % of the keys change hosts.
pub(super) fn few_keys_move(lb_type: &str, n: usize, gone: usize, salt: u64) -> Result<(), TestCaseError> {
    const KEYS: u64 = 5000;
    let full = config(lb_type, &vec![1; n]);
    let mut fewer = full.clone();
    fewer.hosts.remove(gone);
    let (full, fewer) = (cluster_of(full), cluster_of(fewer));
    let at = |cluster: &Cluster, key: u64| {
        let hash = salt.wrapping_add(key);
        cluster.choose(&Pick { hash, tried: &[] }).unwrap().name.clone()
    };
    let moved = (0..KEYS)
        .filter(|key| at(&full, *key) != at(&fewer, *key))
        .count();
    let moved = moved as f64 / KEYS as f64;
    prop_assert!(moved <= 1.0 / n as f64 + 0.1, "{} of {}", moved, n);
    Ok(())
}
