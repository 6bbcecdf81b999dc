//! Zipkin: spans in its JSON (<https://zipkin.io/zipkin-api/>, version 2), and the queue of those
//! that wait to be sent. Sends nothing itself.

mod queue;
mod span;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, request};
use schemars::JsonSchema;
use serde::Deserialize;

use self::span::{Call, Kind};
pub use self::{
    queue::{Batches, Queue, queue},
    span::{Endpoint, Record},
};
use super::{
    Span, Tracer,
    b3::{Carried, Sampler},
};
use crate::{config::ConfigError, exchange::Exchange, reply};

/// `tracing.config` of driver `Zipkin`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// What this process is called in traces. Required.
    pub service_name: String,
    /// Where spans are sent: Zipkin's URL, with the path `/api/v2/spans`. Required.
    pub reporter_endpoint: String,
    /// The address of this process in traces, as `host:port`. Required.
    pub recorder_host_post: String,
    /// The share of new traces that are recorded, from 0 to 1. Default 1.
    pub sample_rate: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service_name: String::new(),
            reporter_endpoint: String::new(),
            recorder_host_post: String::new(),
            sample_rate: 1.0,
        }
    }
}

impl Config {
    /// Whether it can be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.service_name.is_empty() {
            return Err(ConfigError::new("service_name", "expected a name"));
        }
        let url = self.reporter_endpoint.parse::<http::Uri>().ok();
        if !url.is_some_and(|url| matches!(url.scheme_str(), Some("http" | "https"))) {
            let message = format!(
                "found {:?}, expected a URL such as \"http://127.0.0.1:9411/api/v2/spans\"",
                self.reporter_endpoint
            );
            return Err(ConfigError::new("reporter_endpoint", message));
        }
        if self.endpoint().port.is_none() {
            let message = format!(
                "found {:?}, expected host and port, such as \"127.0.0.1:9080\"",
                self.recorder_host_post
            );
            return Err(ConfigError::new("recorder_host_post", message));
        }
        if !(0.0..=1.0).contains(&self.sample_rate) {
            let message = format!("found {}, expected a number from 0 to 1", self.sample_rate);
            return Err(ConfigError::new("sample_rate", message));
        }
        Ok(())
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::new(Some(&self.service_name), &self.recorder_host_post)
    }
}

/// The driver `Zipkin`; clones share it.
#[derive(Debug, Clone)]
pub struct Zipkin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    here: Arc<Endpoint>,
    sampler: Sampler,
    queue: Queue,
}

impl Zipkin {
    /// The driver that puts its spans into `queue`.
    pub fn new(config: &Config, queue: Queue) -> Self {
        Self(Arc::new(Inner {
            here: Arc::new(config.endpoint()),
            sampler: Sampler::new(config.sample_rate),
            queue,
        }))
    }

    /// A call that this process itself answers begins: what [`ServerCall::end`] records.
    pub fn serve(&self, name: &str, headers: &HeaderMap) -> ServerCall {
        let context = self.0.sampler.enter(Carried::read(headers));
        let call = context
            .sampled
            .then(|| Call::begin(name.to_owned(), context, Kind::Server));
        ServerCall {
            zipkin: self.clone(),
            call,
        }
    }
}

/// A call of this process's own API that is under way.
#[derive(Debug)]
pub struct ServerCall {
    zipkin: Zipkin,
    call: Option<Call>,
}

impl ServerCall {
    /// It ended with a gRPC status; 0 is success.
    pub fn end(self, method: &str, grpc_status: i32) {
        let Some(mut call) = self.call else { return };
        // Upstream's tags: "0" is success.
        call.tag("method", method.to_owned());
        call.tag("result", if grpc_status == 0 { "0" } else { "1" }.to_owned());
        if grpc_status != 0 {
            call.tag("error", grpc_status.to_string());
        }
        let took = call.elapsed();
        let inner = &self.zipkin.0;
        inner.queue.push(call.record(&inner.here, took, None));
    }
}

impl Tracer for Zipkin {
    fn begin(&self, head: &mut request::Parts, exchange: &Exchange) -> Option<Box<dyn Span>> {
        let entered = self.0.sampler.enter(Carried::read(&head.headers));
        let next = self.0.sampler.child(&entered);
        next.write(&mut head.headers);
        exchange.facts().trace_id = Some(entered.trace_id.as_str().into());
        if !entered.sampled {
            return None;
        }
        let grpc = reply::Kind::of(&head.headers) == reply::Kind::Grpc;
        // Names are few: paths of HTTP may hold ids.
        let name = match grpc {
            true => head.uri.path().to_owned(),
            false => head.method.as_str().to_ascii_lowercase(),
        };
        let mut server = Call::begin(name.clone(), entered, Kind::Server);
        server.tag("http.method", head.method.to_string());
        server.tag("http.path", head.uri.path().to_owned());
        Some(Box::new(Proxied {
            zipkin: self.clone(),
            server,
            client: Call::begin(name, next, Kind::Client),
        }))
    }
}

/// A proxied call: one span for what the client sees, and one for the upstream.
struct Proxied {
    zipkin: Zipkin,
    server: Call,
    client: Call,
}

impl Span for Proxied {
    fn end(mut self: Box<Self>, ended: &super::Ended<'_>) {
        let (upstream, answered) = {
            let facts = ended.exchange.facts();
            (facts.upstream_host.clone(), facts.response_received)
        };
        let inner = &self.zipkin.0;
        if let Some(upstream) = upstream {
            let remote = Endpoint::new(None, &upstream);
            let took = answered.unwrap_or(ended.took);
            inner
                .queue
                .push(self.client.record(&inner.here, took, Some(remote)));
        }
        self.server.tag("http.status_code", ended.status.to_string());
        if let Some(status) = ended.grpc_status {
            self.server.tag("grpc.status_code", status.to_string());
        }
        if !ended.is_ok() {
            let error = ended
                .grpc_status
                .filter(|status| *status != 0)
                .unwrap_or(ended.status);
            self.server.tag("error", error.to_string());
        }
        let client = ended.exchange.connection().map(|info| info.remote().to_string());
        let remote = client.filter(|remote| remote.parse::<SocketAddr>().is_ok());
        let remote = remote.map(|remote| Endpoint::new(None, &remote));
        inner
            .queue
            .push(self.server.record(&inner.here, ended.took, remote));
    }
}
