//! From configuration to a running process, and its orderly end.

mod pid_file;
mod side;
mod tracers;

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use chrono::Utc;
use futures::future::join_all;
use layotto_api::{
    Runtime,
    callback::{AppConfig, Callback, HealthProbe, ProbeKind},
    grpc::{self, Dispatch, Options},
    metrics::Metrics,
};
use layotto_core::{
    Context, Registry,
    health::{Health, Indicator, Required, Status},
    rpc::Inside,
    shared::Shared,
};
use layotto_mesh::{
    access_log::Files,
    drain,
    filter::{self, Filter},
    tap::tcpcopy::Dumps,
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::level_filters::LevelFilter;

use self::{pid_file::PidFile, side::Side, tracers::Tracers};
use crate::{
    actuator::{self, Actuator},
    admin::{self, Admin},
    cli::StartOptions,
    components::{Opened, Opening},
    config::{self, ACTUATOR, Config, Grpc, Loaded, Terminal},
    data_dir::DataDir,
    facts::{self, RuntimeFacts},
    functions::{Guests, WASM_FILTER},
    logging::{self, Destination, Levels},
    managed::Managed,
    memory,
    part::Parts,
    plane::{self, Directory, Plane},
    process_metrics,
    reload::{Reload, Shown, Stamps},
    signals::Signals,
};

/// How long calls under way may go on after the process was told to end.
const DRAIN: Duration = Duration::from_secs(30);
/// How long everything after the calls may take: flushing components, ending tasks.
const CLOSE: Duration = Duration::from_secs(5);
/// How long file operations that nobody waits for any more may take at the very end.
const LEFT_OVER: Duration = Duration::from_millis(500);
/// How long a thread that did a file operation waits for another. The configuration file is looked
/// at every second, by each such thread in turn: one of them stays, those of a burst end.
const IDLE: Duration = Duration::from_millis(1500);
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
    let threads = threads.enable_all().thread_keep_alive(IDLE).build()?;
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
    let sockets = plane::bind(config).await?;
    let side = Side::bind(config).await?;
    let process = Process::new(config);
    let traces = Files::default();
    let tracers = config
        .tracing
        .as_ref()
        .map(|tracing| Tracers::start(tracing, &traces, &process.tasks, &process.shutdown));
    let start = Start {
        loaded,
        options,
        registry: &registry,
        data_dir,
        tracers: tracers.transpose()?,
    };
    let runtimes = process.runtimes(&start).await?;
    let managed: Vec<_> = runtimes
        .iter()
        .flat_map(|runtime| runtime.managed.clone())
        .collect();
    let access = side::access(config);
    let shown = Shown::new(loaded);
    let dumps = Arc::new(Dumps::new(data_dir.path(), shown.as_dump()));
    let actuator = Actuator::new(Arc::new(actuator::State {
        health: process.health.clone(),
        levels: levels.clone(),
        components: managed.clone(),
        facts: runtimes
            .iter()
            .map(|runtime| Arc::clone(&runtime.facts))
            .collect(),
        listeners: process.directory.clone(),
        dumps: dumps.clone(),
        access: access.clone().only(actuator::changes),
        started: Utc::now(),
    }));
    side::warn_of_open_doors(config);
    let limit = drain_limit(config, options);
    let files = Files::new(config.server.log_roller.clone());
    let guests = Guests::new(
        runtimes.first().map(|runtime| Arc::clone(&runtime.end)),
        options.api_token.clone(),
        data_dir.path(),
        loaded.dir.clone(),
        process.directory.clone(),
    );
    guests.register(&process.metrics);
    guests.watch(&process.tasks, process.health.clone(), process.draining.clone());
    let (filters, access_to_functions) = (guests.clone(), access.clone());
    let parts = plane::Parts {
        runtimes: runtimes
            .into_iter()
            .map(|runtime| (runtime.listener, runtime.end))
            .collect(),
        own_filters: Box::new(move |filter| match filter.type_name.as_str() {
            ACTUATOR => Some(Arc::new(actuator.clone()) as Arc<dyn Filter>),
            WASM_FILTER => Some(filters.admin(access_to_functions.clone())),
            name => filters.filter(name, &filter.config),
        }),
        metrics: process.mesh_metrics.clone(),
        files: files.clone(),
        dumps: dumps.clone(),
        tracer: start.tracer_of_proxies()?,
        folder: loaded.dir.clone(),
        directory: process.directory.clone(),
    };
    let stamps = Stamps::of(loaded).await?;
    let asked = Arc::new(Notify::new());
    // Before the listeners accept: a request finds the functions that can be had.
    let plane = tokio::select! {
        plane = Plane::start(parts, config, sockets, guests.apply(config)) => Arc::new(plane?),
        signal = signals.end(&asked, &files) => {
            tracing::info!(signal, "ending before the start is done");
            process.draining.cancel();
            process.close(&managed).await;
            flush(&files, &traces, &dumps).await;
            return Ok(());
        }
    };
    let admin = Admin::new(admin::State {
        levels,
        metrics: Arc::clone(&process.metrics),
        directory: process.directory.clone(),
        files: files.clone(),
        shown: shown.clone(),
    });
    side.serve(admin, access, &process.metrics, &process.admin.1);
    process.startup.up();
    // Last: whoever waits for the file finds a process that is ready.
    let pid_file = PidFile::write(config.pid.as_deref(), data_dir)?;
    process.mesh_metrics.set_state(admin::RUNNING);
    for component in &managed {
        process
            .tasks
            .spawn(watch(Arc::clone(component), process.shutdown.clone()));
    }
    if let Some(file) = loaded.file.clone() {
        let reload = Reload {
            file,
            registry,
            plane: Arc::clone(&plane),
            guests: guests.clone(),
            shown,
            asked: Arc::clone(&asked),
        };
        let (config, draining) = (config.clone(), process.draining.clone());
        process
            .tasks
            .spawn(async move { reload.run(&config, stamps, draining).await });
    } else {
        let banner = crate::banner::text(config, &process.directory, data_dir.path());
        // A closed standard output must not end the process.
        drop(io::stdout().lock().write_all(banner.as_bytes()));
    }
    memory::let_go_of_code();

    let signal = signals.end(&asked, &files).await;
    tracing::info!(signal, limit = ?limit, "ending");
    tokio::select! {
        () = process.end(limit, &plane, &guests, &managed) => {}
        signal = signals.end(&asked, &files) => tracing::warn!(signal, "ending at once"),
    }
    flush(&files, &traces, &dumps).await;
    drop(pid_file);
    Ok(())
}

