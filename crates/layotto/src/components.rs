//! From configuration to opened components: one loop for every kind.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use layotto_api::{Components, Slot, Store};
use layotto_core::{
    Component, Context, Kind, Registry, Result,
    health::Health,
    key_prefix::{KeyPrefix, Scope},
    sequencer::{BiggerThan, Sequencer},
};

use crate::{
    backoff::Backoff,
    config::{ComponentConfig, RuntimeConfig},
    managed::{Managed, Opener, Prepare, Ready, Select, is_fatal},
    secrets::Secrets,
};

/// How long the start waits for components; the slower ones go on in the background.
const PATIENCE: Duration = Duration::from_secs(2);

type Configs = BTreeMap<String, ComponentConfig>;

/// Opens the components of one runtime.
pub struct Opening<'a> {
    /// The configuration.
    pub config: &'a RuntimeConfig,
    /// All types.
    pub registry: Arc<Registry>,
    /// Where each component gets its entry.
    pub health: Health,
    /// What each component gets, but for its name.
    pub context: Context,
}

/// Opened components.
pub struct Opened {
    /// For calls.
    pub components: Components,
    /// For the process.
    pub managed: Vec<Arc<dyn Managed>>,
}

struct Declared<T: ?Sized> {
    store: Store<T>,
    managed: Vec<Arc<dyn Managed>>,
}

