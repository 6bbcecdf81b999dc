//! The process's log: one line an event, levels by module, changed while it runs.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use layotto_core::Registry;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer, Registry as Subscriber, filter::Targets, fmt, layer::SubscriberExt, reload,
    util::SubscriberInitExt,
};

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Destination {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

impl Destination {
    /// The destination that upstream's `default_log_path` names.
    pub fn from_path(path: &str) -> Self {
        match path {
            "" | "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            path => Self::File(PathBuf::from(path)),
        }
    }
}

/// The level that a name of upstream means: `TRACE` to `FATAL`, `warning`, `critical`, `off`.
pub fn level(name: &str) -> Option<LevelFilter> {
    Some(match name.to_ascii_lowercase().as_str() {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" | "warning" => LevelFilter::WARN,
        "error" | "fatal" | "critical" => LevelFilter::ERROR,
        "off" => LevelFilter::OFF,
        _ => return None,
    })
}

/// Names accepted for a level.
pub const LEVELS: &str = "trace, debug, info, warn, error, fatal, off";

/// The levels of the running process; clones share them.
#[derive(Clone)]
pub struct Levels(Arc<LevelsState>);

struct LevelsState {
    handle: reload::Handle<Targets, Subscriber>,
    modules: BTreeMap<String, &'static [&'static str]>,
    current: Mutex<Current>,
}

struct Current {
    default: LevelFilter,
    modules: BTreeMap<String, LevelFilter>,
}

impl Current {
    fn set(&mut self, modules: &[&str], level: LevelFilter) {
        if modules.is_empty() {
            self.default = level;
        }
        for module in modules {
            self.modules.insert((*module).to_owned(), level);
        }
    }

    fn targets(&self) -> Targets {
        let mut modules = self.modules.clone();
        if modules.contains_key(RUNTIME) {
            // Their names begin with that of the runtime, whose level is not theirs.
            for module in [API, HEALTH] {
                modules.entry(module.to_owned()).or_insert(self.default);
            }
        }
        Targets::new().with_default(self.default).with_targets(modules)
    }
}

/// Why a level was not set.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SetLevelError {
    /// No such component.
    #[error("unknown component {0:?}, expected one of: {1}")]
    Component(String, String),
    /// No such level.
    #[error("unknown level {0:?}, expected one of: {LEVELS}")]
    Level(String),
}

impl Levels {
    /// Sets the level of a component such as `state/embedded` or `mesh`; `default` is all others.
    pub fn set(&self, component: &str, name: &str) -> Result<(), SetLevelError> {
        let level = level(name).ok_or_else(|| SetLevelError::Level(name.to_owned()))?;
        let module = self.0.modules.get(component).ok_or_else(|| {
            let known = self.0.modules.keys().cloned().collect::<Vec<_>>().join(", ");
            SetLevelError::Component(component.to_owned(), known)
        })?;
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.set(module, level);
        if self.0.handle.reload(current.targets()).is_err() {
            tracing::warn!("the log is closed, its levels stay");
        }
        Ok(())
    }
}

impl Levels {
    /// The levels that are set, by component; `default` is all others.
    pub fn show(&self) -> serde_json::Value {
        let current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shown = serde_json::Map::new();
        shown.insert("default".to_owned(), current.default.to_string().into());
        for (component, modules) in &self.0.modules {
            let level = modules.iter().find_map(|module| current.modules.get(*module));
            if let Some(level) = level {
                shown.insert(component.clone(), level.to_string().into());
            }
        }
        serde_json::Value::Object(shown)
    }
}

/// The names of events of the API and of health, which are not those of their modules.
const API: &str = "layotto::api";
const HEALTH: &str = "layotto::health";
/// The modules of this crate. A name stands for all that begin like it: without the colons these
/// would be all crates.
const RUNTIME: &str = "layotto::";

