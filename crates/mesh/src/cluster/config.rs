//! What a configuration says of clusters.

use std::time::Duration;

use layotto_core::GoDuration;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    config::{
        Fate::{Ignored, Later},
        OtherKey,
    },
    tls::config::TlsContext,
};

/// The largest weight of a host.
pub(super) const MAX_WEIGHT: u32 = 128;

/// The `cluster_manager` of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClusterManager {
    /// The clusters. Not together with `clusters_configs`.
    pub clusters: Vec<ClusterConfig>,
    /// A directory in which every `.json` file is one cluster. Default none.
    pub clusters_configs: String,
    /// TLS towards the hosts of the clusters that set `cluster_manager_tls`. Default none.
    pub tls_context: Option<TlsContext>,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClusterConfig {
    /// Its name, by which routes call it. Required, unique.
    pub name: String,
    /// Where its hosts come from. `SIMPLE`: they are those of `hosts`; names among them are looked
    /// up when a connection is made, and the answer is kept 15 s. `STRICT_DNS`: every address that
    /// a name of `hosts` has is a host, looked up again every `dns_refresh_rate`. All else, such as
    /// `STATIC` and `EDS`, is taken for `SIMPLE`. Default `SIMPLE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// How a host is chosen: `LB_RANDOM`, `LB_ROUNDROBIN`, `LB_WEIGHTED_ROUNDROBIN`,
    /// `LB_LEAST_REQUEST`, `LB_LEAST_CONNECTION`, `LB_MAGLEV`, `LB_RING_HASH`,
    /// `LB_REQUEST_ROUNDROBIN` or `LB_PEAK_EWMA`; all else is taken for `LB_ROUNDROBIN`. Default
    /// `LB_ROUNDROBIN`.
    pub lb_type: String,
    /// Its hosts.
    pub hosts: Vec<HostConfig>,
    /// How long a connection may take to be made. Default 10 s.
    pub connect_timeout: GoDuration,
    /// How long a connection may be unused before it is closed; 0: for ever. Default 0.
    pub idle_timeout: GoDuration,
    /// When unused connections are asked whether they still live.
    pub keepalive: Keepalive,
    /// Limits of what goes to the cluster; the first element counts. Default none.
    pub circuit_breakers: Vec<Thresholds>,
    /// How many requests one connection carries before it is closed; 0: any number. Default 0.
    pub max_request_per_conn: u32,
    /// Active checks of the hosts' health.
    pub health_check: HealthCheck,
    /// Settings of the balancers that compare hosts.
    pub lbconfig: LbConfig,
    /// How a host that is new, or well again, comes to its full share.
    pub slow_start: SlowStart,
    /// How often the names of a `STRICT_DNS` cluster are looked up. Default 5 s.
    pub dns_refresh_rate: GoDuration,
    /// Which addresses of a name of a `STRICT_DNS` cluster count: `V4_ONLY`, `V6_ONLY`, or `AUTO`
    /// for both. Default `V4_ONLY`.
    pub dns_lookup_family: String,
    /// TLS towards the hosts. Default none.
    pub tls_context: Option<TlsContext>,
    /// Whether `tls_context` of the `cluster_manager` holds for this cluster instead of its own.
    /// Default false.
    pub cluster_manager_tls: bool,
}

/// One host of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HostConfig {
    /// Where it is: `host:port`, `[v6]:port` or `unix:PATH`. Required.
    pub address: String,
    /// Its name, for `Host` and for TLS. Default none.
    pub hostname: String,
    /// Its share relative to the other hosts', 1 to 128; values outside are moved to the nearest
    /// end. Default 1.
    pub weight: u32,
    /// Whether connections to it are plain although the cluster has TLS. Default false.
    pub tls_disable: bool,
}

/// When unused connections are asked whether they still live.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Keepalive {
    /// How often; 0: never. Default 0.
    pub interval: GoDuration,
    /// How long the answer may take. Default 1 s.
    pub timeout: GoDuration,
}

/// Limits of what goes to a cluster at one time; 0: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Thresholds {
    /// Connections. Default 0.
    pub max_connections: u32,
    /// Requests that wait for a connection. Default 0.
    pub max_pending_requests: u32,
    /// Requests. Default 0.
    pub max_requests: u32,
    /// Retries. With 0 they may be a fifth of the requests, and always three. Default 0.
    pub max_retries: u32,
}

