//! From configuration to opened components: one loop for every kind.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use layotto_api::{Components, Slot, Store};
use layotto_core::{
    Component, Context, Error, Kind, Registry, Result,
    health::Required,
    key_prefix::{KeyPrefix, Scope},
    sequencer::{BiggerThan, Sequencer},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    backoff::Backoff,
    config::{ComponentConfig, RuntimeConfig},
    managed::{KEY_PREFIX, Managed, Opener, Prepare, Ready, Select, is_fatal, scope},
    part::{Member, Parts},
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
    /// Where each component gets its health entry.
    pub parts: &'a Parts,
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

        let secret = self.declare(&secrets, "secret_store", &config.secret_store, |r| &r.secret)?;
        let configuration = self.declare(&secrets, "config_store", &config.config_store, |r| {
            &r.configuration
        })?;
        // Both are known before either opens: a secret store may refer to another store.
        let known = secrets.secret_stores.set(secret.store.clone());
        debug_assert!(known.is_ok(), "secret stores are set once");
        let known = secrets.config_stores.set(configuration.store.clone());
        debug_assert!(known.is_ok(), "configuration stores are set once");
        for (stores, configs) in [
            (secret.managed, &config.secret_store),
            (configuration.managed, &config.config_store),
        ] {
            let (alone, referring): (Vec<_>, Vec<_>) = stores.into_iter().partition(|managed| {
                configs
                    .get(managed.name())
                    .is_none_or(|config| config.secret_ref.is_empty())
            });
            self.open_all(&alone).await?;
            self.open_all(&referring).await?;
            managed.extend(alone);
            managed.extend(referring);
        }
        let (secret, configuration) = (secret.store, configuration.store);

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
        self.open_all(&rest).await?;
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
                let bounds: Vec<_> = bounds.map(|(key, bound)| (key.clone(), *bound)).collect();
                prefixed(&bounds, prefix)?;
                Ok(Box::new(Bounds(bounds)))
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
            let member = self.member(section, name, &config);
            let slot = Slot::new(name, &config.type_name, prefix.clone(), member.indicator());
            let slot = Arc::new(slot);
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
                member,
                backoff: Backoff::default(),
                turn: tokio::sync::Mutex::default(),
            }));
        }
        Ok(declared)
    }

    /// The component's share of a health entry. Of those over one connection the strictest
    /// `required` counts.
    fn member(&self, section: &str, name: &str, config: &ComponentConfig) -> Member {
        let Some(connection) = &config.connection else {
            return self.parts.join(&format!("{section}.{name}"), config.required);
        };
        let sharing = self
            .config
            .components()
            .filter(|other| other.connection.as_ref() == Some(connection));
        let required = sharing.map(|other| other.required).max_by_key(strictness);
        self.parts.join(
            &format!("connections.{connection}"),
            required.unwrap_or(config.required),
        )
    }

    /// Takes `keyPrefix` out of the settings of kinds whose keys are prefixed.
    fn prefix(&self, section: &str, name: &str, config: &mut ComponentConfig) -> Result<KeyPrefix> {
        let Some(scope) = scope(section) else {
            return KeyPrefix::new(Scope::State, None, "", "");
        };
        let strategy = config.settings.take_text(KEY_PREFIX);
        KeyPrefix::new(scope, strategy.as_deref(), &self.context.app_id, name)
    }
}

fn strictness(required: &Required) -> u8 {
    match required {
        Required::No => 0,
        Required::Start => 1,
        Required::Always => 2,
    }
}

impl Opening<'_> {
    /// Opens `managed` at once and waits a while; a slow component goes on opening.
    async fn open_all(&self, managed: &[Arc<dyn Managed>]) -> Result<()> {
        let open = |managed: &Arc<dyn Managed>| {
            let managed = Arc::clone(managed);
            self.context.tasks.spawn(async move { managed.open().await })
        };
        let opening: Vec<_> = managed.iter().map(open).collect();
        let patience = Instant::now() + PATIENCE;
        for (opening, managed) in opening.into_iter().zip(managed) {
            let (kind, name) = (managed.kind(), managed.name());
            match timeout_at(patience, opening).await {
                Err(_) => {
                    tracing::warn!(
                        kind,
                        name,
                        "component is still opening, the start goes on without it"
                    );
                }
                Ok(Ok(Err(error))) if is_fatal(&error) => {
                    let text = format!("{kind}.{name}: {}", with_causes(&error));
                    return Err(Error::new(error.kind(), text));
                }
                Ok(Ok(Err(error))) => {
                    tracing::warn!(kind, name, %error, "component is not there yet");
                }
                Ok(Ok(Ok(())) | Err(_)) => {}
            }
        }
        Ok(())
    }
}

/// The text of `error` and of what caused it, such as the system's words for a file.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// What ids of keys must be greater than; the keys without their prefix.
struct Bounds(Vec<(String, i64)>);

fn prefixed(bounds: &[(String, i64)], prefix: &KeyPrefix) -> Result<BiggerThan> {
    let bounds = bounds.iter();
    bounds
        .map(|(key, bound)| Ok((prefix.apply_once(key)?, *bound)))
        .collect()
}

#[async_trait]
impl Prepare<dyn Sequencer> for Bounds {
    async fn prepare(&self, sequencer: &dyn Sequencer, prefix: &KeyPrefix) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        sequencer.ensure_bigger_than(&prefixed(&self.0, prefix)?).await
    }
}

#[cfg(test)]
mod tests;
