//! The administration API, with upstream's paths: what runs, what was configured, log levels, and
//! flow control at run time.

use std::{path::Path, sync::Arc};

use http::{Method, StatusCode};
use layotto_api::metrics::Metrics;
use layotto_mesh::{access_log::Files, filter::Request, front::Slot};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    answer::{Answer, body, error, json, json_body, method_not_allowed, text},
    cli::FEATURE_GATES,
    logging::Levels,
    plane::Directory,
    reload::Shown,
};

/// The largest body read: a set of flow rules.
const MAX_BODY_BYTES: usize = 1 << 20;
/// The type name of the filter that `flowcontrol` shows and changes.
const FLOW_CONTROL: &str = "flowControlFilter";
/// What stands before the listener whose flow control is changed.
const FLOW_CONTROL_OF: &str = "flowcontrol/";
/// Upstream's number for a process that runs.
pub const RUNNING: i64 = 6;

const HELP: &str = "\
GET  /api/v1/version
GET  /api/v1/config_dump[?mosnconfig|allrouters|allclusters|alllisteners|router=NAME|cluster=NAME|listener=NAME]
GET  /api/v1/stats[?key=TEXT]
GET  /api/v1/stats_glob?key=PATTERN
GET  /api/v1/states
GET  /api/v1/features[?key=NAME]
GET  /api/v1/env?key=NAME
GET  /api/v1/plugin
GET  /api/v1/get_loglevel
POST /api/v1/update_loglevel   {\"component\": NAME, \"log_level\": LEVEL}
POST /api/v1/enable_log        the path of an access log
POST /api/v1/disable_log       the path of an access log
GET  /api/v1/flowcontrol
PUT  /api/v1/flowcontrol/LISTENER   the filter's config
";

/// Variables of the environment that may be shown.
const SHOWN_VARIABLES: &[&str] = &["RUNTIME_CONFIG", "LAYOTTO_DATA_DIR", "LOG_LEVEL", "LOGGING_LEVEL"];

/// The administration API of one process.
#[derive(Clone)]
pub struct Admin(Arc<State>);

/// What it works on.
pub struct State {
    /// The log's levels.
    pub levels: Levels,
    /// Everything counted.
    pub metrics: Arc<Metrics>,
    /// The listeners.
    pub directory: Directory,
    /// The files of access logs.
    pub files: Files,
    /// The configuration that runs.
    pub shown: Shown,
}

impl Admin {
    /// The administration API over `state`.
    pub fn new(state: State) -> Self {
        Self(Arc::new(state))
    }

    /// Answers one request.
    pub async fn answer(self, request: Request) -> Answer {
        let path = request.uri().path().trim_end_matches('/').to_owned();
        let Some(endpoint) = path.strip_prefix("/api/v1/") else {
            return match path.as_str() {
                "" => text(StatusCode::OK, HELP),
                _ => text(StatusCode::NOT_FOUND, HELP),
            };
        };
        let Some(allowed) = method_of(endpoint) else {
            return text(StatusCode::NOT_FOUND, HELP);
        };
        if request.method() != allowed {
            return method_not_allowed(&allowed);
        }
        let query = Query::of(request.uri().query().unwrap_or_default());
        match endpoint {
            "version" => text(StatusCode::OK, env!("CARGO_PKG_VERSION")),
            "config_dump" => self.config_dump(&query),
            "stats" => self.stats(|line| query.get("key").is_none_or(|key| line.contains(key))),
            "stats_glob" => self.stats(|line| query.get("key").is_none_or(|pattern| glob(pattern, line))),
            "states" => {
                let states = format!("pid={}&state={RUNNING}\n", std::process::id());
                text(StatusCode::OK, states)
            }
            "features" => features(&query),
            "env" => variable(&query),
            "plugin" => text(StatusCode::OK, "this build has no plug-ins\n"),
            "get_loglevel" => json(StatusCode::OK, &self.0.levels.show()),
            "update_loglevel" => self.update_log_level(request).await,
            "enable_log" => self.switch_log(request, true).await,
            "disable_log" => self.switch_log(request, false).await,
            "flowcontrol" => json(StatusCode::OK, &self.flow_control()),
            other => {
                let listener = other.strip_prefix(FLOW_CONTROL_OF).unwrap_or_default();
                self.tune_flow_control(listener, request).await
            }
        }
    }

    fn config_dump(&self, query: &Query<'_>) -> Answer {
        let shown = self.0.shown.current();
        let server = &shown["servers"][0];
        let clusters = &shown["cluster_manager"]["clusters"];
        let named = |list: &Value, key: &str, name: &str| {
            let found = list
                .as_array()
                .and_then(|all| all.iter().find(|one| one[key] == name));
            match found {
                Some(found) => json(StatusCode::OK, found),
                None => error(StatusCode::NOT_FOUND, &format!("there is no {name:?}")),
            }
        };
        match query.first() {
            None | Some(("mosnconfig", _)) => json(StatusCode::OK, &shown),
            Some(("allrouters", _)) => json(StatusCode::OK, &server["routers"]),
            Some(("allclusters", _)) => json(StatusCode::OK, clusters),
            Some(("alllisteners", _)) => json(StatusCode::OK, &server["listeners"]),
            Some(("router", name)) => named(&server["routers"], "router_config_name", name),
            Some(("cluster", name)) => named(clusters, "name", name),
            Some(("listener", name)) => named(&server["listeners"], "name", name),
            Some((other, _)) => error(
                StatusCode::BAD_REQUEST,
                &format!(
                    "unknown parameter {other:?}, expected mosnconfig, allrouters, allclusters, \
                     alllisteners, router, cluster or listener"
                ),
            ),
        }
    }

    fn stats(&self, keep: impl Fn(&str) -> bool) -> Answer {
        let Ok(page) = self.0.metrics.encode() else {
            return error(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written");
        };
        let lines = page.lines().filter(|line| !line.starts_with('#') && keep(line));
        let mut kept = String::new();
        for line in lines {
            kept.push_str(line);
            kept.push('\n');
        }
        text(StatusCode::OK, kept)
    }

    async fn update_log_level(&self, request: Request) -> Answer {
        #[derive(Deserialize)]
        struct Change {
            #[serde(default)]
            component: Option<String>,
            /// Upstream's name of the process's log, the only one here.
            #[serde(default, rename = "log_path")]
            _log_path: Option<String>,
            log_level: String,
        }
        let change = match json_body::<Change>(request, MAX_BODY_BYTES).await {
            Ok(change) => change,
            Err(refused) => return refused,
        };
        let component = change.component.as_deref().unwrap_or("default");
        match self.0.levels.set(component, &change.log_level) {
            Ok(()) => json(StatusCode::OK, &json!({})),
            Err(why) => error(StatusCode::BAD_REQUEST, &why.to_string()),
        }
    }

    async fn switch_log(&self, request: Request, on: bool) -> Answer {
        let body = match body(request, MAX_BODY_BYTES).await {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        let path = String::from_utf8_lossy(&body);
        match self.0.files.set_written(Path::new(path.trim()), on) {
            true => json(StatusCode::OK, &json!({})),
            false => error(
                StatusCode::NOT_FOUND,
                &format!("there is no access log {:?}", path.trim()),
            ),
        }
    }

    /// The flow control of every listener that has one.
    fn flow_control(&self) -> Value {
        let mut shown = Map::new();
        for (name, entry) in self.0.directory.all().iter() {
            let Some(front) = entry.slot.as_ref().map(Slot::front) else {
                continue;
            };
            let tunable = front.filters().filter_map(|filter| filter.tunable());
            let mut tunable = tunable;
            if let Some(tunable) = tunable.find(|tunable| tunable.type_name() == FLOW_CONTROL) {
                shown.insert(name.clone(), tunable.show());
            }
        }
        Value::Object(shown)
    }

    async fn tune_flow_control(&self, listener: &str, request: Request) -> Answer {
        let config = match json_body::<Value>(request, MAX_BODY_BYTES).await {
            Ok(config) => config,
            Err(refused) => return refused,
        };
        let Some(slot) = self.0.directory.slot(listener) else {
            return error(
                StatusCode::NOT_FOUND,
                &format!("there is no listener {listener:?}"),
            );
        };
        let front = slot.front();
        let mut tunable = front.filters().filter_map(|filter| filter.tunable());
        let Some(filter) = tunable.find(|tunable| tunable.type_name() == FLOW_CONTROL) else {
            let why = format!("listener {listener:?} has no {FLOW_CONTROL}");
            return error(StatusCode::NOT_FOUND, &why);
        };
        match filter.tune(config) {
            Ok(()) => {
                tracing::info!(listener, "flow control changed");
                json(StatusCode::OK, &filter.show())
            }
            Err(why) => error(StatusCode::BAD_REQUEST, &why),
        }
    }
}

/// The method that an endpoint takes, if there is one.
fn method_of(endpoint: &str) -> Option<Method> {
    match endpoint {
        "version" | "config_dump" | "stats" | "stats_glob" | "states" | "features" | "env" | "plugin"
        | "get_loglevel" | "flowcontrol" => Some(Method::GET),
        "update_loglevel" | "enable_log" | "disable_log" => Some(Method::POST),
        other => other.starts_with(FLOW_CONTROL_OF).then_some(Method::PUT),
    }
}

/// A query string, decoded no further than upstream does: names and values are plain.
struct Query<'q>(Vec<(&'q str, &'q str)>);

impl<'q> Query<'q> {
    fn of(text: &'q str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> Option<&'q str> {
        self.0
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    }

    fn first(&self) -> Option<(&'q str, &'q str)> {
        self.0.first().copied()
    }
}

fn features(query: &Query<'_>) -> Answer {
    match query.get("key") {
        Some(key) if FEATURE_GATES.contains(&key) => text(StatusCode::OK, "false"),
        Some(key) => error(
            StatusCode::BAD_REQUEST,
            &format!(
                "unknown feature {key:?}, expected one of: {}",
                FEATURE_GATES.join(", ")
            ),
        ),
        None => {
            let features = FEATURE_GATES
                .iter()
                .map(|name| ((*name).to_owned(), false.into()));
            json(StatusCode::OK, &Value::Object(features.collect()))
        }
    }
}

/// A variable of the environment: only those that hold no secret.
fn variable(query: &Query<'_>) -> Answer {
    match query.get("key").filter(|key| SHOWN_VARIABLES.contains(key)) {
        Some(key) => match std::env::var(key) {
            Ok(value) => text(StatusCode::OK, format!("{key}={value}\n")),
            Err(_) => error(StatusCode::NOT_FOUND, &format!("{key} is not set")),
        },
        None => error(
            StatusCode::BAD_REQUEST,
            &format!("expected key= one of: {}", SHOWN_VARIABLES.join(", ")),
        ),
    }
}

/// Whether `pattern`, in which `*` stands for any text, describes the name of a metric.
fn glob(pattern: &str, line: &str) -> bool {
    let name = line.split(' ').next().unwrap_or_default();
    let mut rest = name;
    let mut parts = pattern.split('*').peekable();
    let Some(first) = parts.next() else { return false };
    let Some(tail) = rest.strip_prefix(first) else {
        return false;
    };
    rest = tail;
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, tail)) => rest = tail,
            None => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_describes_whole_names() {
        for (pattern, name, fits) in [
            ("downstream_*", "downstream_request_total{a=\"b\"} 1", true),
            ("*request*", "downstream_request_total 1", true),
            ("*_total", "downstream_request_total 1", true),
            ("downstream", "downstream_request_total 1", false),
            ("up*", "downstream_request_total 1", false),
            ("down*active", "downstream_request_total 1", false),
        ] {
            assert_eq!(glob(pattern, name), fits, "{pattern}");
        }
    }
}
