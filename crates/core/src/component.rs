//! What every component is, and what it gets when it is opened.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Error, Result, Settings, configuration::ConfigStore, rpc::Inside, secret::SecretStore, shared::Shared,
};

/// What every component answers, whatever its kind.
#[async_trait]
pub trait Component: Send + Sync + 'static {
    /// Asks the product whether it is there; called in the background, every few seconds.
    /// Components without a product keep the default, which is always well.
    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    /// Flushes and disconnects; called once, after the last call, within the drain time.
    async fn close(&self) -> Result<()> {
        Ok(())
    }

    /// Whether [`apply`](Self::apply) works: the component can change its settings while it runs.
    fn is_dynamic(&self) -> bool {
        false
    }

    /// Takes over a complete new set of dynamic settings.
    async fn apply(&self, settings: Settings) -> Result<()> {
        drop(settings);
        Err(Error::unsupported("dynamic configuration"))
    }
}

/// A component that can be opened from a configuration file: one `impl` per back end.
pub trait Open: Sized + Send + Sync + 'static {
    /// The type's name in the configuration file, such as `redis`.
    const TYPE: &'static str;
    /// Its settings; field docs become the reference page.
    type Config: DeserializeOwned + JsonSchema + Send + 'static;

    /// Opens the component. Must not wait for a product: connect at first use, and let
    /// [`ping`](Component::ping) say whether it is there.
    fn open(config: Self::Config, cx: Context) -> impl Future<Output = Result<Self>> + Send;
}

/// Live components that another component was given by `component_ref`.
#[derive(Clone, Default)]
pub struct Refs {
    /// The secret store.
    pub secret_store: Option<Arc<dyn SecretStore>>,
    /// The configuration store.
    pub config_store: Option<Arc<dyn ConfigStore>>,
}

/// What a component gets when it is opened.
#[derive(Clone)]
pub struct Context {
    /// The component's configured name.
    pub name: String,
    /// The application served; may be empty.
    pub app_id: String,
    /// Where the process keeps its data.
    pub data_dir: PathBuf,
    /// The folder of the configuration file, where relative paths are looked up second.
    pub config_dir: PathBuf,
    /// Clients shared with other components.
    pub shared: Shared,
    /// Live components given by `component_ref`.
    pub refs: Refs,
    /// The listeners of the process.
    pub inside: Inside,
    /// Cancelled when the process shuts down.
    pub shutdown: CancellationToken,
    /// Owner of the component's background tasks: the process waits for them.
    pub tasks: TaskTracker,
}

impl Context {
    /// A context for a component outside of a process: tests, tools.
    pub fn standalone(name: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Self {
            name: name.into(),
            app_id: String::new(),
            config_dir: data_dir.clone(),
            data_dir,
            shared: Shared::default(),
            refs: Refs::default(),
            inside: Inside::default(),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// The file that a relative path in the configuration means: in the working directory if it
    /// exists there, else in the folder of the configuration file.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let beside_config = self.config_dir.join(path);
        let found = if path.is_absolute() || path.exists() || !beside_config.exists() {
            path.to_owned()
        } else {
            beside_config
        };
        if path.is_relative() {
            tracing::info!(component = self.name, path = %path.display(), found = %found.display(), "relative path");
        }
        found
    }
}
