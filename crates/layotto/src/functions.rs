//! Functions in WebAssembly: what the configuration installs, and the stream filter that hands
//! requests to them. The engine, the ABI and the limits are those of `layotto_wasm`.

mod admin;
mod calls;
mod config;
mod convert;
mod fetch;
mod filter;
mod frame;
mod global;
mod manage;
mod metrics;
mod proxywasm;
mod runtime;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use futures::{StreamExt, future::BoxFuture, stream};
use layotto_api::metrics::Metrics;
use layotto_core::{
    Secret,
    health::{Health, Required},
};
use layotto_mesh::{
    config::ConfigError,
    filter::{Filter, Terminal},
    stack::admin::Access,
};
use layotto_wasm::{Functions, InstallError, Settings, Source};
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

pub use self::global::Global;
use self::{
    admin::WasmAdmin,
    calls::Calls,
    config::{Plugin, Vm},
    filter::Layotto,
    proxywasm::ProxyWasm,
    runtime::Runtime,
};
use crate::{config::Config, plane::Directory};

/// The type of the stream filter.
pub const LAYOTTO: &str = "Layotto";
/// The type of the stream filter that administers functions.
pub const WASM_FILTER: &str = "wasm_filter";

/// The type of the stream filter that proxied traffic passes.
pub const PROXYWASM: &str = "proxywasm";

/// How long a configuration is held up by modules that are fetched. They are there later, then.
const HELD_UP: Duration = Duration::from_secs(2);

/// How long until a module that is not there is asked for again, at first and at most.
const RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Whatever the engine is called, it is this one.
const ENGINE: &str = "wasmtime";

/// Of how many other names the log has a note.
const NOTED: usize = 16;

/// How many modules are fetched at a time, and how many are loaded from files.
const FETCHES: usize = 4;

/// Says what is wrong with the configuration of a filter of type `name`.
pub fn check(name: &str, config: &Value) -> Result<(), ConfigError> {
    match name {
        LAYOTTO => config::read(config).map(drop),
        PROXYWASM => config::read_filter(config).map(drop),
        _ => Ok(()),
    }
}

/// The plug-ins of a filter of type `name` whose `from_wasm_plugin` names a module that is not there:
/// where that is said in `config`, and the module.
pub fn unresolved(name: &str, config: &Value, globals: &[Global]) -> Vec<(String, String)> {
    let plugins = plugins(name, config).into_iter();
    let unresolved = plugins.filter(|(_, plugin)| plugin.clone().resolve(globals).is_err());
    unresolved
        .map(|(plugin, Plugin { from_wasm_plugin, .. })| match name {
            PROXYWASM => ("from_wasm_plugin".to_owned(), from_wasm_plugin),
            _ => (format!("{plugin}.from_wasm_plugin"), from_wasm_plugin),
        })
        .collect()
}

/// The schema of one plug-in of a filter of type `name`; `None`: there is no such type here.
pub fn schema(name: &str) -> Option<Value> {
    let mut schema = schemars::schema_for!(Plugin).to_value();
    match name {
        LAYOTTO => {}
        PROXYWASM => {
            let keys = schema["properties"].as_object_mut()?;
            keys.retain(|key, _| key != config::COMPAT_ERRORS);
        }
        _ => return None,
    }
    Some(schema)
}

/// The functions of the process.
#[derive(Clone)]
pub struct Guests(Arc<Inner>);

struct Inner {
    functions: Arc<Functions>,
    /// Where relative paths are looked up second.
    folder: PathBuf,
    /// What the configuration installed, by the name of the plug-in.
    installed: Mutex<BTreeMap<String, Installed>>,
    /// What was installed over the administration API, and from where.
    added: std::sync::Mutex<BTreeMap<String, Arc<Source>>>,
    /// The modules that plug-ins may name.
    globals: ArcSwap<Vec<Global>>,
    fetches: Semaphore,
    /// The engines of which the log has a note.
    noted: std::sync::Mutex<BTreeSet<String>>,
}

/// A plug-in of the configuration.
struct Installed {
    plugin: Plugin,
    /// Fetches its module, until it is there.
    fetching: Option<AbortOnDropHandle<()>>,
}

/// Plug-ins that are being set.
#[derive(Default)]
struct Loading {
    fetches: TaskTracker,
    files: Vec<BoxFuture<'static, ()>>,
}

impl Loading {
    /// Waits for those of files, and for modules that are fetched. What takes longer to fetch goes on.
    async fn hold_up(self) {
        self.fetches.close();
        let fetched = tokio::time::timeout(HELD_UP, self.fetches.wait());
        let files = stream::iter(self.files).buffer_unordered(FETCHES).count();
        drop(tokio::join!(fetched, files));
    }
}

