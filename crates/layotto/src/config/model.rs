//! The typed configuration of the process: what the rest of the program sees of a file.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use layotto_core::{Secret, Settings, health::Required};
pub use layotto_mesh::Address;
use layotto_mesh::{
    access_log::{self, Roller},
    cluster::config::ClusterManager,
    metrics::Matcher,
    proxy::{config::ProxyConfig, tcp},
    router::{Table, config::RouterConfig},
    tap::tcpcopy,
    tls::config::TlsContext,
    trace::zipkin,
};
use serde_json::Value as Json;
use tracing::level_filters::LevelFilter;

use super::report::Place;
use crate::functions::{Global, WASM_FILTER};

/// The type of the stream filter that shows the health of the process.
pub const ACTUATOR: &str = "actuator_filter";

/// Everything one file says.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The server: listeners and logs.
    pub server: Server,
    /// `cluster_manager`: where requests can go.
    pub clusters: ClusterManager,
    /// Where metrics are shown; one entry for each sink of type `prometheus`.
    pub metrics: Vec<PrometheusSink>,
    /// What of the data plane's metrics is not shown.
    pub stats_matcher: Matcher,
    /// Spans of calls; `None` when tracing is off or its driver is not built.
    pub tracing: Option<Tracing>,
    /// The administration surface.
    pub admin: Admin,
    /// `wasm_global_plugins`: modules that functions may name.
    pub wasm_plugins: Vec<Global>,
    /// `pprof`: where profiles are given; `None`: nowhere.
    pub pprof: Option<Address>,
    /// Where the process id is written.
    pub pid: Option<PathBuf>,
}

/// `servers[0]`.
#[derive(Debug, Clone, Default)]
pub struct Server {
    /// `mosn_server_name`.
    pub name: Option<String>,
    /// `default_log_path`: `stdout`, `stderr` or a file.
    pub log_path: Option<String>,
    /// `default_log_level`; `None` where the file does not say.
    pub log_level: Option<LevelFilter>,
    /// `graceful_timeout`: how long connections may drain.
    pub graceful_timeout: Option<Duration>,
    /// `global_log_roller`: when access logs are put aside.
    pub log_roller: Roller,
    /// `processor`: threads that serve calls; `None` lets the program choose.
    pub processor: Option<usize>,
    /// `routers`: which requests go where; names are unique.
    pub routers: Vec<Router>,
    /// What is served, and where.
    pub listeners: Vec<Listener>,
}

/// One router.
#[derive(Debug, Clone)]
pub struct Router {
    /// What the file says.
    pub config: RouterConfig,
    /// The routes, built of it.
    pub table: Arc<Table>,
}

/// One listener.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its name; the address where the file gives none.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// Whether it opens its address; without, only the process itself could reach it.
    pub bind_port: bool,
    /// Which way calls go through it.
    pub direction: Direction,
    /// Whether plain connections are taken beside those with TLS.
    pub inspector: bool,
    /// How long a connection may be unused; `None`: the default of its kind.
    pub idle_timeout: Option<Duration>,
    /// What is written of every exchange.
    pub access_logs: Vec<access_log::Config>,
    /// The certificates, where connections use TLS; those that are switched on.
    pub tls: Vec<TlsContext>,
    /// What is copied off its connections.
    pub tcpcopy: Option<tcpcopy::Config>,
    /// What answers.
    pub terminal: Terminal,
    /// `stream_filters`, in order, with their settings as the file has them.
    pub stream_filters: Vec<StreamFilter>,
    /// Where the file says so.
    pub place: Place,
}

/// Which way the calls of a listener go, seen from the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// To it.
    Ingress,
    /// From it.
    Egress,
    /// Nobody says.
    #[default]
    Unknown,
}

impl Listener {
    /// Whether something answers on it.
    pub fn serves(&self) -> bool {
        !matches!(self.terminal, Terminal::Later { .. })
    }

    /// What its clients speak.
    pub fn protocol(&self) -> layotto_mesh::listener::Protocol {
        match &self.terminal {
            Terminal::Grpc(_) => layotto_mesh::listener::Protocol::Http2,
            // That they can be read was found when the file was.
            Terminal::Proxy(proxy) => proxy.downstream().unwrap_or_default(),
            Terminal::TcpProxy(_) | Terminal::Later { .. } => layotto_mesh::listener::Protocol::Auto,
        }
    }

    /// Whether it opens its address.
    pub fn opens(&self) -> bool {
        self.bind_port && self.serves()
    }

    /// Whether it shows the health of the process: it is the last that ends.
    pub fn shows_health(&self) -> bool {
        self.stream_filters
            .iter()
            .any(|filter| filter.type_name == ACTUATOR)
    }

    /// Whether functions are administered on it.
    pub fn administers_functions(&self) -> bool {
        self.stream_filters
            .iter()
            .any(|filter| filter.type_name == WASM_FILTER)
    }

    /// Whether filters of it answer without a route.
    pub fn needs_no_route(&self) -> bool {
        self.shows_health() || self.administers_functions()
    }
}

/// What answers on a listener.
#[derive(Debug, Clone)]
pub enum Terminal {
    /// The runtime API.
    Grpc(Box<Grpc>),
    /// What the routes say.
    Proxy(ProxyConfig),
    /// One cluster, byte for byte.
    TcpProxy(tcp::TcpProxyConfig),
    /// Something that upstream has and this build does not have yet; nothing listens.
    Later {
        /// The type of the network filter.
        filter: String,
    },
}

