//! A changed configuration: noticed, read, and applied to what a running process can change. A
//! file that is broken changes nothing.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use layotto_core::Registry;
use layotto_mesh::tap::tcpcopy::ConfigDump;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{self, Config, Loaded, stamp},
    functions::Guests,
    plane::Plane,
};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The configuration that runs, without its secrets. Clones share it.
#[derive(Clone)]
pub struct Shown(Arc<ArcSwap<Value>>);

impl Shown {
    /// The configuration that the process starts with.
    pub fn new(loaded: &Loaded) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(loaded.shown.clone())))
    }

    /// Tells what runs now as text, for the dump beside copied traffic.
    pub fn as_dump(&self) -> ConfigDump {
        let shown = self.clone();
        Arc::new(move || shown.current().to_string())
    }

    /// What runs now.
    pub fn current(&self) -> Arc<Value> {
        self.0.load_full()
    }
}

/// What the files are like that a configuration comes from. To be asked before they are read, so that
/// what changes meanwhile is noticed later.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    file: u64,
    folders: u64,
}

impl Stamps {
    /// Those of `loaded`, whose folders nobody has read yet.
    pub async fn of(loaded: &Loaded) -> anyhow::Result<Self> {
        let folders = loaded.file.as_deref().map(|file| folders(&loaded.config, file));
        let asked = move || stamp::of_folders(&folders.unwrap_or_default());
        Ok(Self {
            file: loaded.stamp,
            folders: tokio::task::spawn_blocking(asked).await?,
        })
    }
}

/// Follows the configuration file of a process.
pub struct Reload {
    /// The file.
    pub file: PathBuf,
    /// What components there are.
    pub registry: Arc<Registry>,
    /// What is changed.
    pub plane: Arc<Plane>,
    /// The functions.
    pub guests: Guests,
    /// What is shown of it.
    pub shown: Shown,
    /// Asks for a look at the file now.
    pub asked: Arc<Notify>,
}

impl Reload {
    /// Applies every change until `shutdown`. `config` is what runs at the beginning, and was made of
    /// what `seen` tells of.
    pub async fn run(self, config: &Config, mut seen: Stamps, shutdown: CancellationToken) {
        let mut folders = folders(config, &self.file);
        loop {
            let asked = tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.asked.notified() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let Some(now) = self.stamps(&folders).await else {
                return;
            };
            if !asked && now == seen {
                continue;
            }
            // As it was before it is read: what changes meanwhile is noticed next time.
            seen = now;
            if let Some(loaded) = self.read().await {
                let new = self::folders(&loaded.config, &self.file);
                if new != folders {
                    folders = new;
                    let Some(now) = self.stamps(&folders).await else {
                        return;
                    };
                    seen.folders = now.folders;
                }
                self.apply(loaded).await;
            }
        }
    }

    /// What the file and the folders are like, asked where it may block; `None`: the runtime is
    /// ending.
    async fn stamps(&self, folders: &[PathBuf]) -> Option<Stamps> {
        let (file, folders) = (self.file.clone(), folders.to_vec());
        let asked = move || Stamps {
            file: stamp::of_file(&file),
            folders: stamp::of_folders(&folders),
        };
        tokio::task::spawn_blocking(asked).await.ok()
    }

    async fn read(&self) -> Option<Loaded> {
        let (file, registry) = (self.file.clone(), Arc::clone(&self.registry));
        let read = tokio::task::spawn_blocking(move || config::load(&file, &registry, &config::process_env));
        match read.await {
            Ok(Ok(loaded)) => Some(loaded),
            Ok(Err(report)) => {
                for error in &report.errors {
                    tracing::error!("{error}");
                }
                tracing::error!(file = %self.file.display(), "the changed configuration cannot be used, nothing changes");
                None
            }
            Err(error) => {
                tracing::error!(%error, "the configuration could not be read");
                None
            }
        }
    }

    async fn apply(&self, loaded: Loaded) {
        for finding in loaded.report.warnings() {
            tracing::warn!("{finding}");
        }
        let prepared = self.guests.prepare(&loaded.config).await;
        match self.plane.apply(&loaded.config).await {
            Ok(changes) => {
                self.guests.apply(&loaded.config).await;
                if fixed(&self.shown.current()) != fixed(&loaded.shown) {
                    tracing::warn!(
                        "changes outside of listeners, routers and clusters take effect at the next start"
                    );
                }
                self.shown.0.store(Arc::new(loaded.shown));
                tracing::info!(added = ?changes.added, removed = ?changes.removed, "configuration applied");
            }
            Err(error) => {
                self.guests.forget(&prepared).await;
                tracing::error!(
                    error = format!("{error:#}"),
                    "the changed configuration cannot be used, nothing changes"
                );
            }
        }
    }
}

/// Folders that hold parts of the configuration; relative ones may be beside the file at `file`.
fn folders(config: &Config, file: &Path) -> Vec<PathBuf> {
    let beside = file.parent().unwrap_or(Path::new(""));
    let routers = config
        .server
        .routers
        .iter()
        .map(|router| router.config.router_configs.clone());
    let all = routers.chain([config.clusters.clusters_configs.clone()]);
    all.filter(|folder| !folder.is_empty())
        .flat_map(|folder| [PathBuf::from(&folder), beside.join(&folder)])
        .collect()
}

/// The parts of a configuration that a running process cannot change.
fn fixed(shown: &Value) -> Value {
    let mut fixed = shown.clone();
    if let Some(root) = fixed.as_object_mut() {
        root.remove("cluster_manager");
        root.remove("wasm_global_plugins");
    }
    let Some(server) = fixed.pointer_mut("/servers/0").and_then(Value::as_object_mut) else {
        return fixed;
    };
    server.remove("routers");
    let listeners = server.remove("listeners").unwrap_or_default();
    let runtimes: Vec<Value> = listeners
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|listener| listener.pointer("/filter_chains/0/filters")?.as_array())
        .flatten()
        .filter(|filter| filter["type"] == "grpc")
        .cloned()
        .collect();
    server.insert("runtimes".to_owned(), runtimes.into());
    fixed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn folders_beside_the_file_are_looked_at_too() {
        let mut config = Config::default();
        config.clusters.clusters_configs = "clusters".to_owned();
        let folders = folders(&config, Path::new("/etc/layotto/config.json"));
        let both = ["clusters", "/etc/layotto/clusters"].map(PathBuf::from);
        assert_eq!(folders, both);
    }

    #[test]
    fn routes_clusters_and_filters_are_not_fixed_and_runtimes_are() {
        let config = |routes: &str, app: &str| {
            json!({"servers": [{"routers": [routes], "listeners": [
                {"name": routes, "filter_chains": [{"filters": [{"type": "grpc", "config": app}]}]}
            ]}], "cluster_manager": {"clusters": [routes]}})
        };
        assert_eq!(fixed(&config("a", "x")), fixed(&config("b", "x")));
        assert_ne!(fixed(&config("a", "x")), fixed(&config("a", "y")));
    }
}