impl Opening<'_> {
    /// Opens everything: secret stores first, then configuration stores, then all others at once.
    /// Fails where the configuration is wrong; a product that is away only leaves its component
    /// DOWN.
    pub async fn open(self) -> Result<Opened> {
        let secrets = Arc::new(Secrets::default());
        let config = self.config;
        let mut managed = Vec::new();

        let stores = self.declare(&secrets, "secret_store", &config.secret_store, |r| &r.secret)?;
        open_all(&stores.managed).await?;
        managed.extend(stores.managed);
        let secret = stores.store;
        let known = secrets.secret_stores.set(secret.clone());
        debug_assert!(known.is_ok(), "secret stores are set once");

        let stores = self.declare(&secrets, "config_store", &config.config_store, |r| {
            &r.configuration
        })?;
        open_all(&stores.managed).await?;
        managed.extend(stores.managed);
        let configuration = stores.store;
        let known = secrets.config_stores.set(configuration.clone());
        debug_assert!(known.is_ok(), "configuration stores are set once");

        let mut rest = Vec::new();
        let mut keep = |declared: Vec<Arc<dyn Managed>>| rest.extend(declared);
        macro_rules! declare {
            ($section:literal, $configs:ident, $kind:ident) => {{
                let declared = self.declare(&secrets, $section, &config.$configs, |r| &r.$kind)?;
                keep(declared.managed);
                declared.store
            }};
        }
        let mut components = Components {
            hello: declare!("hellos", hellos, hello),
            rpc: declare!("rpcs", rpcs, rpc),
            pubsub: declare!("pub_subs", pub_subs, pubsub),
            file: declare!("file", file, file),
            binding: declare!("bindings", bindings, binding),
            state: declare!("state", state, state),
            lock: declare!("lock", lock, lock),
            secret,
            configuration,
            ..Components::default()
        };
        let sequencers = self.sequencers(&secrets)?;
        keep(sequencers.managed);
        components.sequencer = sequencers.store;
        for (kind, configs) in &config.custom_component {
            if !self.registry.custom.contains_key(kind.as_str()) {
                continue;
            }
            let declared = self.custom(&secrets, kind, configs)?;
            keep(declared.managed);
            components.custom.insert(kind.clone(), declared.store);
        }
        open_all(&rest).await?;
        managed.extend(rest);
        Ok(Opened { components, managed })
    }

    fn declare<T: ?Sized + Component>(
        &self,
        secrets: &Arc<Secrets>,
        section: &str,
        configs: &Configs,
        select: fn(&Registry) -> &Kind<T>,
    ) -> Result<Declared<T>> {
        let select = || -> Select<T> { Box::new(move |registry| Some(select(registry))) };
        self.declare_with(secrets, section, configs, select, |_, _| Ok(Box::new(Ready)))
    }

    fn custom(
        &self,
        secrets: &Arc<Secrets>,
        kind: &str,
        configs: &Configs,
    ) -> Result<Declared<dyn layotto_core::custom::Custom>> {
        let select = || -> Select<dyn layotto_core::custom::Custom> {
            let kind = kind.to_owned();
            Box::new(move |registry: &Registry| registry.custom.get(kind.as_str()))
        };
        let section = format!("custom_component.{kind}");
        self.declare_with(secrets, &section, configs, select, |_, _| Ok(Box::new(Ready)))
    }

    fn sequencers(&self, secrets: &Arc<Secrets>) -> Result<Declared<dyn Sequencer>> {
        let select = || -> Select<dyn Sequencer> { Box::new(|registry| Some(&registry.sequencer)) };
        self.declare_with(
            secrets,
            "sequencer",
            &self.config.sequencer,
            select,
            |config, prefix| {
                let bounds = config.bigger_than.iter();
                let bounds = bounds.map(|(key, bound)| Ok((prefix.apply_once(key)?, *bound)));
                Ok(Box::new(Bounds(bounds.collect::<Result<_>>()?)))
            },
        )
    }

    fn declare_with<T: ?Sized + Component>(
        &self,
        secrets: &Arc<Secrets>,
        section: &str,
        configs: &Configs,
        select: impl Fn() -> Select<T>,
        prepare: impl Fn(&ComponentConfig, &KeyPrefix) -> Result<Box<dyn Prepare<T>>>,
    ) -> Result<Declared<T>> {
        let mut declared = Declared {
            store: Store::default(),
            managed: Vec::new(),
        };
        for (name, config) in configs {
            let mut config = config.clone();
            let prefix = self.prefix(section, name, &mut config)?;
            let part = config.connection.as_ref().map_or_else(
                || format!("{section}.{name}"),
                |connection| format!("connections.{connection}"),
            );
            let indicator = self.health.indicator(part, config.required);
            let slot = Arc::new(Slot::new(name, &config.type_name, prefix.clone(), indicator));
            declared.store.insert(Arc::clone(&slot));
            declared.managed.push(Arc::new(Opener {
                section: section.to_owned(),
                slot,
                prepare: prepare(&config, &prefix)?,
                config,
                registry: Arc::clone(&self.registry),
                select: select(),
                context: Context {
                    name: name.clone(),
                    ..self.context.clone()
                },
                secrets: Arc::clone(secrets),
                backoff: Backoff::default(),
            }));
        }
        Ok(declared)
    }

    /// Takes `keyPrefix` out of the settings of kinds whose keys are prefixed.
    fn prefix(&self, section: &str, name: &str, config: &mut ComponentConfig) -> Result<KeyPrefix> {
        let scope = match section {
            "lock" => Scope::Lock,
            "sequencer" => Scope::Sequencer,
            "state" => Scope::State,
            _ => return KeyPrefix::new(Scope::State, None, "", ""),
        };
        let strategy = config.settings.take_text("keyPrefix");
        KeyPrefix::new(scope, strategy.as_deref(), &self.context.app_id, name)
    }
}

/// Opens `managed` at once and waits a while.
async fn open_all(managed: &[Arc<dyn Managed>]) -> Result<()> {
    let open = |managed: &Arc<dyn Managed>| {
        let managed = Arc::clone(managed);
        tokio::spawn(async move { managed.open().await })
    };
    let opening = managed.iter().map(open);
    // Dropping a handle does not stop its task: a slow component goes on opening.
    let Ok(outcomes) = tokio::time::timeout(PATIENCE, join_all(opening)).await else {
        tracing::warn!("some components are still opening, the start goes on without them");
        return Ok(());
    };
    for (outcome, managed) in outcomes.into_iter().zip(managed) {
        if let Ok(Err(error)) = outcome {
            if is_fatal(&error) {
                let text = format!("{}.{}: {error}", managed.kind(), managed.name());
                return Err(layotto_core::Error::new(error.kind(), text).with_source(error));
            }
            tracing::warn!(kind = managed.kind(), name = managed.name(), %error, "component is not there yet");
        }
    }
    Ok(())
}

struct Bounds(BiggerThan);

#[async_trait]
impl Prepare<dyn Sequencer> for Bounds {
    async fn prepare(&self, sequencer: &dyn Sequencer) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        sequencer.ensure_bigger_than(&self.0).await
    }
}