/// Waits until everything is written that calls left behind.
async fn flush(files: &Files, traces: &Files, dumps: &Dumps) {
    let written = async { tokio::join!(files.flush(), traces.flush(), dumps.flush()) };
    if tokio::time::timeout(CLOSE, written).await.is_err() {
        tracing::warn!("access logs, traces and dumps are not wholly written");
    }
}

/// How long calls may go on after the end was asked for: as long as the most patient listener says.
fn drain_limit(config: &Config, options: &StartOptions) -> Duration {
    let default = config.server.graceful_timeout.or(options.drain_time);
    let limits =
        grpc_listeners(config).map(|(_, grpc)| grpc.graceful_stop_timeout.or(default).unwrap_or(DRAIN));
    limits.max().or(default).unwrap_or(DRAIN)
}

fn grpc_listeners(config: &Config) -> impl Iterator<Item = (&config::Listener, &Grpc)> {
    config
        .server
        .listeners
        .iter()
        .filter_map(|listener| match &listener.terminal {
            Terminal::Grpc(grpc) => Some((listener, &**grpc)),
            _ => None,
        })
}

/// What the process is started with.
struct Start<'a> {
    loaded: &'a Loaded,
    options: &'a StartOptions,
    registry: &'a Arc<Registry>,
    data_dir: &'a DataDir,
    tracers: Option<Tracers>,
}

impl Start<'_> {
    /// Who is told of calls that are proxied, in the name of the first application.
    fn tracer_of_proxies(&self) -> io::Result<Option<Arc<dyn layotto_mesh::trace::Tracer>>> {
        let app = grpc_listeners(&self.loaded.config).next();
        let app_id = app.map_or("", |(_, grpc)| grpc.runtime.app.app_id.as_str());
        let tracers = self.tracers.as_ref();
        tracers.map(|tracers| tracers.of_proxies(app_id)).transpose()
    }
}

/// What all parts of the process share.
struct Process {
    health: Health,
    parts: Parts,
    startup: Indicator,
    metrics: Arc<Metrics>,
    mesh_metrics: layotto_mesh::metrics::Metrics,
    directory: Directory,
    shared: Shared,
    /// Ends long streams, so that calls can drain.
    draining: CancellationToken,
    /// Ends the background work of components, which calls under way may still need.
    shutdown: CancellationToken,
    tasks: TaskTracker,
    /// Drained last: readiness shows DOWN while calls drain.
    admin: (drain::Signal, drain::Watch),
}

