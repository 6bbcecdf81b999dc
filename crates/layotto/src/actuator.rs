//! The actuator: health, information, log levels and components over HTTP.

use std::{future::ready, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use layotto_core::health::{Health, Reading, Status};
use layotto_mesh::{
    body::Body,
    filter::{self, Filter, Next, Phase},
    reply,
    stack::admin::{ADMIN_ONLY, Access},
    tap::tcpcopy::Dumps,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    logging::Levels,
    managed::Managed,
    plane::{Bound, Directory},
};

/// The largest body read.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// What the actuator shows of one runtime besides its components.
pub trait Facts: Send + Sync {
    /// Live subscriptions to topics.
    fn subscriptions(&self) -> Value;
    /// Live subscriptions to configuration.
    fn configuration_subscriptions(&self) -> Value;
    /// Where calls to other services go.
    fn rpc_targets(&self) -> Value;
}

/// What the actuator works on; one for the process.
pub struct State {
    /// The health of the process.
    pub health: Health,
    /// The log's levels.
    pub levels: Levels,
    /// Every component.
    pub components: Vec<Arc<dyn Managed>>,
    /// The runtimes.
    pub facts: Vec<Arc<dyn Facts>>,
    /// The listeners.
    pub listeners: Directory,
    /// Copies of traffic.
    pub dumps: Arc<Dumps>,
    /// Who may change something.
    pub access: Access,
    /// When the process started.
    pub started: DateTime<Utc>,
}

/// The actuator.
#[derive(Clone)]
pub struct Actuator(Arc<State>);

type Answer = Response<Full<Bytes>>;

impl Actuator {
    /// The actuator of one process.
    pub fn new(state: Arc<State>) -> Self {
        Self(state)
    }

    async fn answer<B>(self, request: Request<B>) -> Answer
    where
        B: http_body::Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path().trim_end_matches('/').to_owned();
        let mut segments = path.split('/').skip(1);
        if segments.next() != Some("actuator") {
            return empty(StatusCode::NOT_FOUND);
        }
        let segments: Vec<&str> = segments.collect();
        match segments.as_slice() {
            ["health", "liveness", ..] => self.liveness(),
            ["health", "readiness", ..] => self.readiness(),
            // As upstream: an unknown kind of health is an error, not a missing page.
            ["health", ..] => reply(StatusCode::INTERNAL_SERVER_ERROR, &json!({})),
            ["info", ..] => self.info(),
            ["logger", ..] => self.logger(request).await,
            ["tcpcopy"] if request.method() == Method::POST => self.change_dumps(request).await,
            ["tcpcopy"] => reply(StatusCode::OK, &self.0.dumps.status()),
            ["components"] => reply(StatusCode::OK, &self.components()),
            ["components", kind, name, "reload"] => self.reload(request.method(), kind, name).await,
            _ => empty(StatusCode::NOT_FOUND),
        }
    }

    fn readings(&self, readings: Vec<Reading>) -> Map<String, Value> {
        let body = |reading: Reading| {
            // As upstream: the process itself always gives a reason, a component only when there is one.
            let details = match reading.reason.as_str() {
                "" if reading.name != STARTUP => json!({"status": reading.status}),
                reason => json!({"status": reading.status, "details": {"reason": reason}}),
            };
            (reading.name, details)
        };
        readings.into_iter().map(body).collect()
    }

    /// INIT is alive: only a process that must be restarted is not.
    fn liveness(&self) -> Answer {
        let own = self
            .0
            .health
            .readings()
            .into_iter()
            .filter(|reading| reading.name == STARTUP)
            .collect::<Vec<_>>();
        let status = own.first().map_or(Status::Up, |reading| reading.status);
        let code = if status == Status::Down {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        };
        reply(code, &json!({"components": self.readings(own), "status": status}))
    }

    fn readiness(&self) -> Answer {
        let status = self.0.health.overall();
        let code = if status == Status::Up {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        reply(
            code,
            &json!({"components": self.readings(self.0.health.readings()), "status": status}),
        )
    }

    fn info(&self) -> Answer {
        let collect = |list: fn(&dyn Facts) -> Value| -> Vec<Value> {
            let lists = self.0.facts.iter().map(|facts| list(&**facts));
            lists
                .flat_map(|list| list.as_array().cloned().unwrap_or_default())
                .collect()
        };
        let listener = |(name, bound): (String, Bound)| json!({"name": name, "address": bound.address});
        reply(
            StatusCode::OK,
            &json!({
                "app": {
                    "name": "Layotto",
                    "version": env!("CARGO_PKG_VERSION"),
                    "compiled": self.0.started.to_rfc3339_opts(SecondsFormat::Secs, true),
                },
                "components": self.components(),
                "subscriptions": collect(|facts| facts.subscriptions()),
                "configuration_subscriptions": collect(|facts| facts.configuration_subscriptions()),
                "rpc_targets": collect(|facts| facts.rpc_targets()),
                "listeners": self.0.listeners.bound().into_iter().map(listener).collect::<Vec<_>>(),
            }),
        )
    }

    fn components(&self) -> Value {
        let component = |managed: &Arc<dyn Managed>| {
            json!({
                "kind": managed.kind(),
                "name": managed.name(),
                "type": managed.type_name(),
                "status": managed.status(),
            })
        };
        self.0.components.iter().map(component).collect()
    }

    async fn logger<B>(&self, request: Request<B>) -> Answer
    where
        B: http_body::Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        #[derive(Deserialize)]
        struct Change {
            component: String,
            level: String,
        }
        let Ok(body) = Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await else {
            return empty(StatusCode::PAYLOAD_TOO_LARGE);
        };
        // As upstream: what is not a change is a server error with no body.
        let Ok(change) = serde_json::from_slice::<Change>(&body.to_bytes()) else {
            return empty(StatusCode::INTERNAL_SERVER_ERROR);
        };
        match self.0.levels.set(&change.component, &change.level) {
            Ok(()) => reply(StatusCode::OK, &json!({})),
            Err(error) => reply(StatusCode::BAD_REQUEST, &json!({"error": error.to_string()})),
        }
    }

    async fn change_dumps<B>(&self, request: Request<B>) -> Answer
    where
        B: http_body::Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Ok(body) = Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await else {
            return empty(StatusCode::PAYLOAD_TOO_LARGE);
        };
        let change = serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string());
        match change.and_then(|change| self.0.dumps.update(change)) {
            Ok(()) => reply(StatusCode::OK, &self.0.dumps.status()),
            Err(error) => reply(StatusCode::BAD_REQUEST, &json!({ "error": error })),
        }
    }

    async fn reload(&self, method: &Method, kind: &str, name: &str) -> Answer {
        if method != Method::POST {
            return reply(StatusCode::METHOD_NOT_ALLOWED, &json!({"error": "use POST"}));
        }
        let found = self
            .0
            .components
            .iter()
            .find(|managed| managed.kind() == kind && managed.name() == name);
        let Some(managed) = found else {
            return reply(
                StatusCode::NOT_FOUND,
                &json!({"error": format!("no component {kind}/{name}")}),
            );
        };
        match managed.open().await {
            Ok(()) => reply(StatusCode::OK, &json!({"status": managed.status()})),
            Err(error) => reply(
                StatusCode::SERVICE_UNAVAILABLE,
                &json!({"error": error.message()}),
            ),
        }
    }
}

