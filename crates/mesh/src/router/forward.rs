//! Requests that are sent to a cluster.

use std::{sync::Arc, time::Duration};

use http::request;
use layotto_core::GoDuration;

use super::{clusters::Choice, config, hash::Policy, rewrite::Rewrite, rule::PathRule};
use crate::{config::ConfigError, exchange::Exchange, upstream::Protocol};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// How a request is sent on.
#[derive(Debug)]
pub struct Forward {
    /// How long the whole exchange may take, all tries included. Default 60 s.
    pub timeout: Duration,
    /// When a failed try is followed by another one; `None` never.
    pub retry: Option<RetryPolicy>,
    /// The protocol spoken to the upstream; `None`: what the proxy is set to.
    pub upstream_protocol: Option<Protocol>,
    /// Whether `Host` becomes the chosen host's name.
    pub auto_host_rewrite: bool,
    pub(super) rewrite: Rewrite,
    clusters: Choice,
    hash: Policy,
}

/// When a failed try is followed by another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Whether bad replies and lost connections are retried; if not, only failed connects are.
    pub retry_on: bool,
    /// How many tries may follow the first.
    pub num_retries: u32,
    /// How long one try may take; `None`: as long as the whole exchange.
    pub retry_timeout: Option<Duration>,
    /// Statuses that count as bad beside 5xx.
    pub status_codes: Vec<u16>,
}

impl Forward {
    pub(super) fn new(action: &config::ForwardAction, path: &PathRule) -> Result<Self, ConfigError> {
        let rewrite = Rewrite::new(action, path)?;
        Ok(Self {
            timeout: nonzero(action.timeout).unwrap_or(DEFAULT_TIMEOUT),
            retry: action.retry_policy.as_ref().map(RetryPolicy::new).transpose()?,
            upstream_protocol: protocol(&action.upstream_protocol)?,
            auto_host_rewrite: action.auto_host_rewrite && !rewrite.settles_host(),
            rewrite,
            clusters: Choice::new(action)?,
            hash: Policy::new(&action.hash_policy)?,
        })
    }

    /// Sends requests as they are, without retries, in the default timeout: for those whose cluster
    /// is known without a route.
    pub fn plain() -> Self {
        let action = config::ForwardAction {
            cluster_name: "known".to_owned(),
            ..config::ForwardAction::default()
        };
        Self::new(&action, &PathRule::Any).expect("invariant: an action that says nothing is right")
    }

    /// The clusters that the configuration names.
    pub(super) fn cluster_names(&self) -> Vec<&Arc<str>> {
        self.clusters.names()
    }

    /// The cluster, chosen once per exchange and kept in its facts; `None`: a variable that names
    /// it has no value.
    pub fn cluster(&self, head: &request::Parts, exchange: &Exchange) -> Option<Arc<str>> {
        let kept = exchange.facts().cluster.clone();
        // Not under the lock: a variable may be one of the facts.
        let chosen = kept.or_else(|| self.clusters.choose(head, exchange))?;
        Some(exchange.facts().cluster.get_or_insert(chosen).clone())
    }

    /// What the balancers that hash go by.
    pub fn hash(&self, head: &request::Parts, exchange: &Exchange) -> u64 {
        self.hash.hash(head, exchange)
    }
}

impl RetryPolicy {
    fn new(policy: &config::RetryPolicy) -> Result<Self, ConfigError> {
        if let Some(index) = policy
            .status_codes
            .iter()
            .position(|code| !(100..600).contains(code))
        {
            let path = format!("retry_policy.status_codes[{index}]");
            return Err(ConfigError::new(path, "is no status; accepted: 100 to 599"));
        }
        Ok(Self {
            retry_on: policy.retry_on,
            num_retries: policy.num_retries,
            retry_timeout: nonzero(policy.retry_timeout),
            status_codes: policy.status_codes.clone(),
        })
    }
}

fn nonzero(duration: Option<GoDuration>) -> Option<Duration> {
    duration
        .map(|duration| duration.0)
        .filter(|duration| !duration.is_zero())
}

fn protocol(name: &str) -> Result<Option<Protocol>, ConfigError> {
    match name {
        "" | "Auto" => Ok(None),
        "Http1" => Ok(Some(Protocol::Http1)),
        "Http2" => Ok(Some(Protocol::Http2)),
        _ => Err(ConfigError::new(
            "upstream_protocol",
            format!("{name:?} is not spoken to clusters; accepted: Auto, Http1, Http2"),
        )),
    }
}
