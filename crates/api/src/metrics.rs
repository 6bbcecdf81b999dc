//! Counters of the runtime API, in the process's Prometheus registry.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use tonic::{Code, Status};

use crate::status;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    method: &'static str,
    code: &'static str,
}

/// Counters of calls to the runtime API; one for the process.
pub struct Metrics {
    registry: Mutex<Registry>,
    succeeded: Family<MethodLabels, Counter>,
    failed: Family<CodeLabels, Counter>,
    duration: Family<MethodLabels, Histogram>,
}

/// The counters of one method, looked up once.
#[derive(Clone)]
pub struct MethodMetrics {
    method: &'static str,
    succeeded: Counter,
    failed: Family<CodeLabels, Counter>,
    duration: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let succeeded = Family::default();
        let failed = Family::default();
        let duration = Family::new_with_constructor(histogram as fn() -> Histogram);
        registry.register(
            "layotto_requests_succeeded",
            "Calls answered OK",
            succeeded.clone(),
        );
        registry.register(
            "layotto_requests_failed",
            "Calls answered with an error",
            failed.clone(),
        );
        registry.register(
            "layotto_request_duration_seconds",
            "Time to answer a call",
            duration.clone(),
        );
        Self {
            registry: Mutex::new(registry),
            succeeded,
            failed,
            duration,
        }
    }
}

/// From 50 µs, a call that stays in the process, to 5 s.
fn histogram() -> Histogram {
    Histogram::new([
        50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 10e-3, 50e-3, 250e-3, 1.0, 5.0,
    ])
}

impl Metrics {
    /// The counters of `method`, such as `/spec.proto.runtime.v1.Runtime/GetState`.
    pub fn method(&self, method: &'static str) -> MethodMetrics {
        let labels = MethodLabels { method };
        MethodMetrics {
            method,
            succeeded: self.succeeded.get_or_create(&labels).clone(),
            failed: self.failed.clone(),
            duration: self.duration.get_or_create(&labels).clone(),
        }
    }

    /// Adds further metrics of the process to the registry.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self
            .registry
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// Everything, in the text format of OpenMetrics.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let registry = self
            .registry
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl MethodMetrics {
    /// Counts one call that began at `begun`.
    pub fn count<T>(&self, begun: Instant, outcome: &Result<T, Status>) {
        self.record(
            begun.elapsed(),
            outcome.as_ref().err().map_or(Code::Ok, Status::code),
        );
    }

    /// Counts one call that took `took` and ended with `code`.
    pub fn record(&self, took: Duration, code: Code) {
        self.duration.observe(took.as_secs_f64());
        if code == Code::Ok {
            self.succeeded.inc();
            return;
        }
        self.failed
            .get_or_create(&CodeLabels {
                method: self.method,
                code: status::name(code),
            })
            .inc();
    }
}