impl Guests {
    /// None yet. They reach the runtime through `runtime`, the service behind its listener, and the
    /// clusters of `directory`; compiled modules are kept under `data_dir`.
    pub fn new(
        runtime: Option<Arc<dyn Terminal>>,
        token: Option<Secret>,
        data_dir: &Path,
        folder: PathBuf,
        directory: Directory,
    ) -> Self {
        let settings = Settings {
            cache: Some(data_dir.join("wasm")),
            ..Settings::default()
        };
        let host = Runtime::new(runtime, token, Calls::new(directory));
        Self(Arc::new(Inner {
            functions: Functions::new(settings, Arc::new(host)),
            folder,
            installed: Mutex::default(),
            added: std::sync::Mutex::default(),
            globals: ArcSwap::default(),
            fetches: Semaphore::new(FETCHES),
            noted: std::sync::Mutex::default(),
        }))
    }

    /// A stream filter of type `name` with this configuration; `None`: there is no such type here.
    pub fn filter(&self, name: &str, config: &Value) -> Option<Arc<dyn Filter>> {
        let functions = self.0.functions.clone();
        match name {
            // All of them lead to the same functions.
            LAYOTTO => Some(Arc::new(Layotto::new(functions))),
            PROXYWASM => {
                let (name, _) = config::read_filter(config).ok()?;
                Some(Arc::new(ProxyWasm::new(functions.filter(&name))))
            }
            _ => None,
        }
    }

    /// Shows the metrics that guests define among `metrics`.
    pub fn register(&self, metrics: &Metrics) {
        let shared = self.0.functions.shared().clone();
        metrics.register(|registry| registry.register_collector(Box::new(metrics::OfGuests(shared))));
    }

    /// The stream filter that installs, changes and removes them, for those whom `access` lets in.
    pub fn admin(&self, access: Access) -> Arc<dyn Filter> {
        Arc::new(WasmAdmin::new(self.clone(), access))
    }

    /// Loads files that change, and shows in `health` how functions are, until `shutdown`. Nothing is
    /// done while there are none.
    pub fn watch(&self, tasks: &TaskTracker, health: Health, shutdown: CancellationToken) {
        let watch = Functions::watch(Arc::downgrade(&self.0.functions));
        let report = report(self.0.functions.clone(), health);
        tasks.spawn(async move {
            let both = async { tokio::join!(watch, report) };
            shutdown.run_until_cancelled(both).await
        });
    }

    /// Waits for what they do when their replies are there.
    pub async fn ended(&self) {
        self.0.functions.ended().await;
    }

    /// Installs the filters of `config` that are not there yet, before it is applied: traffic passes
    /// no filter that is still loading. The answer names them, for [`forget`](Self::forget).
    pub async fn prepare(&self, config: &Config) -> Vec<String> {
        let mut installed = self.0.installed.lock().await;
        let (mut new, mut loading) = (Vec::new(), Loading::default());
        for (name, plugin) in wanted(config) {
            let is_new = !installed.contains_key(&name) && !self.added().contains_key(&name);
            if plugin.is_filter() && is_new {
                self.put(&mut installed, name.clone(), plugin, &mut loading);
                new.push(name);
            }
        }
        loading.hold_up().await;
        new
    }

    /// Removes what was prepared for a configuration that is not applied.
    pub async fn forget(&self, names: &[String]) {
        let mut installed = self.0.installed.lock().await;
        for name in names {
            installed.remove(name);
            // One that could not be loaded is not there.
            drop(self.0.functions.uninstall(name));
        }
    }

    /// Installs what `config` names, changes what differs, and removes what it names no more. What
    /// cannot be loaded is logged, and shows as missing to those who call it. What was installed over the
    /// administration API stays as it is.
    pub async fn apply(&self, config: &Config) {
        let mut installed = self.0.installed.lock().await;
        self.0.globals.store(Arc::new(config.wasm_plugins.clone()));
        let mut wanted = wanted(config);
        wanted.retain(|name, _| {
            let added = self.added().contains_key(name);
            if added {
                tracing::warn!(
                    plugin = name,
                    "configured, but installed over the administration API; that counts"
                );
            }
            !added
        });
        installed.retain(|name, _| {
            let stays = wanted.contains_key(name);
            if !stays && !self.added().contains_key(name) {
                // It may have been removed over the administration API.
                drop(self.0.functions.uninstall(name));
            }
            stays
        });
        let mut loading = Loading::default();
        for (name, plugin) in wanted {
            if let Some(there) = installed.get_mut(&name)
                && self.becomes(&name, there, &plugin)
            {
                continue;
            }
            self.put(&mut installed, name, plugin, &mut loading);
        }
        loading.hold_up().await;
    }