/// Active checks of the health of hosts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HealthCheck {
    /// Names the check in metrics; an empty name means that there is no check. Default empty.
    pub service_name: String,
    /// How it is checked: `Http1` asks a path, `gRPC` calls `grpc.health.v1.Health/Check`; all else
    /// connects over TCP. Default TCP.
    pub protocol: String,
    /// How long a check may take. Default 1 s.
    pub timeout: GoDuration,
    /// How long to wait between two checks of a host. Default 15 s.
    pub interval: GoDuration,
    /// At random up to this much is added to the interval. Default 5 ms.
    pub interval_jitter: GoDuration,
    /// How long to wait before the first check. Default 1 s.
    pub initial_delay_seconds: GoDuration,
    /// How many checks in a row must succeed until a host counts as well; 0 is taken for 1.
    /// Default 1.
    pub healthy_threshold: u32,
    /// How many checks in a row must fail until a host no longer counts as well; 0 is taken for 1.
    /// Default 1.
    pub unhealthy_threshold: u32,
    /// Settings per protocol.
    pub check_config: CheckConfig,
}

/// Settings of a health check, per protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CheckConfig {
    /// Settings of protocol `Http1`.
    pub http_check_config: HttpCheck,
    /// Settings of protocol `gRPC`.
    pub grpc_check_config: GrpcCheck,
}

/// Settings of a health check over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HttpCheck {
    /// Another port than the host's; 0: the host's. Default 0.
    pub port: u16,
    /// How long the reply may take; the shorter of this and the check's `timeout` counts. Default
    /// 30 s.
    pub timeout: GoDuration,
    /// The path, with its query. Default `/`.
    pub path: String,
    /// The method. Default `GET`.
    pub method: String,
    /// The scheme; only `http`. Default `http`.
    pub scheme: String,
    /// The value of `Host`. Default the host's name or address.
    pub domain: String,
    /// The statuses that mean health. Default 200 only.
    pub codes: Vec<Codes>,
}

/// A range of statuses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Codes {
    /// The first.
    #[serde(rename = "Start", alias = "start")]
    pub start: u16,
    /// The last.
    #[serde(rename = "End", alias = "end")]
    pub end: u16,
}

/// Settings of a health check over gRPC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GrpcCheck {
    /// The service whose health is asked; empty: the server's. Default empty.
    pub service: String,
    /// The authority of the call. Default the host's name or address.
    pub authority: String,
}

/// Settings of the balancers that compare hosts.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LbConfig {
    /// How many hosts are drawn and compared, 1 or more. Default 2.
    pub choice_count: u32,
    /// How much open requests count against a host: their number is raised to this power; 0:
    /// nothing. Default 1.
    pub active_request_bias: f64,
    /// How much 4xx replies count against a host with `LB_PEAK_EWMA`; 0: nothing. Default 1.
    pub client_error_bias: f64,
    /// How much 5xx replies and lost connections count against a host with `LB_PEAK_EWMA`; 0:
    /// nothing. Default 1.
    pub server_error_bias: f64,
}

/// How a host that is new, or well again, comes to its full share: its weight is multiplied by
/// `age / slow_start_duration` to the power `1 / aggression`. Has effect with
/// `LB_WEIGHTED_ROUNDROBIN`, `LB_LEAST_REQUEST`, `LB_LEAST_CONNECTION` and `LB_PEAK_EWMA`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SlowStart {
    /// `duration` turns it on. Default empty: off.
    pub mode: String,
    /// How long it takes. Default 0: off.
    pub slow_start_duration: GoDuration,
    /// The larger, the sooner a host gets much; above 0. Default 1.
    pub aggression: f64,
    /// The share of its weight that a host has at least, 0 to 1. Default 0.1.
    pub min_weight_percent: f64,
}

/// Keys of `cluster_manager` that no field takes.
pub const MANAGER_OTHER_KEYS: &[OtherKey] = &[OtherKey {
    path: "cluster_pool_enable",
    fate: Ignored,
    why: "pools belong to one cluster always",
}];

