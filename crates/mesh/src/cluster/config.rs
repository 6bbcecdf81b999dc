//! The configuration of clusters.

use serde::Deserialize;

/// All clusters.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ClusterManager {
    /// The clusters.
    pub clusters: Vec<ClusterConfig>,
}

/// One cluster.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ClusterConfig {
    /// Its name.
    pub name: String,
    /// Its hosts.
    pub hosts: Vec<HostConfig>,
    /// Its limits; only the first counts.
    pub circuit_breakers: Vec<Thresholds>,
}

/// One host.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct HostConfig {
    /// Where it is.
    pub address: String,
}

/// Limits.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Thresholds {
    /// How many connections may be open; 0: any number.
    pub max_connections: u32,
}
