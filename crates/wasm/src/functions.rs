//! The functions of a process: installed, updated, replaced when their file changes, and found by id.

mod config;
mod folders;
mod held;
mod status;
mod watch;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{OnceCell, watch as channel};
use tokio_util::task::TaskTracker;
use wasmtime::Linker;

use self::held::{Slot, Slots};
pub use self::{
    config::{Config, Fetch, Origin, Source, SourceError},
    held::{Filter, Function},
    status::{Status, Version},
};
use crate::{
    Engine, EngineError, Headers, ModuleError, Settings,
    guest::{Facts, Guest},
    host::{Asker, Failure, Host},
    instance::{Prepared, linker},
    plugin::{CallError, Counts, Plugin, StartError},
    shared::Shared,
    stream::{Reply, Request},
};

/// A plug-in was not installed or changed.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum InstallError {
    #[error("{0} is already registered")]
    Registered(String),
    #[error("{0} is not registered")]
    NotRegistered(String),
    #[error("instance_num should be greater than 0")]
    NoPlaces,
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Module(#[from] ModuleError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the function does not start")]
    Start(#[from] StartError),
    #[error("the compiler was interrupted")]
    Interrupted,
    #[error("{0} was removed or changed while it was loaded")]
    Overtaken(String),
}

impl InstallError {
    /// Whether a file that is not there is all that is wrong.
    fn may_come(&self) -> bool {
        matches!(self, Self::Source(SourceError::Read { .. }))
    }

    /// Whether the same file may be loaded later. One that is late is not tried: all other files
    /// would wait for it.
    fn may_pass(&self) -> bool {
        let starts_later = matches!(
            self,
            Self::Start(StartError::Trapped(_)) | Self::Engine(_) | Self::Interrupted
        );
        starts_later || self.may_come()
    }
}

/// All functions.
pub struct Functions {
    settings: Settings,
    host: Arc<dyn Host>,
    shared: Arc<Shared>,
    /// Made for the first plug-in.
    works: OnceCell<Works>,
    plugins: Mutex<BTreeMap<String, Entry>>,
    slots: Slots,
    /// Plug-ins by the id of their function; several that have the same take turns by chance.
    routes: ArcSwap<HashMap<Arc<str>, Vec<Arc<Plugin>>>>,
    changes: channel::Sender<()>,
    endings: TaskTracker,
}

struct Works {
    engine: Arc<Engine>,
    linker: Arc<Linker<Guest>>,
}

/// One installed plug-in, by its name.
struct Entry {
    config: Arc<Config>,
    counts: Arc<Counts>,
    /// Empty until its file can be loaded.
    slot: Arc<Slot>,
    /// What it was loaded from.
    checksum: String,
    loads: u64,
    /// Why the last attempt to load it failed.
    problem: Option<String>,
    seen: watch::Seen,
}

impl Functions {
    /// None yet; nothing is started before the first is installed.
    pub fn new(settings: Settings, host: Arc<dyn Host>) -> Arc<Self> {
        Arc::new(Self {
            settings,
            host,
            shared: Arc::default(),
            works: OnceCell::new(),
            plugins: Mutex::default(),
            slots: Slots::default(),
            routes: ArcSwap::default(),
            changes: channel::Sender::default(),
            endings: TaskTracker::new(),
        })
    }

    /// What guests share, with the metrics that they defined.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Installs the plug-in called `name`. A file that is not there yet is no error: the function
    /// begins when it appears.
    pub async fn install(self: &Arc<Self>, name: &str, config: Config) -> Result<(), InstallError> {
        let mut entry = Entry::new(Arc::new(config), Arc::default());
        let config = entry.config.clone();
        let counts = entry.counts.clone();
        {
            let mut plugins = self.plugins();
            if plugins.contains_key(name) {
                return Err(InstallError::Registered(name.to_owned()));
            }
            // Not before: another that gives up the name leaves its slot with it.
            entry.slot = self.slots.of(name);
            // Its name is taken while it is loaded.
            plugins.insert(name.to_owned(), entry);
        }
        match self.load(name, &config, counts, true).await {
            Ok(loaded) => self.put(name, &config, loaded),
            Err(error) if error.may_come() => {
                self.failed(name, Some(&config), &error);
                Ok(())
            }
            Err(error) => {
                self.withdraw(name, &config.source);
                Err(error)
            }
        }
    }

    /// Installs the plug-in called `name`, or puts another configuration in the place of the one it
    /// has. What fails stays: a new one is watched until its file works, one that runs goes on.
    pub async fn set(self: &Arc<Self>, name: &str, config: Config) -> Result<(), InstallError> {
        let seen = watch::Seen::now(&config.source);
        let config = Arc::new(config);
        let counts = {
            let mut plugins = self.plugins();
            let new = || Entry::new(config.clone(), self.slots.of(name));
            plugins.entry(name.to_owned()).or_insert_with(new).counts.clone()
        };
        let loaded = match self.load(name, &config, counts, true).await {
            Ok(loaded) => loaded,
            Err(error) => {
                let is_tried = error.may_pass() && watch::is_file(&config.source);
                if let Some(entry) = self.plugins().get_mut(name).filter(|_| is_tried) {
                    // Its file is watched from now on; what runs goes on until then.
                    entry.seen = seen;
                    entry.seen.failed();
                    entry.config = config;
                }
                self.failed(name, None, &error);
                return Err(error);
            }
        };
        if let Some(entry) = self.plugins().get_mut(name) {
            entry.seen = seen;
            entry.config = config.clone();
        }
        self.put(name, &config, loaded)
    }

    /// Changes how many requests at a time the plug-in called `name` serves.
    pub fn update(&self, name: &str, places: i64) -> Result<(), InstallError> {
        let places = usize::try_from(places).ok().filter(|places| *places > 0);
        let mut plugins = self.plugins();
        let Some(entry) = plugins.get_mut(name) else {
            return Err(InstallError::NotRegistered(name.to_owned()));
        };
        let places = places.ok_or(InstallError::NoPlaces)?;
        let mut config = Config::clone(&entry.config);
        config.serving.places = places;
        entry.config = Arc::new(config);
        if let Some(plugin) = &*entry.slot.load() {
            plugin.resize(places);
        }
        Ok(())
    }

    /// Removes the plug-in called `name`. Requests that it serves are served to their end.
    pub fn uninstall(&self, name: &str) -> Result<(), InstallError> {
        let mut plugins = self.plugins();
        if plugins.remove(name).is_none() {
            return Err(InstallError::NotRegistered(name.to_owned()));
        }
        self.slots.leave(name);
        self.route(&plugins);
        Ok(())
    }

    /// Every plug-in, by name.
    pub fn status(&self) -> Vec<Status> {
        let plugins = self.plugins();
        plugins
            .iter()
            .map(|(name, entry)| Status::of(name, entry))
            .collect()
    }

    /// Whether a function has this id.
    pub fn has(&self, id: &str) -> bool {
        self.routes.load().contains_key(id)
    }

    /// The function called `id`.
    pub fn find(&self, id: &str) -> Option<Function> {
        let routes = self.routes.load();
        let group = routes.get(id)?;
        fastrand::choice(group).cloned().map(Function)
    }

    /// Lets the function called `id` answer, as [`Function::call`] says.
    pub async fn call(
        &self,
        id: &str,
        request: Request,
        depth: u32,
        deadline: Option<tokio::time::Instant>,
    ) -> Result<Reply, CallError> {
        let function = self.find(id).ok_or_else(|| CallError::Unknown(id.to_owned()))?;
        function.call(request, depth, deadline).await
    }

    /// Waits for what functions and filters still do for requests whose replies are there.
    pub async fn ended(&self) {
        self.endings.close();
        self.endings.wait().await;
    }

    /// The filter that is the plug-in called `name`, which need not be there yet.
    pub fn filter(&self, name: &str) -> Filter {
        Filter {
            name: name.into(),
            slot: self.slots.of(name),
        }
    }

    /// Loads what the configuration names, beside what is there now.
    async fn load(
        self: &Arc<Self>,
        name: &str,
        config: &Arc<Config>,
        counts: Arc<Counts>,
        first: bool,
    ) -> Result<Loaded, InstallError> {
        let works = self.works.get_or_try_init(|| self.start()).await?;
        let (engine, linker) = (works.engine.clone(), works.linker.clone());
        let fetched = config.source.fetch().await?;
        let (from, wanted) = (config.clone(), first);
        let compiled = tokio::task::spawn_blocking(move || -> Result<_, InstallError> {
            let (bytes, checksum) = from.source.read(fetched, wanted)?;
            let code = engine.code(&bytes, &checksum)?;
            Ok((Prepared::new(engine, &linker, code)?, checksum))
        });
        let (prepared, checksum) = compiled.await.map_err(|_| InstallError::Interrupted)??;
        let facts = self.facts(name, config);
        let unnamed = if config.is_filter { name } else { "" };
        let named = config.name.as_deref().unwrap_or(unnamed);
        let plugin = Plugin::start(prepared, facts, config.serving, counts, named).await?;
        Ok(Loaded { plugin, checksum })
    }

    async fn start(&self) -> Result<Works, EngineError> {
        let settings = self.settings.clone();
        let started = tokio::task::spawn_blocking(move || {
            let engine = Engine::new(&settings)?;
            let linker = linker(&engine).map_err(|error| EngineError::new(error.into_boxed_dyn_error()))?;
            Ok(Works {
                engine: Arc::new(engine),
                linker: Arc::new(linker),
            })
        });
        started.await.map_err(|error| EngineError::new(Box::new(error)))?
    }

    fn facts(self: &Arc<Self>, name: &str, config: &Config) -> Facts {
        Facts {
            name: name.into(),
            vm_configuration: config.vm_configuration(),
            configuration: config.configuration(),
            root_context: config.root_context,
            limits: config.limits,
            allowed: Arc::new(config.allowed.clone()),
            host: self.host.clone(),
            shared: self.shared.clone(),
            endings: self.endings.clone(),
            functions: Arc::downgrade(self),
        }
    }

    /// Takes a version into service, unless the plug-in was removed or changed meanwhile.
    fn put(&self, name: &str, config: &Arc<Config>, loaded: Loaded) -> Result<(), InstallError> {
        let mut plugins = self.plugins();
        let entry = plugins
            .get_mut(name)
            .filter(|entry| Arc::ptr_eq(&entry.config.source, &config.source))
            .ok_or_else(|| InstallError::Overtaken(name.to_owned()))?;
        tracing::info!(plugin = name, id = %loaded.plugin.id(), sha256 = loaded.checksum, "function loaded");
        loaded.plugin.resize(entry.config.serving.places);
        entry.slot.store(Some(loaded.plugin));
        entry.checksum = loaded.checksum;
        entry.loads += 1;
        entry.problem = None;
        entry.seen.worked();
        self.route(&plugins);
        Ok(())
    }

    /// Removes what was installed as `name` from `source`, unless it was removed or changed meanwhile.
    pub fn withdraw(&self, name: &str, source: &Arc<Source>) {
        let mut plugins = self.plugins();
        let is_own = |entry: &Entry| Arc::ptr_eq(&entry.config.source, source);
        if plugins.get(name).is_some_and(is_own) {
            plugins.remove(name);
            self.slots.leave(name);
            self.route(&plugins);
        }
    }

    /// Shows why `config`, or whatever was to be, does not run.
    fn failed(&self, name: &str, config: Option<&Arc<Config>>, error: &InstallError) {
        let first: &dyn std::error::Error = error;
        let causes = std::iter::successors(Some(first), |error| error.source());
        let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        tracing::warn!(plugin = name, "not loaded: {text}");
        let mut plugins = self.plugins();
        let same = |entry: &&mut Entry| {
            config.is_none_or(|config| Arc::ptr_eq(&entry.config.source, &config.source))
        };
        if let Some(entry) = plugins.get_mut(name).filter(same) {
            entry.problem = Some(text);
            match config.map(|_| error.may_pass()) {
                Some(true) => entry.seen.failed(),
                Some(false) => entry.seen.worked(),
                // Of the file that the entry has it says nothing.
                None => {}
            }
        }
        drop(plugins);
        self.changed();
    }

    fn route(&self, plugins: &BTreeMap<String, Entry>) {
        let mut routes = HashMap::<Arc<str>, Vec<Arc<Plugin>>>::new();
        let functions = plugins.values().filter(|entry| !entry.config.is_filter);
        for plugin in functions.filter_map(|entry| entry.slot.load_full()) {
            routes.entry(plugin.id().clone()).or_default().push(plugin);
        }
        self.routes.store(Arc::new(routes));
        self.changed();
    }

    fn plugins(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Loaded {
    plugin: Arc<Plugin>,
    checksum: String,
}

impl Entry {
    fn new(config: Arc<Config>, slot: Arc<Slot>) -> Self {
        Self {
            seen: watch::Seen::now(&config.source),
            config,
            counts: Arc::default(),
            slot,
            checksum: String::new(),
            loads: 0,
            problem: None,
        }
    }
}

/// `proxy_invoke_service` of a function of this process: the request that would else come to it by
/// HTTP.
pub(crate) async fn invoke(
    functions: &Arc<Functions>,
    asker: &Asker,
    id: &str,
    method: &str,
    param: Bytes,
) -> Result<Bytes, Failure> {
    let path = format!("/{}", method.trim_start_matches('/'));
    let head = [
        (":method", "GET"),
        (":path", path.as_str()),
        (":authority", id),
        (":scheme", "http"),
        ("id", id),
    ];
    let request = Request {
        headers: head
            .iter()
            .map(|(name, value)| {
                (
                    Bytes::copy_from_slice(name.as_bytes()),
                    Bytes::copy_from_slice(value.as_bytes()),
                )
            })
            .collect::<Headers>(),
        body: param,
        protocol: "HTTP/1.1",
        ..Request::default()
    };
    // Boxed: functions call functions.
    let called: futures::future::BoxFuture<'_, _> =
        Box::pin(functions.call(id, request, asker.depth + 1, asker.deadline));
    match called.await {
        Ok(reply) if matches!(reply.status, 0 | 200) => Ok(reply.body),
        Ok(reply) => Err(Failure::Failed(format!("{id} answered {}", reply.status))),
        Err(error) => Err(Failure::Failed(format!("{id}: {error}"))),
    }
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Functions")
            .field("settings", &self.settings)
            .finish()
    }
}

#[cfg(test)]
mod tests;
