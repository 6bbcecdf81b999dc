//! Spans as Zipkin reads them.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Serialize, Serializer};

use crate::trace::b3::Context;

/// One end of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// What it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Its address, if that is IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<String>,
    /// Its address, if that is IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,
    /// Its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// One side of a call, ended.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    trace_id: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    kind: Kind,
    name: String,
    /// Microseconds of Unix time.
    timestamp: u64,
    /// Microseconds, not 0.
    duration: u64,
    #[serde(serialize_with = "shared")]
    local_endpoint: Arc<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_endpoint: Option<Endpoint>,
    tags: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    debug: bool,
}

/// The side of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Kind {
    Server,
    Client,
}

/// One side of a call, under way.
#[derive(Debug)]
pub(super) struct Call {
    name: String,
    context: Context,
    kind: Kind,
    begun: Instant,
    begun_at: SystemTime,
    tags: BTreeMap<&'static str, String>,
}

fn shared<S: Serializer>(endpoint: &Arc<Endpoint>, serializer: S) -> Result<S::Ok, S::Error> {
    endpoint.as_ref().serialize(serializer)
}

impl Endpoint {
    /// Reads `host:port`; a host that is a name is called that, unless `name` is given.
    pub fn new(name: Option<&str>, address: &str) -> Self {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let host = host.trim_matches(['[', ']']);
        let ip = host.parse::<IpAddr>().ok();
        let host_name = ip.is_none().then_some(host).filter(|host| !host.is_empty());
        Self {
            service_name: name.or(host_name).map(str::to_owned),
            ipv4: ip.filter(IpAddr::is_ipv4).map(|ip| ip.to_string()),
            ipv6: ip.filter(IpAddr::is_ipv6).map(|ip| ip.to_string()),
            port: port.parse().ok(),
        }
    }
}

impl Call {
    pub(super) fn begin(name: String, context: Context, kind: Kind) -> Self {
        Self {
            name,
            context,
            kind,
            begun: Instant::now(),
            begun_at: SystemTime::now(),
            tags: BTreeMap::new(),
        }
    }

    pub(super) fn tag(&mut self, name: &'static str, value: String) {
        self.tags.insert(name, value);
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(super) fn record(self, here: &Arc<Endpoint>, took: Duration, remote: Option<Endpoint>) -> Record {
        let begun = self.begun_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Record {
            trace_id: self.context.trace_id,
            id: format!("{:016x}", self.context.span_id),
            parent_id: self.context.parent.map(|parent| format!("{parent:016x}")),
            kind: self.kind,
            name: self.name,
            timestamp: micros(begun),
            duration: micros(took).max(1),
            local_endpoint: Arc::clone(here),
            remote_endpoint: remote,
            tags: self.tags,
            debug: self.context.debug,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
