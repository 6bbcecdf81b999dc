//! The actuator: health, information, log levels and components over HTTP.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use futures::future::BoxFuture;
use http::{Method, StatusCode, Uri};
use layotto_core::health::{Health, Reading, Status};
use layotto_mesh::{
    filter::{self, Filter, Next, Phase, Request},
    stack::admin::Access,
    tap::tcpcopy::Dumps,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    answer::{Answer, body, empty, error, json, method_not_allowed, under},
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

impl Actuator {
    /// The actuator of one process.
    pub fn new(state: Arc<State>) -> Self {
        Self(state)
    }

    async fn answer(self, request: Request) -> Answer {
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
            ["health", ..] => json(StatusCode::INTERNAL_SERVER_ERROR, &json!({})),
            ["info", ..] => self.info(),
            ["logger", ..] => self.logger(request).await,
            ["tcpcopy"] if request.method() == Method::POST => self.change_dumps(request).await,
            ["tcpcopy"] => json(StatusCode::OK, &self.0.dumps.status()),
            ["components"] => json(StatusCode::OK, &self.components()),
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
        json(code, &json!({"components": self.readings(own), "status": status}))
    }

    fn readiness(&self) -> Answer {
        let status = self.0.health.overall();
        let code = if status == Status::Up {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        json(
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
        json(
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

    async fn logger(&self, request: Request) -> Answer {
        #[derive(Deserialize)]
        struct Change {
            component: String,
            level: String,
        }
        let body = match body(request, MAX_BODY_BYTES).await {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        // As upstream: what is not a change is a server error with no body.
        let Ok(change) = serde_json::from_slice::<Change>(&body) else {
            return empty(StatusCode::INTERNAL_SERVER_ERROR);
        };
        match self.0.levels.set(&change.component, &change.level) {
            Ok(()) => json(StatusCode::OK, &json!({})),
            Err(why) => error(StatusCode::BAD_REQUEST, &why.to_string()),
        }
    }

    async fn change_dumps(&self, request: Request) -> Answer {
        let body = match body(request, MAX_BODY_BYTES).await {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        let change = serde_json::from_slice(&body).map_err(|error| error.to_string());
        match change.and_then(|change| self.0.dumps.update(change)) {
            Ok(()) => json(StatusCode::OK, &self.0.dumps.status()),
            Err(why) => error(StatusCode::BAD_REQUEST, &why),
        }
    }

    async fn reload(&self, method: &Method, kind: &str, name: &str) -> Answer {
        if method != Method::POST {
            return method_not_allowed(&Method::POST);
        }
        let found = self
            .0
            .components
            .iter()
            .find(|managed| managed.kind() == kind && managed.name() == name);
        let Some(managed) = found else {
            return error(StatusCode::NOT_FOUND, &format!("no component {kind}/{name}"));
        };
        match managed.open().await {
            Ok(()) => json(StatusCode::OK, &json!({"status": managed.status()})),
            Err(why) => error(StatusCode::SERVICE_UNAVAILABLE, why.message()),
        }
    }
}

/// The health entry of the process itself.
pub const STARTUP: &str = "runtime_startup";

/// Stream filter `actuator_filter`: answers what is under `/actuator/`, and lets all else pass.
impl Filter for Actuator {
    fn phase(&self) -> Phase {
        Phase::BeforeRoute
    }

    fn call<'a>(&'a self, request: Request, next: Next<'a>) -> BoxFuture<'a, filter::Response> {
        under("/actuator", &self.0.access, request, next, |request| {
            self.clone().answer(request)
        })
    }
}

/// Requests that change something.
pub fn changes(method: &Method, uri: &Uri) -> bool {
    let path = uri.path();
    path.contains("/logger") || (*method != Method::GET && !path.contains("/health"))
}