    /// Sets a plug-in, which is one of `loading` from then on.
    fn put(
        &self,
        installed: &mut BTreeMap<String, Installed>,
        name: String,
        plugin: Plugin,
        loading: &mut Loading,
    ) {
        // Ends what is still fetched for it.
        installed.remove(&name);
        let set = self.clone().set(name.clone(), plugin.clone());
        let fetching = match plugin.vm_config.is_remote() {
            true => Some(AbortOnDropHandle::new(loading.fetches.spawn(set))),
            false => {
                loading.files.push(Box::pin(set));
                None
            }
        };
        installed.insert(name, Installed { plugin, fetching });
    }

    /// Whether the plug-in that is there is or becomes this one without being loaded again.
    fn becomes(&self, name: &str, there: &mut Installed, plugin: &Plugin) -> bool {
        if there.plugin == *plugin {
            return true;
        }
        let mut resized = there.plugin.clone();
        resized.instance_num = plugin.instance_num;
        let is_fetched = there.fetching.as_ref().is_none_or(AbortOnDropHandle::is_finished);
        let becomes =
            resized == *plugin && is_fetched && self.0.functions.update(name, plugin.places()).is_ok();
        if becomes {
            there.plugin = resized;
        }
        becomes
    }

    /// Sets a plug-in. One whose module does not come, or comes as another, is tried again until it is
    /// the right one.
    async fn set(self, name: String, plugin: Plugin) {
        self.note_engine(&plugin.vm_config.engine);
        let config = plugin.config(&self.0.folder);
        let mut wait = RETRY;
        loop {
            let fetch = match plugin.vm_config.is_remote() {
                true => Some(self.0.fetches.acquire().await),
                false => None,
            };
            let Err(error) = self.0.functions.set(&name, config.clone()).await else {
                return;
            };
            drop(fetch);
            tracing::error!(plugin = name, %error, "the function is not there");
            if !may_mend(&plugin.vm_config, &error) {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_RETRY);
        }
    }
}

/// Whether another try may bring another module: where it comes from elsewhere, and is not what its
/// checksum says. One that fails and has none may be mended, too.
fn may_mend(vm: &Vm, error: &InstallError) -> bool {
    let is_other = match error {
        InstallError::Source(_) => true,
        InstallError::Module(_) | InstallError::Start(_) => !vm.is_checked(),
        _ => false,
    };
    vm.is_remote() && is_other
}

async fn report(functions: Arc<Functions>, health: Health) {
    let mut changes = functions.changes();
    let mut shown = BTreeSet::new();
    loop {
        shown = show(&functions, &health, shown);
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Shows every plug-in, and no more those that `before` had. Nothing waits for a function.
fn show(functions: &Functions, health: &Health, before: BTreeSet<String>) -> BTreeSet<String> {
    let mut shown = BTreeSet::new();
    for status in functions.status() {
        let name = format!("functions.{}", status.name);
        let indicator = health.indicator(&name, Required::No);
        match (status.up, status.problem, status.last_trap) {
            (true, ..) => indicator.up(),
            (false, Some(problem), _) => indicator.down(problem),
            (false, None, trap) => indicator.down(trap.unwrap_or_else(|| "loading".to_owned())),
        }
        shown.insert(name);
    }
    for gone in before.difference(&shown) {
        health.forget(gone);
    }
    shown
}

/// The plug-ins of a filter of type `name`, by their names; none where its configuration is wrong.
fn plugins(name: &str, config: &Value) -> BTreeMap<String, Plugin> {
    match name {
        LAYOTTO => config::read(config).unwrap_or_default(),
        PROXYWASM => config::read_filter(config).into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

/// Every plug-in of every filter, by its name. Of two with one name the first counts.
fn wanted(config: &Config) -> BTreeMap<String, Plugin> {
    let mut wanted = BTreeMap::new();
    let listeners = config.server.listeners.iter();
    for filter in listeners.flat_map(|listener| &listener.stream_filters) {
        // The file was checked when it was read.
        for (name, mut plugin) in plugins(&filter.type_name, &filter.config) {
            if let Err(error) = plugin.resolve(&config.wasm_plugins) {
                tracing::error!(plugin = name, "{}: {}", error.path, error.message);
                continue;
            }
            match wanted.get(&name) {
                None => drop(wanted.insert(name, plugin)),
                Some(other) if *other == plugin => {}
                Some(_) => tracing::warn!(plugin = name, "configured twice; the first counts"),
            }
        }
    }
    wanted
}

#[cfg(test)]
mod tests;