/// The health entry of the process itself.
pub const STARTUP: &str = "runtime_startup";

fn reply(status: StatusCode, body: &Value) -> Answer {
    respond(status, Bytes::from(body.to_string()))
}

fn empty(status: StatusCode) -> Answer {
    respond(status, Bytes::new())
}

fn respond(status: StatusCode, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

/// Stream filter `actuator_filter`: answers what is under `/actuator/`, and lets all else pass.
impl Filter for Actuator {
    fn phase(&self) -> Phase {
        Phase::BeforeRoute
    }

    fn call<'a>(&'a self, request: filter::Request, next: Next<'a>) -> BoxFuture<'a, filter::Response> {
        let path = request.uri().path().strip_prefix("/actuator");
        if !path.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return next.run(request);
        }
        if !self.0.access.allows(&request) {
            let kind = reply::Kind::of(request.headers());
            return Box::pin(ready(access_denied(kind)));
        }
        let actuator = self.clone();
        Box::pin(async move { actuator.answer(request).await.map(Body::new) })
    }
}

fn access_denied(kind: reply::Kind) -> filter::Response {
    reply::refuse(kind, reply::Code::PermissionDenied, ADMIN_ONLY).map(Body::new)
}

/// Requests that change something.
pub fn changes(method: &Method, uri: &Uri) -> bool {
    let path = uri.path();
    path.contains("/logger") || (*method != Method::GET && !path.contains("/health"))
}