/// The components whose level can be set, and the modules whose events each means; none: all that
/// have no level of their own.
fn modules(registry: &Registry) -> BTreeMap<String, &'static [&'static str]> {
    let crates: [(&str, &'static [&'static str]); 7] = [
        ("default", &[]),
        ("api", &[API, "layotto_api"]),
        ("components", &["layotto_components"]),
        ("health", &[HEALTH]),
        ("mesh", &["layotto_mesh"]),
        ("runtime", &[RUNTIME]),
        ("wire", &["hyper", "h2", "tonic"]),
    ];
    let mut modules: BTreeMap<_, _> = crates
        .iter()
        .map(|&(name, modules)| (name.to_owned(), modules))
        .collect();
    for kind in registry.kinds() {
        let (name, module): (&str, &'static [&'static str]) = match kind.section() {
            "hellos" => ("hello", &["layotto_components::hello"]),
            "config_store" => ("configstore", &["layotto_components::configuration"]),
            "rpcs" => ("rpc", &["layotto_components::rpc"]),
            "pub_subs" => ("pubsub", &["layotto_components::pubsub"]),
            "state" => ("state", &["layotto_components::state"]),
            "file" => ("file", &["layotto_components::file"]),
            "lock" => ("lock", &["layotto_components::lock"]),
            "sequencer" => ("sequencer", &["layotto_components::sequencer"]),
            "secret_store" => ("secretstore", &["layotto_components::secret"]),
            "bindings" => ("bindings", &["layotto_components::binding"]),
            _ => ("custom", &["layotto_components::custom"]),
        };
        modules.insert(name.to_owned(), module);
        // The types of one kind share its module's level: upstream names them one by one.
        modules.extend(
            kind.listed()
                .iter()
                .map(|listed| (format!("{name}/{}", listed.name), module)),
        );
    }
    modules
}

/// Starts the log; `components` is the level of components, where it is not the default.
pub fn init(
    destination: &Destination,
    default: LevelFilter,
    components: Option<LevelFilter>,
    registry: &Registry,
) -> io::Result<Levels> {
    let components = components.map(|level| ("layotto_components".to_owned(), level));
    let current = Current {
        default,
        modules: components.into_iter().collect(),
    };
    let (filter, handle) = reload::Layer::new(current.targets());
    let (writer, colours) = writer(destination)?;
    let lines = fmt::layer()
        .with_writer(writer)
        .with_ansi(colours)
        .with_filter(filter);
    // A second start in one process, as tests do it, keeps the first log.
    drop(tracing_subscriber::registry().with(lines).try_init());
    Ok(Levels(Arc::new(LevelsState {
        handle,
        modules: modules(registry),
        current: Mutex::new(current),
    })))
}

type MakeWriter = Box<dyn Fn() -> Box<dyn Write> + Send + Sync>;

fn writer(destination: &Destination) -> io::Result<(MakeWriter, bool)> {
    Ok(match destination {
        Destination::Stdout => (Box::new(|| Box::new(io::stdout())), io::stdout().is_terminal()),
        Destination::Stderr => (Box::new(|| Box::new(io::stderr())), io::stderr().is_terminal()),
        Destination::File(path) => (file_writer(open(path)?), false),
    })
}

fn file_writer(file: File) -> MakeWriter {
    let file = Arc::new(file);
    Box::new(move || Box::new(SharedFile(Arc::clone(&file))))
}

struct SharedFile(Arc<File>);

impl Write for SharedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.0).flush()
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("log file {}: {error}", path.display()));
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(named)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn enabled(component: &str, targets: &[&str]) -> Vec<bool> {
        let mut current = Current {
            default: LevelFilter::INFO,
            modules: BTreeMap::new(),
        };
        current.set(modules(&Registry::default())[component], LevelFilter::DEBUG);
        let filter = current.targets();
        targets
            .iter()
            .map(|target| filter.would_enable(target, &Level::DEBUG))
            .collect()
    }

    #[test]
    fn a_level_is_that_of_its_component_alone() {
        let targets = [
            "layotto::assemble",
            "layotto::api",
            "layotto_api::grpc",
            "layotto::health",
            "layotto_mesh::listener",
            "layotto_components::state",
            "h2::codec",
        ];
        for (component, expected) in [
            ("default", [true; 7]),
            ("runtime", [true, false, false, false, false, false, false]),
            ("api", [false, true, true, false, false, false, false]),
            ("health", [false, false, false, true, false, false, false]),
            ("mesh", [false, false, false, false, true, false, false]),
            ("state", [false, false, false, false, false, true, false]),
            ("wire", [false, false, false, false, false, false, true]),
        ] {
            assert_eq!(enabled(component, &targets), expected, "{component}");
        }
    }
}
