//! From configuration to a running process, and its orderly end.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use chrono::Utc;
use futures::future::join_all;
use http::{Method, Uri};
use layotto_api::{
    Runtime,
    callback::{AppConfig, Callback, HealthProbe, ProbeKind},
    grpc::{self, Dispatch, Options, Tracer},
    metrics::Metrics,
};
use layotto_core::{
    Context, Registry,
    health::{Health, Indicator, Required, Status},
    shared::Shared,
};
use layotto_mesh::{
    Listener,
    connection::Connections,
    drain,
    stack::{self, admin::Access, catch_panic, deadline},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::level_filters::LevelFilter;

use crate::{
    actuator::{self, Actuator},
    cli::StartOptions,
    components::{Opened, Opening},
    config::{self, Config, Grpc, Loaded, Terminal},
    data_dir::DataDir,
    facts::RuntimeFacts,
    logging::{self, Destination, Levels},
    managed::Managed,
    metrics_page::MetricsPage,
    part::Parts,
    process_metrics,
    signals::Signals,
    sofa_tracer::SofaTracer,
    zipkin,
};

/// How long calls under way may go on after the process was told to end.
const DRAIN: Duration = Duration::from_secs(30);
/// How long everything after the calls may take: flushing components, ending tasks.
const CLOSE: Duration = Duration::from_secs(5);
/// How long file operations that nobody waits for any more may take at the very end.
const LEFT_OVER: Duration = Duration::from_millis(500);
/// How often a component is asked whether it is well.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// The same, while it is not.
const RECHECK_EVERY: Duration = Duration::from_millis(500);

/// Runs the process until it is told to end.
pub fn run(loaded: &Loaded, options: &StartOptions, registry: Registry) -> anyhow::Result<()> {
    // A second start in one process finds the provider installed, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let levels = start_log(&loaded.config, options, &registry)?;
    let data_dir = DataDir::take(&options.data_dir)?;
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    if let Some(processors) = loaded.config.server.processor {
        threads.worker_threads(processors.max(1));
    }
    let threads = threads.enable_all().build()?;
    let outcome = threads.block_on(serve(loaded, options, Arc::new(registry), levels, &data_dir));
    // Dropping it would wait for ever for a file operation that does not come back.
    threads.shutdown_timeout(LEFT_OVER);
    outcome
}

fn start_log(config: &Config, options: &StartOptions, registry: &Registry) -> anyhow::Result<Levels> {
    let destination = Destination::from_path(config.server.log_path.as_deref().unwrap_or_default());
    let level = config.server.log_level.unwrap_or(LevelFilter::INFO);
    Ok(logging::init(
        &destination,
        level,
        options.component_log_level,
        registry,
    )?)
}

async fn serve(
    loaded: &Loaded,
    options: &StartOptions,
    registry: Arc<Registry>,
    levels: Levels,
    data_dir: &DataDir,
) -> anyhow::Result<()> {
    let config = &loaded.config;
    let mut signals = Signals::install()?;
    let bound = Bound::all(config).await?;
    let process = Process::new(config);
    process_metrics::watch_connections(&process.metrics, bound.connections());
    let mut runtimes = Vec::new();
    for (listener, grpc) in bound.grpc {
        runtimes.push((
            listener,
            process
                .runtime(loaded, options, grpc, &registry, data_dir)
                .await?,
        ));
    }
    let managed: Vec<_> = runtimes
        .iter()
        .flat_map(|(_, runtime)| runtime.managed.clone())
        .collect();
    let actuator = Actuator::new(Arc::new(actuator::State {
        health: process.health.clone(),
        levels,
        components: managed.clone(),
        facts: runtimes
            .iter()
            .map(|(_, runtime)| Arc::clone(&runtime.facts))
            .collect(),
        listeners: bound.names,
        started: Utc::now(),
    }));
    let token = config.admin.token.as_ref().map(|token| token.expose().as_str());
    let access = Access::new(token).only(changes);
    for listener in bound.actuator {
        let service = stack::over(actuator.clone())
            .push(access.clone().layer())
            .push(catch_panic::layer());
        tokio::spawn(listener.serve(service.into_service(), process.admin.1.clone()));
    }
    for (listener, page) in bound.metrics {
        let page = MetricsPage::new(page, Arc::clone(&process.metrics));
        tokio::spawn(listener.serve(page, process.admin.1.clone()));
    }
    let default_limit = config.server.graceful_timeout.or(options.drain_time);
    let limits = runtimes
        .iter()
        .map(|(_, runtime)| runtime.drain_limit.or(default_limit).unwrap_or(DRAIN));
    let limit = limits.max().unwrap_or(DRAIN);
    for (listener, runtime) in runtimes {
        let service = stack::over(runtime.dispatch)
            .push(deadline::layer())
            .push(catch_panic::layer());
        tokio::spawn(listener.serve(service.into_service(), process.calls.1.clone()));
    }
    let pid_file = PidFile::write(config.pid.as_deref(), data_dir)?;
    process.startup.up();
    for component in &managed {
        process
            .tasks
            .spawn(watch(Arc::clone(component), process.shutdown.clone()));
    }
    if loaded.file.is_none() {
        let banner = crate::banner::text(config, data_dir.path());
        // A closed standard output must not end the process.
        drop(io::stdout().lock().write_all(banner.as_bytes()));
    }

    let signal = signals.end().await;
    tracing::info!(signal, limit = ?limit, "ending");
    tokio::select! {
        () = process.end(limit, &managed) => {}
        signal = signals.end() => tracing::warn!(signal, "ending at once"),
    }
    drop(pid_file);
    Ok(())
}

/// Requests of the actuator that change something.
fn changes(method: &Method, uri: &Uri) -> bool {
    let path = uri.path();
    path.contains("/logger") || (*method != Method::GET && path.contains("/components"))
}

/// The listeners, bound before anything else starts, so that a taken port costs nothing.
struct Bound<'a> {
    grpc: Vec<(Listener, &'a Grpc)>,
    actuator: Vec<Listener>,
    metrics: Vec<(Listener, String)>,
    names: Vec<(String, String)>,
}

impl<'a> Bound<'a> {
    async fn all(config: &'a Config) -> anyhow::Result<Self> {
        let mut bound = Self {
            grpc: Vec::new(),
            actuator: Vec::new(),
            metrics: Vec::new(),
            names: Vec::new(),
        };
        for listener in config
            .server
            .listeners
            .iter()
            .filter(|listener| listener.bind_port)
        {
            let mut settings =
                layotto_mesh::listener::Config::new(&listener.name, address(&listener.address));
            match &listener.terminal {
                Terminal::Grpc(grpc) => {
                    settings.protocol = layotto_mesh::listener::Protocol::Http2;
                    let socket = bound.bind(&settings).await?;
                    bound.grpc.push((socket, grpc));
                }
                Terminal::Actuator => {
                    warn_if_open(listener, config);
                    let socket = bound.bind(&settings).await?;
                    bound.actuator.push(socket);
                }
                Terminal::Later { .. } => {}
            }
        }
        for sink in &config.metrics {
            let address = layotto_mesh::Address::Tcp {
                host: sink.address.clone(),
                port: sink.port,
            };
            let socket = bound
                .bind(&layotto_mesh::listener::Config::new("metrics", address))
                .await?;
            bound.metrics.push((socket, sink.endpoint.clone()));
        }
        Ok(bound)
    }

    /// Those of each listener, with its name.
    fn connections(&self) -> Vec<(String, Connections)> {
        let grpc = self.grpc.iter().map(|(listener, _)| listener);
        let metrics = self.metrics.iter().map(|(listener, _)| listener);
        let all = grpc.chain(&self.actuator).chain(metrics);
        all.map(|listener| (listener.name().to_owned(), listener.connections()))
            .collect()
    }

    async fn bind(&mut self, settings: &layotto_mesh::listener::Config) -> anyhow::Result<Listener> {
        let listener = Listener::bind(settings).await?;
        self.names
            .push((listener.name().to_owned(), listener.local_addr().to_string()));
        Ok(listener)
    }
}

fn address(address: &config::Address) -> layotto_mesh::Address {
    match address {
        config::Address::Tcp { host, port } => layotto_mesh::Address::Tcp {
            host: host.clone(),
            port: *port,
        },
        config::Address::Unix(path) => layotto_mesh::Address::Unix(path.clone()),
    }
}

fn warn_if_open(listener: &config::Listener, config: &Config) {
    if listener.address.is_public() && config.admin.token.is_none() {
        tracing::warn!(
            listener = listener.name,
            address = %listener.address,
            "others can reach the actuator; without an admin token they may read it but change nothing"
        );
    }
}

/// What all parts of the process share.
struct Process {
    health: Health,
    parts: Parts,
    startup: Indicator,
    metrics: Arc<Metrics>,
    shared: Shared,
    /// Ends long streams, so that calls can drain.
    draining: CancellationToken,
    /// Ends the background work of components, which calls under way may still need.
    shutdown: CancellationToken,
    tasks: TaskTracker,
    calls: (drain::Signal, drain::Watch),
    /// Drained last: readiness shows DOWN while calls drain.
    admin: (drain::Signal, drain::Watch),
}

/// One runtime, ready to serve.
struct Served {
    dispatch: Dispatch,
    managed: Vec<Arc<dyn Managed>>,
    facts: Arc<dyn actuator::Facts>,
    drain_limit: Option<Duration>,
}

impl Process {
    fn new(config: &Config) -> Self {
        let health = Health::default();
        let startup = health.indicator(actuator::STARTUP, Required::Always);
        let metrics = Arc::new(Metrics::default());
        let sinks = &config.metrics;
        if sinks.is_empty() || !sinks.iter().all(|sink| sink.disable_collect_process) {
            process_metrics::register(&metrics);
        }
        process_metrics::watch_health(&metrics, health.clone());
        Self {
            parts: Parts::new(health.clone()),
            health,
            startup,
            metrics,
            shared: Shared::default(),
            draining: CancellationToken::new(),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            calls: drain::channel(),
            admin: drain::channel(),
        }
    }

    async fn runtime(
        &self,
        loaded: &Loaded,
        options: &StartOptions,
        grpc: &Grpc,
        registry: &Arc<Registry>,
        data_dir: &DataDir,
    ) -> anyhow::Result<Served> {
        let app = &grpc.runtime.app;
        let context = Context {
            name: String::new(),
            app_id: app.app_id.clone(),
            data_dir: data_dir.path().to_owned(),
            config_dir: loaded.dir.clone(),
            shared: self.shared.clone(),
            refs: layotto_core::Refs::default(),
            shutdown: self.shutdown.clone(),
            tasks: self.tasks.clone(),
        };
        let opening = Opening {
            config: &grpc.runtime,
            registry: Arc::clone(registry),
            parts: &self.parts,
            context,
        };
        let Opened { components, managed } = opening.open().await?;
        let runtime = Arc::new(Runtime::new(
            &app.app_id,
            components,
            Arc::clone(&self.metrics),
            self.draining.clone(),
            self.tasks.clone(),
        ));
        let callback = Callback::start(Arc::clone(&runtime), app_config(app), &self.health);
        let settings = Options {
            max_message_bytes: grpc
                .max_message_bytes
                .unwrap_or(Options::default().max_message_bytes),
            api_token: options.api_token.clone(),
            tracer: match &loaded.config.tracing {
                Some(tracing) => Some(self.tracer(&tracing.driver, app)?),
                None => None,
            },
        };
        let dispatch = Dispatch::new(Arc::clone(&runtime), settings);
        let follow = grpc::follow(
            dispatch.health_reporter(),
            self.health.clone(),
            self.draining.clone(),
        );
        self.tasks.spawn(follow);
        Ok(Served {
            dispatch,
            managed,
            facts: Arc::new(RuntimeFacts::new(
                callback,
                runtime.watches.clone(),
                &grpc.runtime,
            )),
            drain_limit: grpc.graceful_stop_timeout,
        })
    }

    /// What is told of calls.
    fn tracer(&self, driver: &config::TracingDriver, app: &config::App) -> anyhow::Result<Arc<dyn Tracer>> {
        Ok(match driver {
            config::TracingDriver::SofaTracer => Arc::new(SofaTracer::new(&app.app_id)),
            config::TracingDriver::Zipkin(config) => {
                let (tracer, reporter) = zipkin::new(config)?;
                self.tasks.spawn(reporter.run(self.shutdown.clone()));
                Arc::new(tracer)
            }
        })
    }

    /// Ends in order: not ready, calls finish, components flush, the last listeners close.
    async fn end(&self, limit: Duration, managed: &[Arc<dyn Managed>]) {
        self.startup.down("shutdown");
        self.draining.cancel();
        if !self.calls.0.drain_within(limit).await {
            tracing::warn!(?limit, "calls did not end in time and were cut");
        }
        let close = async {
            self.shutdown.cancel();
            join_all(managed.iter().map(|managed| managed.close())).await;
            self.tasks.close();
            self.tasks.wait().await;
        };
        if tokio::time::timeout(CLOSE, close).await.is_err() {
            tracing::warn!("components did not close in time");
        }
        self.admin.0.drain_within(CLOSE).await;
    }
}

/// How the callback channel reaches the application.
fn app_config(app: &config::App) -> AppConfig {
    let probe = |probe: &config::HealthProbe| HealthProbe {
        kind: match probe.kind {
            config::ProbeKind::Grpc => ProbeKind::Grpc,
            config::ProbeKind::Http => ProbeKind::Http(probe.path.clone()),
            config::ProbeKind::Tcp => ProbeKind::Tcp,
        },
        interval: probe.interval,
        timeout: probe.timeout,
        threshold: probe.threshold,
    };
    AppConfig {
        host: app.callback_host.clone(),
        port: app.callback_port,
        health_probe: app.health_probe.as_ref().map(probe),
    }
}

/// Asks a component again and again whether it is well, and opens it while it is not open. Each has
/// a task of its own: one that does not answer holds up no other.
async fn watch(managed: Arc<dyn Managed>, shutdown: CancellationToken) {
    let check = async {
        loop {
            let is_well = managed.status() == Status::Up;
            tokio::time::sleep(if is_well { CHECK_EVERY } else { RECHECK_EVERY }).await;
            managed.check().await;
        }
    };
    shutdown.run_until_cancelled(check).await;
}

/// The file that tells `layotto stop` whom to end; removed at the end.
struct PidFile(PathBuf);

impl PidFile {
    fn write(configured: Option<&Path>, data_dir: &DataDir) -> anyhow::Result<Self> {
        let path = configured.map_or_else(|| data_dir.path().join("layotto.pid"), Path::to_owned);
        let write = || -> io::Result<()> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, format!("{}\n", std::process::id()))
        };
        write().with_context(|| format!("pid file {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Another process that was given the same file has written itself down by now.
        let holder = fs::read_to_string(&self.0).unwrap_or_default();
        if holder.trim() != std::process::id().to_string() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "pid file not removed");
        }
    }
}