/// One runtime, ready to serve.
struct Served {
    listener: String,
    end: Arc<dyn filter::Terminal>,
    managed: Vec<Arc<dyn Managed>>,
    facts: Arc<dyn actuator::Facts>,
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
        let directory = Directory::default();
        process_metrics::watch_connections(&metrics, directory.clone());
        let mesh_metrics = layotto_mesh::metrics::Metrics::default();
        mesh_metrics.set_version(env!("CARGO_PKG_VERSION"));
        mesh_metrics.set_matcher(config.stats_matcher.clone());
        metrics.register(|registry| mesh_metrics.register(registry));
        Self {
            parts: Parts::new(health.clone()),
            health,
            startup,
            metrics,
            mesh_metrics,
            directory,
            shared: Shared::default(),
            draining: CancellationToken::new(),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            admin: drain::channel(),
        }
    }

    async fn runtimes(&self, start: &Start<'_>) -> anyhow::Result<Vec<Served>> {
        let mut runtimes = Vec::new();
        let listeners = grpc_listeners(&start.loaded.config);
        for (listener, grpc) in listeners.filter(|(listener, _)| listener.opens()) {
            runtimes.push(self.runtime(start, listener, grpc).await?);
        }
        Ok(runtimes)
    }

    async fn runtime(
        &self,
        start: &Start<'_>,
        listener: &config::Listener,
        grpc: &Grpc,
    ) -> anyhow::Result<Served> {
        let app = &grpc.runtime.app;
        let context = Context {
            name: String::new(),
            app_id: app.app_id.clone(),
            data_dir: start.data_dir.path().to_owned(),
            config_dir: start.loaded.dir.clone(),
            shared: self.shared.clone(),
            refs: layotto_core::Refs::default(),
            inside: Inside::new(Arc::new(self.directory.clone())),
            shutdown: self.shutdown.clone(),
            tasks: self.tasks.clone(),
        };
        let opening = Opening {
            config: &grpc.runtime,
            registry: Arc::clone(start.registry),
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
            api_token: start.options.api_token.clone(),
            tracer: start
                .tracers
                .as_ref()
                .map(|tracers| tracers.of_runtime(&app.app_id))
                .transpose()?,
        };
        let dispatch = Dispatch::new(Arc::clone(&runtime), settings);
        let follow = grpc::follow(
            dispatch.health_reporter(),
            self.health.clone(),
            self.draining.clone(),
        );
        self.tasks.spawn(follow);
        let pass_to = channel_listener(&grpc.runtime).map(|name| (name, self.directory.clone()));
        Ok(Served {
            listener: listener.name.clone(),
            end: plane::runtime(dispatch, pass_to),
            managed,
            facts: Arc::new(RuntimeFacts::new(
                callback,
                runtime.watches.clone(),
                &grpc.runtime,
            )),
        })
    }

    /// Ends in order: not ready, calls finish, components flush, the last listeners close.
    async fn end(&self, limit: Duration, plane: &Plane, guests: &Guests, managed: &[Arc<dyn Managed>]) {
        let until = Instant::now() + limit;
        self.startup.down("shutdown");
        self.draining.cancel();
        if !plane.drain(limit, false).await {
            tracing::warn!(?limit, "calls did not end in time and were cut");
        }
        if tokio::time::timeout_at(until, guests.ended()).await.is_err() {
            tracing::warn!(?limit, "functions did not end in time after their replies");
        }
        self.close(managed).await;
        tokio::join!(plane.drain(CLOSE, true), self.admin.0.drain_within(CLOSE));
    }

    /// Flushes components and ends tasks.
    async fn close(&self, managed: &[Arc<dyn Managed>]) {
        let close = async {
            self.shutdown.cancel();
            join_all(managed.iter().map(|managed| managed.close())).await;
            self.tasks.close();
            self.tasks.wait().await;
        };
        if tokio::time::timeout(CLOSE, close).await.is_err() {
            tracing::warn!("components did not close in time");
        }
    }
}

/// The listener that the rpc component `mosn` calls, if it is one of this process.
fn channel_listener(runtime: &config::RuntimeConfig) -> Option<String> {
    facts::channel_listener(&runtime.rpcs.get("mosn")?.settings)
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
