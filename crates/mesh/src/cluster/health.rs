//! Active health checks: every host of a cluster is asked at intervals whether it is well. A host
//! counts as well until its checks say otherwise.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use http::{Method, StatusCode, uri::PathAndQuery};

use self::probe::{Failure, Probe};
use super::{
    Cluster, Host,
    config::{Codes, HealthCheck, HttpCheck},
    host::Ill,
};
use crate::ConfigError;

mod grpc;
mod http1;
mod probe;
mod tcp;

/// What is set for all checks of a cluster.
#[derive(Debug)]
pub(super) struct Checks {
    probe: Probe,
    timeout: Duration,
    interval: Duration,
    jitter: Duration,
    delay: Duration,
    healthy_threshold: u32,
    unhealthy_threshold: u32,
}

/// How the checks of one host went.
#[derive(Debug, Default)]
struct Streak {
    succeeded: u32,
    failed: u32,
}

impl Checks {
    /// `None`: the cluster has none.
    pub(super) fn new(config: &HealthCheck) -> Result<Option<Arc<Self>>, ConfigError> {
        if !config.is_on() {
            return Ok(None);
        }
        let or = |duration: Duration, default: u64| match duration.is_zero() {
            true => Duration::from_secs(default),
            false => duration,
        };
        let timeout = or(config.timeout.0, 1);
        let http = &config.check_config.http_check_config;
        let (probe, timeout) = match config.protocol.to_ascii_lowercase().as_str() {
            "http1" | "http" => (
                Probe::Http(http_probe(http).map_err(|e| e.under("check_config.http_check_config"))?),
                timeout.min(or(http.timeout.0, 30)),
            ),
            "grpc" => (
                Probe::Grpc(grpc::Check::new(&config.check_config.grpc_check_config)?),
                timeout,
            ),
            _ => (Probe::Tcp, timeout),
        };
        Ok(Some(Arc::new(Self {
            probe,
            timeout,
            interval: or(config.interval.0, 15),
            jitter: config.interval_jitter.0,
            delay: config.initial_delay_seconds.0,
            healthy_threshold: config.healthy_threshold.max(1),
            unhealthy_threshold: config.unhealthy_threshold.max(1),
        })))
    }

    /// Checks `host` until it is gone from its cluster, or the cluster is.
    pub(super) fn spawn(self: &Arc<Self>, cluster: &Arc<Cluster>, host: &Arc<Host>) {
        let gone = host.gone.clone();
        // The task must not keep alive what ends it.
        let task = self.clone().run(Arc::downgrade(cluster), Arc::downgrade(host));
        tokio::spawn(async move { gone.run_until_cancelled_owned(task).await });
    }

    async fn run(self: Arc<Self>, cluster: Weak<Cluster>, host: Weak<Host>) {
        let mut streak = Streak::default();
        tokio::time::sleep(self.delay + self.jitter()).await;
        loop {
            let Some(probed) = host.upgrade() else {
                return;
            };
            let result = self.check(&probed).await;
            let Some(cluster) = cluster.upgrade() else {
                return;
            };
            self.note(&mut streak, result, &cluster, &probed);
            drop((cluster, probed));
            tokio::time::sleep(self.interval + self.jitter()).await;
        }
    }

    async fn check(&self, host: &Host) -> Result<(), Failure> {
        match tokio::time::timeout(self.timeout, self.probe.ask(host)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Network(format!("no reply within {:?}", self.timeout))),
        }
    }

    fn note(&self, streak: &mut Streak, result: Result<(), Failure>, cluster: &Cluster, host: &Host) {
        let stats = &cluster.health;
        stats.attempt.inc();
        match &result {
            Ok(()) => stats.success.inc(),
            Err(failure) => {
                stats.failure.inc();
                match failure {
                    Failure::Network(_) => stats.network_failure.inc(),
                    Failure::Reply(_) => stats.active_failure.inc(),
                }
            }
        }
        streak.add(result.is_ok());
        match result {
            Ok(()) if streak.succeeded >= self.healthy_threshold && host.set(Ill::Checked, false) => {
                cluster.refresh();
                stats.became_healthy.inc();
                tracing::info!(cluster = %cluster.name, host = %host.name, "host is well again");
            }
            Err(failure) if streak.failed >= self.unhealthy_threshold && host.set(Ill::Checked, true) => {
                cluster.refresh();
                stats.became_unhealthy.inc();
                tracing::warn!(cluster = %cluster.name, host = %host.name, %failure, "host is unhealthy");
            }
            _ => {}
        }
    }

    fn jitter(&self) -> Duration {
        self.jitter.mul_f64(fastrand::f64())
    }
}

impl Streak {
    fn add(&mut self, success: bool) {
        *self = match success {
            true => Self {
                succeeded: self.succeeded.saturating_add(1),
                failed: 0,
            },
            false => Self {
                succeeded: 0,
                failed: self.failed.saturating_add(1),
            },
        };
    }
}

fn http_probe(config: &HttpCheck) -> Result<http1::Check, ConfigError> {
    if !matches!(config.scheme.to_ascii_lowercase().as_str(), "" | "http") {
        return Err(ConfigError::new(
            "scheme",
            format!("{:?} is not supported; only \"http\" is", config.scheme),
        ));
    }
    let path = match config.path.as_str() {
        "" => "/",
        path => path,
    };
    let path: PathAndQuery = path
        .parse()
        .map_err(|_| ConfigError::new("path", format!("{path:?} is no path such as \"/health\"")))?;
    let method = match config.method.to_ascii_uppercase().as_str() {
        "" => Method::GET,
        method => Method::from_bytes(method.as_bytes())
            .map_err(|_| ConfigError::new("method", format!("{method:?} is no method such as \"GET\"")))?,
    };
    Ok(http1::Check {
        port: (config.port != 0).then_some(config.port),
        path,
        method,
        domain: domain("domain", &config.domain)?,
        codes: codes(&config.codes)?,
    })
}

fn domain(key: &str, text: &str) -> Result<Option<http::HeaderValue>, ConfigError> {
    let wrong = |_| ConfigError::new(key, format!("{text:?} is no host name"));
    match text {
        "" => Ok(None),
        _ => text.parse().map(Some).map_err(wrong),
    }
}

fn codes(ranges: &[Codes]) -> Result<Vec<std::ops::RangeInclusive<u16>>, ConfigError> {
    if ranges.is_empty() {
        return Ok(vec![200..=200]);
    }
    let read = |(index, codes): (usize, &Codes)| {
        let range = codes.start..=codes.end.max(codes.start);
        match StatusCode::from_u16(*range.start()).is_ok() && StatusCode::from_u16(*range.end()).is_ok() {
            true => Ok(range),
            false => Err(ConfigError::new(
                format!("codes[{index}]"),
                "Start and End are statuses from 100 to 999",
            )),
        }
    };
    ranges.iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests;