/// Keys of a cluster that no field takes.
pub const OTHER_KEYS: &[OtherKey] = &[
    OtherKey {
        path: "sub_type",
        fate: Ignored,
        why: "unused",
    },
    OtherKey {
        path: "spec",
        fate: Ignored,
        why: "unused",
    },
    OtherKey {
        path: "cluster_pool_enable",
        fate: Ignored,
        why: "pools belong to one cluster always",
    },
    OtherKey {
        path: "conn_buffer_limit_bytes",
        fate: Ignored,
        why: "bodies are streamed, nothing is buffered",
    },
    OtherKey {
        path: "mark",
        fate: Later,
        why: "connections are not marked",
    },
    OtherKey {
        path: "circuit_breakers[].priority",
        fate: Ignored,
        why: "requests have no priority",
    },
    OtherKey {
        path: "lb_subset_config",
        fate: Later,
        why: "no choice by metadata",
    },
    OtherKey {
        path: "hosts[].metadata",
        fate: Later,
        why: "no choice by metadata",
    },
    OtherKey {
        path: "original_dst_lb_config",
        fate: Later,
        why: "no choice by original destination",
    },
    OtherKey {
        path: "health_check.event_log_path",
        fate: Ignored,
        why: "changes of health are in the log of the process",
    },
    OtherKey {
        path: "health_check.common_callbacks",
        fate: Later,
        why: "no callbacks of health checks",
    },
    OtherKey {
        path: "respect_dns_ttl",
        fate: Later,
        why: "the system's resolver does not tell it",
    },
    OtherKey {
        path: "dns_resolvers",
        fate: Later,
        why: "names are looked up by the system's resolver",
    },
    OtherKey {
        path: "dns_resolver_file",
        fate: Later,
        why: "names are looked up by the system's resolver",
    },
    OtherKey {
        path: "dns_resolver_port",
        fate: Later,
        why: "names are looked up by the system's resolver",
    },
];

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: "SIMPLE".into(),
            lb_type: "LB_ROUNDROBIN".into(),
            hosts: Vec::new(),
            connect_timeout: seconds(10),
            idle_timeout: seconds(0),
            keepalive: Keepalive::default(),
            circuit_breakers: Vec::new(),
            max_request_per_conn: 0,
            health_check: HealthCheck::default(),
            lbconfig: LbConfig::default(),
            slow_start: SlowStart::default(),
            dns_refresh_rate: seconds(5),
            dns_lookup_family: "V4_ONLY".into(),
            tls_context: None,
            cluster_manager_tls: false,
        }
    }
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            hostname: String::new(),
            weight: 1,
            tls_disable: false,
        }
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            interval: seconds(0),
            timeout: seconds(1),
        }
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            service_name: String::new(),
            protocol: String::new(),
            timeout: seconds(1),
            interval: seconds(15),
            interval_jitter: GoDuration::from_millis(5),
            initial_delay_seconds: seconds(1),
            healthy_threshold: 1,
            unhealthy_threshold: 1,
            check_config: CheckConfig::default(),
        }
    }
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self {
            port: 0,
            timeout: seconds(30),
            path: "/".into(),
            method: "GET".into(),
            scheme: "http".into(),
            domain: String::new(),
            codes: Vec::new(),
        }
    }
}

impl Default for LbConfig {
    fn default() -> Self {
        Self {
            choice_count: 2,
            active_request_bias: 1.0,
            client_error_bias: 1.0,
            server_error_bias: 1.0,
        }
    }
}

impl Default for SlowStart {
    fn default() -> Self {
        Self {
            mode: String::new(),
            slow_start_duration: seconds(0),
            aggression: 1.0,
            min_weight_percent: 0.1,
        }
    }
}

impl LbConfig {
    /// How many hosts are compared.
    pub(super) fn choices(&self) -> usize {
        match self.choice_count {
            0 => 2,
            count => count as usize,
        }
    }
}

impl HealthCheck {
    /// Whether hosts are checked.
    pub fn is_on(&self) -> bool {
        !self.service_name.is_empty()
    }
}

const fn seconds(n: u64) -> GoDuration {
    GoDuration(Duration::from_secs(n))
}

#[cfg(test)]
mod tests {
    use schemars::schema_for;
    use serde_json::Value;

    use super::*;

    fn undocumented(schema: &Value, at: &str, found: &mut Vec<String>) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            if property["description"].as_str().is_none_or(str::is_empty) {
                found.push(format!("{at}.{key}"));
            }
        }
        for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
            undocumented(definition, name, found);
        }
    }

    #[test]
    fn every_key_is_documented_and_taken_or_told() {
        let schema = schema_for!(ClusterManager).to_value();
        let mut found = Vec::new();
        undocumented(&schema, "", &mut found);
        assert!(found.is_empty(), "{found:?}");
        let taken = &schema["$defs"]["ClusterConfig"]["properties"];
        assert!(taken["lb_type"].is_object());
        assert!(
            OTHER_KEYS.iter().all(|key| taken[key.path].is_null()),
            "both taken and not"
        );
    }
}
