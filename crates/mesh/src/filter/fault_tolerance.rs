//! `fault_tolerance`: hosts that fail more than the others of their cluster are ejected for a while.
//!
//! The filter only says by which settings; the hosts count every try themselves, those that a retry
//! made good too.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use layotto_core::Settings as Json;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::{Context, Filter, Kind, Next, Request, Response};
use crate::{cluster::outlier::Settings, config::ConfigError, exchange::Exchange};

/// Registers the filter.
pub const KIND: Kind = Kind {
    name: "fault_tolerance",
    build,
    route_config: None,
    schema: || schema_for!(Config),
    other_keys: &[],
};

/// The shortest window, in milliseconds.
const SHORTEST: u64 = 10;

/// When hosts are ejected, and for how long. Of several filters that judge one cluster the newest
/// counts.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Whether the filter does anything. Default false.
    pub enabled: bool,
    /// Statuses of replies that count as failed; tries without a reply always do. Default 502, 503
    /// and 504.
    #[serde(rename = "exceptionTypes")]
    pub exception_types: Vec<u16>,
    /// How long tries are counted until hosts are judged, in milliseconds; 10 or more. Default 10000.
    #[serde(rename = "timeWindow")]
    pub time_window: u64,
    /// How many tries of a host there must be in a window for it to be judged. Default 10.
    #[serde(rename = "leastWindowCount")]
    pub least_window_count: u32,
    /// How many times the share of failed tries of the whole cluster, the host included, a host's
    /// must reach; above 1. So a cluster of as many hosts as this, with even load, is the smallest
    /// in which a host can be ejected. Default 5.
    #[serde(rename = "exceptionRateMultiple")]
    pub exception_rate_multiple: f64,
    /// How many hosts of a cluster may be ejected at one time; the last that is well never is.
    /// Default 1.
    #[serde(rename = "maxIpCount")]
    pub max_ip_count: usize,
    /// How long a host stays ejected, in milliseconds. Default 900000.
    #[serde(rename = "recoverTime")]
    pub recover_time: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            exception_types: vec![502, 503, 504],
            time_window: 10_000,
            least_window_count: 10,
            exception_rate_multiple: 5.0,
            max_ip_count: 1,
            recover_time: 900_000,
        }
    }
}

/// The filter; `None`: it is off.
struct FaultTolerance(Option<Arc<Settings>>);

impl Filter for FaultTolerance {
    fn call<'a>(&'a self, request: Request, next: Next<'a>) -> BoxFuture<'a, Response> {
        let Some(settings) = &self.0 else {
            return next.run(request);
        };
        Box::pin(async move {
            let exchange = Exchange::of(request.extensions()).cloned();
            let response = next.run(request).await;
            let host = exchange.and_then(|exchange| exchange.facts().host.clone());
            if let Some(host) = host {
                host.judge_by(settings);
            }
            response
        })
    }
}

fn build(config: &Value, _: &Context) -> Result<Arc<dyn Filter>, ConfigError> {
    let config = read(config)?;
    let settings = config.enabled.then(|| settings(&config));
    Ok(Arc::new(FaultTolerance(settings)))
}

fn read(config: &Value) -> Result<Config, ConfigError> {
    let config = match config {
        Value::Null => Config::default(),
        Value::Object(map) => {
            let parsed = Json::new(map.clone()).parse::<Config>();
            parsed
                .map_err(|error| ConfigError::new(error.path, error.message))?
                .config
        }
        _ => return Err(ConfigError::new("", "an object is expected")),
    };
    if config.time_window < SHORTEST {
        return Err(ConfigError::new(
            "timeWindow",
            "10 or more milliseconds are expected",
        ));
    }
    if config.exception_rate_multiple <= 1.0 || !config.exception_rate_multiple.is_finite() {
        return Err(ConfigError::new(
            "exceptionRateMultiple",
            "a number above 1 is expected",
        ));
    }
    Ok(config)
}

fn settings(config: &Config) -> Arc<Settings> {
    Arc::new(Settings {
        statuses: config.exception_types.iter().copied().collect(),
        window: Duration::from_millis(config.time_window),
        least_tries: config.least_window_count,
        rate_multiple: config.exception_rate_multiple,
        max_ejected: config.max_ip_count,
        recover: Duration::from_millis(config.recover_time),
        made: Instant::now(),
    })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::{
        Body,
        cluster::{
            Cluster, Clusters, Outcome, Pick,
            config::{ClusterConfig, ClusterManager, HostConfig},
        },
        filter::Terminal,
    };

    /// Sends to the hosts of a cluster in turn; one of them fails.
    struct Proxy {
        cluster: Arc<Cluster>,
        bad: &'static str,
    }

    impl Terminal for Proxy {
        fn call(&self, request: Request) -> BoxFuture<'_, Response> {
            let host = self.cluster.choose(&Pick::default()).unwrap();
            let status = match &*host.name == self.bad {
                true => StatusCode::BAD_GATEWAY,
                false => StatusCode::OK,
            };
            host.record(Outcome {
                status: Some(status),
                latency: Duration::from_millis(1),
            });
            Exchange::of(request.extensions()).unwrap().facts().host = Some(host);
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            Box::pin(std::future::ready(response))
        }
    }

    fn cluster() -> Arc<Cluster> {
        let host = |n| HostConfig {
            address: format!("10.0.0.{n}:80"),
            ..HostConfig::default()
        };
        let manager = ClusterManager {
            clusters: vec![ClusterConfig {
                name: "c".into(),
                hosts: (0..8).map(host).collect(),
                ..ClusterConfig::default()
            }],
            ..ClusterManager::default()
        };
        Clusters::build(&manager, None).unwrap().get("c").unwrap().clone()
    }

    async fn failures(config: Value) -> usize {
        let proxy = Proxy {
            cluster: cluster(),
            bad: "10.0.0.5:80",
        };
        let filters = [build(&config, &Context::default()).unwrap()];
        let mut failures = 0;
        for n in 0..1000 {
            let mut request = Request::new(Body::empty());
            request.extensions_mut().insert(Exchange::begin("l".into(), None));
            let response = Next::new(&filters, &proxy).run(request).await;
            // The first second is not looked at.
            failures += usize::from(n >= 200 && response.status() != 200);
            tokio::time::advance(Duration::from_millis(5)).await;
        }
        failures
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_host_gets_no_requests_after_a_window() {
        let config =
            json!({"enabled": true, "timeWindow": 500, "leastWindowCount": 5, "recoverTime": "60000"});
        assert_eq!(failures(config).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_that_is_off_ejects_nothing() {
        assert_eq!(
            failures(json!({"timeWindow": 500, "leastWindowCount": 5})).await,
            100
        );
    }

    #[test]
    fn refuses_windows_and_multiples_that_are_too_small() {
        for (config, path) in [
            (json!({"timeWindow": 9}), "timeWindow"),
            (json!({"exceptionRateMultiple": 1}), "exceptionRateMultiple"),
            (json!({"maxIpCount": "many"}), "maxIpCount"),
            (json!([]), ""),
        ] {
            assert_eq!(read(&config).unwrap_err().path, path);
        }
        assert_eq!(read(&json!({})).unwrap(), Config::default());
        assert_eq!(read(&Value::Null).unwrap(), Config::default());
    }
}