/// Network filter `grpc`.
#[derive(Debug, Clone, Default)]
pub struct Grpc {
    /// `server_name`; upstream knows `runtime`.
    pub server_name: String,
    /// `grpc_config`.
    pub runtime: RuntimeConfig,
    /// How long calls may go on after the process was told to stop.
    pub graceful_stop_timeout: Option<Duration>,
    /// `max_message_bytes`: the largest message that a caller may send; `None`: 4 MiB.
    pub max_message_bytes: Option<usize>,
}

/// A stream filter.
#[derive(Debug, Clone)]
pub struct StreamFilter {
    /// Its type, such as `grpc_metric`.
    pub type_name: String,
    /// Its settings.
    pub config: Json,
    /// Where the file says so.
    pub place: Place,
}

/// Components of one section, by name.
pub type Components = BTreeMap<String, ComponentConfig>;

/// `grpc_config`.
#[derive(Debug, Clone, Default)]
pub struct RuntimeConfig {
    /// The application served.
    pub app: App,
    /// `hellos`
    pub hellos: Components,
    /// `config_store`
    pub config_store: Components,
    /// `rpcs`
    pub rpcs: Components,
    /// `pub_subs`
    pub pub_subs: Components,
    /// `state`
    pub state: Components,
    /// `file`
    pub file: Components,
    /// `oss`
    pub oss: Components,
    /// `lock`
    pub lock: Components,
    /// `sequencer`
    pub sequencer: Components,
    /// `bindings`
    pub bindings: Components,
    /// `secret_store`
    pub secret_store: Components,
    /// `custom_component`, by kind.
    pub custom_component: BTreeMap<String, Components>,
    /// `cryption`
    pub cryption: Components,
    /// `email`
    pub email: Components,
    /// `phone`
    pub phone: Components,
    /// `sms`
    pub sms: Components,
}

/// `grpc_config.app`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// The application's id; may be empty.
    pub app_id: String,
    /// Where the application listens for callbacks.
    pub callback_host: String,
    /// The port of the callbacks; 0: there are none.
    pub callback_port: u16,
    /// Whether the application is asked if it is well.
    pub health_probe: Option<HealthProbe>,
}

impl Default for App {
    fn default() -> Self {
        Self {
            app_id: String::new(),
            callback_host: "127.0.0.1".to_owned(),
            callback_port: 0,
            health_probe: None,
        }
    }
}

/// `grpc_config.app.health_probe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthProbe {
    /// How the application is asked.
    pub kind: ProbeKind,
    /// Path of the HTTP request.
    pub path: String,
    /// Time between two questions.
    pub interval: Duration,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Failures in a row until the application counts as down.
    pub threshold: u32,
}

/// How an application is asked whether it is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// gRPC health service.
    Grpc,
    /// HTTP GET; 2xx is well.
    Http,
    /// A TCP connection.
    Tcp,
}

/// One component.
#[derive(Debug, Clone)]
pub struct ComponentConfig {
    /// The section, such as `state`; of a custom component its kind.
    pub kind: String,
    /// The name that calls use.
    pub name: String,
    /// The type; for `rpcs` the name is the type.
    pub type_name: String,
    /// Metadata, the other keys of the element (`hello`, `address`, `timeout`, `config` of an rpc)
    /// and, under them, those of the connection. Secrets are not filled in yet.
    pub settings: Settings,
    /// Secrets to add to the settings before the component is opened.
    pub secret_ref: Vec<SecretRef>,
    /// Live components to hand over.
    pub component_ref: ComponentRef,
    /// How it counts towards the health of the process.
    pub required: Required,
    /// `biggerThan` of a sequencer, as the file has it: keys plain or prefixed.
    pub bigger_than: BTreeMap<String, i64>,
    /// The connection it shares, one of `connections`.
    pub connection: Option<String>,
    /// Where the file says so.
    pub place: Place,
}

/// One secret that a component needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRef {
    /// The secret store.
    pub store_name: String,
    /// The secret.
    pub key: String,
    /// The entry of the secret.
    pub sub_key: String,
    /// The setting that takes it; empty: named as the entry.
    pub inject_as: String,
}

impl SecretRef {
    /// The setting that takes the secret.
    pub fn target(&self) -> &str {
        if self.inject_as.is_empty() {
            &self.sub_key
        } else {
            &self.inject_as
        }
    }
}

/// Names of live components to hand to another one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ComponentRef {
    /// A secret store.
    pub secret_store: Option<String>,
    /// A configuration store.
    pub config_store: Option<String>,
}

/// A metrics sink of type `prometheus`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrometheusSink {
    /// Host to listen on; default 127.0.0.1.
    pub address: String,
    /// Port to listen on.
    pub port: u16,
    /// Path; default `/metrics`.
    pub endpoint: String,
    /// Leaves the metrics of the process out.
    pub disable_collect_process: bool,
}

/// `tracing`, when it is on.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// What writes the spans.
    pub driver: TracingDriver,
    /// Its settings, as the file has them.
    pub config: Json,
}

/// What writes spans.
#[derive(Debug, Clone, PartialEq)]
pub enum TracingDriver {
    /// Upstream's `SOFATracer`.
    SofaTracer,
    /// Sends them to a Zipkin server.
    Zipkin(zipkin::Config),
}

/// `admin`.
#[derive(Debug, Clone, Default)]
pub struct Admin {
    /// `address.socket_address`: where the administration API listens.
    pub address: Option<Address>,
    /// What a caller from elsewhere must show.
    pub token: Option<Secret>,
}
