//! Which cluster a request is sent to.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use http::request;

use super::config::{ForwardAction, WeightedCluster};
use crate::{config::ConfigError, exchange::Exchange, variable};

/// Which cluster a request is sent to.
#[derive(Debug)]
pub(super) enum Choice {
    Named(Arc<str>),
    Variable(Box<str>),
    Weighted(Weighted),
}

/// Clusters and the shares that they get.
#[derive(Debug)]
pub(super) struct Weighted {
    /// Each with the sum of the weights up to its own.
    clusters: Box<[(u64, Arc<str>)]>,
    total: u64,
}

impl Choice {
    /// What `action` says.
    pub(super) fn new(action: &ForwardAction) -> Result<Self, ConfigError> {
        match action {
            ForwardAction { cluster_name, .. } if !cluster_name.is_empty() => {
                Ok(Self::Named(cluster_name.as_str().into()))
            }
            ForwardAction { cluster_variable, .. } if !cluster_variable.is_empty() => {
                Ok(Self::Variable(cluster_variable.as_str().into()))
            }
            ForwardAction {
                weighted_clusters, ..
            } if !weighted_clusters.is_empty() => Weighted::new(weighted_clusters).map(Self::Weighted),
            _ => Err(ConfigError::new(
                "cluster_name",
                "is missing; accepted: cluster_name, cluster_variable or weighted_clusters",
            )),
        }
    }

    /// The clusters that the configuration names.
    pub(super) fn names(&self) -> Vec<&Arc<str>> {
        match self {
            Self::Named(name) => vec![name],
            Self::Variable(_) => Vec::new(),
            Self::Weighted(weighted) => weighted.clusters.iter().map(|(_, name)| name).collect(),
        }
    }

    /// Chooses; by chance where there are weights.
    pub(super) fn choose(&self, head: &request::Parts, exchange: &Exchange) -> Option<Arc<str>> {
        match self {
            Self::Named(name) => Some(name.clone()),
            Self::Variable(variable) => variable::value(variable, head, exchange)
                .filter(|name| !name.is_empty())
                .map(Arc::from),
            Self::Weighted(weighted) => weighted.at(below(weighted.total)),
        }
    }
}

impl Weighted {
    fn new(clusters: &[WeightedCluster]) -> Result<Self, ConfigError> {
        let mut total = 0;
        let mut summed = Vec::with_capacity(clusters.len());
        for (index, WeightedCluster { cluster }) in clusters.iter().enumerate() {
            if cluster.name.is_empty() {
                let path = format!("weighted_clusters[{index}].cluster.name");
                return Err(ConfigError::new(path, "is missing"));
            }
            total += u64::from(cluster.weight);
            summed.push((total, Arc::from(cluster.name.as_str())));
        }
        if total == 0 {
            return Err(ConfigError::new(
                "weighted_clusters",
                "have weights that sum up to 0",
            ));
        }
        let clusters = summed.into();
        Ok(Self { clusters, total })
    }

    /// The cluster whose share `point`, below the total, falls into.
    fn at(&self, point: u64) -> Option<Arc<str>> {
        let index = self.clusters.partition_point(|(sum, _)| *sum <= point);
        self.clusters.get(index).map(|(_, name)| name.clone())
    }
}

/// A number below `limit`, by chance: `RandomState` has a new key each time it is made.
fn below(limit: u64) -> u64 {
    let random = RandomState::new().hash_one(0_u8);
    let scaled = (u128::from(random) * u128::from(limit)) >> 64;
    u64::try_from(scaled).expect("invariant: below a u64")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::config::Cluster;

    fn weighted(shares: &[(&str, u32)]) -> Vec<WeightedCluster> {
        let cluster = |(name, weight): &(&str, u32)| Cluster {
            name: (*name).into(),
            weight: *weight,
        };
        shares
            .iter()
            .map(|share| WeightedCluster {
                cluster: cluster(share),
            })
            .collect()
    }

    #[test]
    fn every_point_falls_into_the_share_of_its_cluster() {
        let weighted = Weighted::new(&weighted(&[("a", 2), ("none", 0), ("b", 1)])).unwrap();
        let found: Vec<_> = (0..4).map(|point| weighted.at(point)).collect();
        assert_eq!(
            found,
            [Some("a".into()), Some("a".into()), Some("b".into()), None]
        );
    }

    #[test]
    fn chance_keeps_the_shares() {
        let low = (0..4000).filter(|_| below(4) == 0).count();
        assert!((800..1200).contains(&low), "{low} of 4000");
        assert!((0..4000).all(|_| below(3) < 3));
    }

    // deviation: D053
    #[test]
    fn weights_that_sum_up_to_nothing_are_refused() {
        let error = Weighted::new(&weighted(&[("a", 0)])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "weighted_clusters: have weights that sum up to 0"
        );
    }
}
