//! A changed configuration: noticed, read, and applied to what a running process can change. A
//! file that is broken changes nothing.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
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
    config::{self, Config, Loaded},
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

/// Follows the configuration file of a process.
pub struct Reload {
    /// The file.
    pub file: PathBuf,
    /// What components there are.
    pub registry: Arc<Registry>,
    /// What is changed.
    pub plane: Arc<Plane>,
    /// What is shown of it.
    pub shown: Shown,
    /// Asks for a look at the file now.
    pub asked: Arc<Notify>,
}

impl Reload {
    /// Applies every change until `shutdown`. `config` is what runs at the beginning.
    pub async fn run(self, config: &Config, shutdown: CancellationToken) {
        let mut folders = folders(config);
        let mut seen = stamp(&self.file, &folders);
        loop {
            let asked = tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.asked.notified() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let now = stamp(&self.file, &folders);
            if !asked && now == seen {
                continue;
            }
            seen = now;
            if let Some(loaded) = self.read().await {
                folders = self::folders(&loaded.config);
                seen = stamp(&self.file, &folders);
                self.apply(loaded).await;
            }
        }
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
        match self.plane.apply(&loaded.config).await {
            Ok(changes) => {
                if fixed(&self.shown.current()) != fixed(&loaded.shown) {
                    tracing::warn!(
                        "changes outside of listeners, routers and clusters take effect at the next start"
                    );
                }
                self.shown.0.store(Arc::new(loaded.shown));
                tracing::info!(added = ?changes.added, removed = ?changes.removed, "configuration applied");
            }
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the changed configuration cannot be used, nothing changes"
                );
            }
        }
    }
}

/// Folders that hold parts of the configuration.
fn folders(config: &Config) -> Vec<PathBuf> {
    let routers = config
        .server
        .routers
        .iter()
        .map(|router| router.router_configs.clone());
    let all = routers.chain([config.clusters.clusters_configs.clone()]);
    all.filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// Changes when a file does. A link that points elsewhere counts, as Kubernetes swaps links. Cheap
/// enough to be asked in place: one question to the system for each file.
fn stamp(file: &Path, folders: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    stamp_file(file, &mut hasher);
    for folder in folders {
        let mut entries: Vec<_> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        entries.sort();
        for entry in entries {
            entry.hash(&mut hasher);
            stamp_file(&entry, &mut hasher);
        }
    }
    hasher.finish()
}

fn stamp_file(file: &Path, hasher: &mut DefaultHasher) {
    use std::os::unix::fs::MetadataExt;
    if let Ok(data) = fs::metadata(file) {
        (
            data.dev(),
            data.ino(),
            data.len(),
            data.mtime(),
            data.mtime_nsec(),
        )
            .hash(hasher);
    }
}

/// The parts of a configuration that a running process cannot change.
fn fixed(shown: &Value) -> Value {
    let mut fixed = shown.clone();
    if let Some(root) = fixed.as_object_mut() {
        root.remove("cluster_manager");
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
    fn a_stamp_changes_with_the_file_and_with_what_a_link_points_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), "1").unwrap();
        fs::write(path("b"), "1").unwrap();
        std::os::unix::fs::symlink(path("a"), path("link")).unwrap();
        let first = stamp(&path("link"), &[]);
        assert_eq!(first, stamp(&path("link"), &[]));
        fs::remove_file(path("link")).unwrap();
        std::os::unix::fs::symlink(path("b"), path("link")).unwrap();
        let second = stamp(&path("link"), &[]);
        assert_ne!(first, second);
        fs::write(path("b"), "23").unwrap();
        assert_ne!(second, stamp(&path("link"), &[]));
    }

    #[test]
    fn a_stamp_changes_with_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().to_owned()];
        let before = stamp(Path::new("none"), &folders);
        fs::write(folder.path().join("a"), "1").unwrap();
        assert_ne!(before, stamp(Path::new("none"), &folders));
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
