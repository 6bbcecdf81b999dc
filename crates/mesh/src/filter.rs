//! Stream filters: what stands between a listener and the service that answers. Each is one file
//! with its configuration, its behaviour and its tests, and one line in [`KINDS`].
//!
//! A filter sees every call of its listener alike, unary or streaming, gRPC or HTTP: it gets the
//! request with its body as a stream, and passes it to [`Next`] or answers itself.

mod answer;
mod fault;
mod flow_control;
pub mod grpc_metric;
mod ip_access;
pub mod payload_limit;
#[cfg(test)]
pub(crate) mod testing;

use std::{any::Any, fmt, sync::Arc};

use futures::future::BoxFuture;
use layotto_core::Settings;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    body::Body,
    config::{ConfigError, OtherKey},
    exchange::Exchange,
};

pub mod fault_tolerance;

/// A request inside the data plane. Its extensions hold the [`Exchange`].
pub type Request = http::Request<Body>;

/// A reply inside the data plane.
pub type Response = http::Response<Body>;

/// When a filter runs. Filters of one phase run in the order of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Before a route is chosen.
    BeforeRoute,
    /// After a route is chosen; on a listener without routes, right after the ones before.
    AfterRoute,
}

/// A stream filter.
pub trait Filter: Send + Sync + 'static {
    /// When it runs.
    fn phase(&self) -> Phase {
        Phase::AfterRoute
    }

    /// Handles one exchange. Called with the head of the request, before its body has arrived;
    /// dropping the future cancels the exchange.
    fn call<'a>(&'a self, request: Request, next: Next<'a>) -> BoxFuture<'a, Response>;

    /// What the admin API shows of it, and lets others change; see [`Tunable`].
    fn tunable(&self) -> Option<&dyn Tunable> {
        None
    }
}

/// A filter whose configuration can be read and replaced while it runs.
pub trait Tunable: Send + Sync {
    /// The configuration's type name, as in the file.
    fn type_name(&self) -> &'static str;
    /// What it works with now.
    fn show(&self) -> Value;
    /// Replaces it; the text of an error says what is wrong with `config`.
    fn tune(&self, config: Value) -> Result<(), String>;
}

/// A service that ends a chain.
pub trait Terminal: Send + Sync {
    /// Answers.
    fn call(&self, request: Request) -> BoxFuture<'_, Response>;
}

/// The rest of a chain.
#[derive(Clone, Copy)]
pub struct Next<'a> {
    filters: &'a [Arc<dyn Filter>],
    terminal: &'a dyn Terminal,
}

impl<'a> Next<'a> {
    /// The chain of `filters` over `terminal`.
    pub fn new(filters: &'a [Arc<dyn Filter>], terminal: &'a dyn Terminal) -> Self {
        Self { filters, terminal }
    }

    /// Passes the request on.
    pub fn run(self, request: Request) -> BoxFuture<'a, Response> {
        match self.filters.split_first() {
            Some((filter, filters)) => filter.call(request, Next { filters, ..self }),
            None => self.terminal.call(request),
        }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next")
            .field("filters", &self.filters.len())
            .finish()
    }
}

/// What a filter's factory gets beside its configuration.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The listener it stands before.
    pub listener: Arc<str>,
    /// Where counters go.
    pub metrics: crate::metrics::Metrics,
}

/// What a route says to a filter, read once when the route is built.
pub type RouteConfig = Arc<dyn Any + Send + Sync>;

/// Builds a filter from its configuration.
pub type Build = fn(&Value, &Context) -> Result<Arc<dyn Filter>, ConfigError>;

/// Reads what a route says to a filter.
pub type ReadRouteConfig = fn(&Value) -> Result<RouteConfig, ConfigError>;

/// One kind of filter.
pub struct Kind {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Builds one.
    pub build: Build,
    /// Reads its `per_filter_config` of a route or virtual host, where it has one.
    pub route_config: Option<ReadRouteConfig>,
    /// The schema of its configuration, for the reference page.
    pub schema: fn() -> schemars::Schema,
    /// Keys of upstream's that its configuration does not take.
    pub other_keys: &'static [OtherKey],
}

/// The filters of this crate.
pub const KINDS: &[Kind] = &[
    flow_control::KIND,
    fault::KIND,
    fault_tolerance::KIND,
    payload_limit::KIND,
    ip_access::KIND,
    grpc_metric::KIND,
];

/// Reads a filter's configuration as leniently as the rest of a file; one that is absent holds the
/// defaults.
fn read<T: DeserializeOwned + Default>(config: &Value) -> Result<T, ConfigError> {
    match config {
        Value::Null => Ok(T::default()),
        Value::Object(object) => match Settings::new(object.clone()).parse() {
            Ok(parsed) => Ok(parsed.config),
            Err(error) => Err(ConfigError::new(error.path, error.message)),
        },
        // A list would be taken for the fields in their order.
        other => Err(ConfigError::new("", format!("found {other}, expected an object"))),
    }
}

/// What the route of an exchange says to the filter called `name`, if a route was taken.
fn route_config(exchange: Option<&Exchange>, name: &str) -> Option<RouteConfig> {
    exchange?.facts().route.as_ref()?.filter_config(name).cloned()
}

#[cfg(test)]
mod tests;
