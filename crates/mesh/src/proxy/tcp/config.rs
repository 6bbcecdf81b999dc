//! The configuration of the TCP proxy, and the routes made of it.

use std::{net::IpAddr, ops::RangeInclusive, time::Duration};

use layotto_core::GoDuration;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    config::{ConfigError, Fate::Ignored, OtherKey},
    connection::{Info, Remote},
};

/// Keys of upstream's that [`TcpProxyConfig`] does not take.
pub const OTHER_KEYS: &[OtherKey] = &[
    OtherKey {
        path: "stat_prefix",
        fate: Ignored,
        why: "counters are named by listener and cluster",
    },
    OtherKey {
        path: "max_connect_attempts",
        fate: Ignored,
        why: "three hosts are tried, as upstream does whatever the value",
    },
];

/// Passes connections on to clusters as they are.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TcpProxyConfig {
    /// The cluster of connections that no route takes.
    pub cluster: String,
    /// Clusters by the addresses of a connection; the first that matches is taken.
    pub routes: Vec<RouteConfig>,
    /// How long a connection may be still before it is closed: a duration such as `90s`, or a
    /// number of nanoseconds. Default: the listener's `connection_idle_timeout`.
    pub idle_timeout: Option<IdleTimeout>,
}

/// Which connections go to a cluster. What is empty matches all.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RouteConfig {
    /// The cluster.
    #[serde(alias = "Cluster")]
    pub cluster: String,
    /// Networks that the client is in.
    #[serde(alias = "SourceAddrs")]
    pub source_addrs: Vec<Network>,
    /// Networks that the address which the client connected to is in.
    #[serde(alias = "DestinationAddrs")]
    pub destination_addrs: Vec<Network>,
    /// The client's port: numbers and ranges, such as `80,8000-8999`.
    #[serde(alias = "SourcePort")]
    pub source_port: String,
    /// The port that the client connected to: numbers and ranges.
    #[serde(alias = "DestinationPort")]
    pub destination_port: String,
}

/// A network: `10.0.0.0/8`, a single address, or its parts.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Network {
    /// Such as `10.0.0.0/8` or `10.0.0.1`.
    Text(String),
    /// An address and the number of bits that count.
    Parts {
        /// Such as `10.0.0.0`.
        #[serde(alias = "Address")]
        address: String,
        /// From 0 to 32, or 128 for IPv6.
        #[serde(alias = "Length")]
        length: u8,
    },
}

/// A duration, or a number of nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum IdleTimeout {
    /// Nanoseconds, as upstream has it.
    Nanoseconds(u64),
    /// Such as `90s`.
    Duration(GoDuration),
}

/// Which connections go to a cluster.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) cluster: String,
    source: Ends,
    destination: Ends,
}

#[derive(Debug, Default)]
struct Ends {
    networks: Vec<(IpAddr, u8)>,
    ports: Vec<RangeInclusive<u16>>,
}

impl IdleTimeout {
    /// The duration.
    pub fn get(self) -> Duration {
        match self {
            Self::Nanoseconds(nanos) => Duration::from_nanos(nanos),
            Self::Duration(GoDuration(duration)) => duration,
        }
    }
}

impl TcpProxyConfig {
    /// The routes, that of `cluster` last.
    pub(super) fn routes(&self) -> Result<Vec<Route>, ConfigError> {
        let mut routes = Vec::new();
        for (at, config) in self.routes.iter().enumerate() {
            routes.push(
                config
                    .route()
                    .map_err(|error| error.under(&format!("routes[{at}]")))?,
            );
        }
        if !self.cluster.is_empty() {
            routes.push(Route {
                cluster: self.cluster.clone(),
                source: Ends::default(),
                destination: Ends::default(),
            });
        }
        match routes.is_empty() {
            true => Err(ConfigError::new(
                "cluster",
                "the name of a cluster is needed, or routes",
            )),
            false => Ok(routes),
        }
    }
}

impl RouteConfig {
    fn route(&self) -> Result<Route, ConfigError> {
        if self.cluster.is_empty() {
            return Err(ConfigError::new("cluster", "the name of a cluster is needed"));
        }
        Ok(Route {
            cluster: self.cluster.clone(),
            source: Ends {
                networks: networks("source_addrs", &self.source_addrs)?,
                ports: ports("source_port", &self.source_port)?,
            },
            destination: Ends {
                networks: networks("destination_addrs", &self.destination_addrs)?,
                ports: ports("destination_port", &self.destination_port)?,
            },
        })
    }
}

impl Route {
    pub(super) fn matches(&self, info: &Info) -> bool {
        let source = match info.remote() {
            Remote::Tcp(address) => Some((address.ip(), address.port())),
            Remote::Unix { .. } => None,
        };
        let local = info.local().tcp();
        let destination = local.map(|address| (address.ip(), address.port()));
        self.source.match_end(source) && self.destination.match_end(destination)
    }
}

impl Ends {
    fn match_end(&self, end: Option<(IpAddr, u16)>) -> bool {
        let Some((ip, port)) = end else {
            return self.networks.is_empty() && self.ports.is_empty();
        };
        let (ip, any) = (ip.to_canonical(), self.networks.is_empty());
        (any || self.networks.iter().any(|network| contains(*network, ip)))
            && (self.ports.is_empty() || self.ports.iter().any(|range| range.contains(&port)))
    }
}

fn contains((network, length): (IpAddr, u8), ip: IpAddr) -> bool {
    let same = |network: u128, ip: u128, unused: u32| {
        let differ = network ^ ip;
        differ.checked_shr(unused).unwrap_or(0) == 0
    };
    let length = u32::from(length);
    match (network, ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) => {
            same(network.to_bits().into(), ip.to_bits().into(), 32 - length)
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) => same(network.to_bits(), ip.to_bits(), 128 - length),
        _ => false,
    }
}

fn networks(key: &str, networks: &[Network]) -> Result<Vec<(IpAddr, u8)>, ConfigError> {
    networks
        .iter()
        .map(|it| network(it).ok_or_else(|| no_network(key, it)))
        .collect()
}

fn no_network(key: &str, network: &Network) -> ConfigError {
    let text = match network {
        Network::Text(text) => text.clone(),
        Network::Parts { address, length } => format!("{address}/{length}"),
    };
    ConfigError::new(key, format!("{text:?} is no network such as \"10.0.0.0/8\""))
}

fn network(network: &Network) -> Option<(IpAddr, u8)> {
    let (ip, length) = match network {
        Network::Text(text) => match text.split_once('/') {
            Some((ip, length)) => (ip, Some(length.parse().ok()?)),
            None => (text.as_str(), None),
        },
        Network::Parts { address, length } => (address.as_str(), Some(*length)),
    };
    let ip: IpAddr = ip.parse().ok()?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    Some((ip, length.unwrap_or(most))).filter(|(_, length)| *length <= most)
}

fn ports(key: &str, list: &str) -> Result<Vec<RangeInclusive<u16>>, ConfigError> {
    let range = |text: &str| {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let range = from.trim().parse().ok()?..=to.trim().parse().ok()?;
        (!range.is_empty()).then_some(range)
    };
    let wrong = || {
        ConfigError::new(
            key,
            format!("{list:?} is no list of ports such as \"80,8000-8999\""),
        )
    };
    list.split(',')
        .filter(|text| !text.trim().is_empty())
        .map(|text| range(text).ok_or_else(wrong))
        .collect()
}
