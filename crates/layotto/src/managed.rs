//! One configured component over its life: opened, watched, reopened, closed.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use layotto_api::Slot;
use layotto_core::{
    Component, Context, Error, ErrorKind, Kind, Registry, Result, Settings,
    health::Status,
    key_prefix::{KeyPrefix, Scope},
};
use tokio::sync::Mutex;

use crate::{backoff::Backoff, config::ComponentConfig, part::Member, secrets::Secrets};

/// How long a product may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a component may take to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether the calls on a replaced component have ended.
const RETIRE_EVERY: Duration = Duration::from_millis(100);

/// A component whatever its kind, as the process and the actuator handle it.
#[async_trait]
pub trait Managed: Send + Sync {
    /// The section of its configuration, such as `pub_subs`.
    fn kind(&self) -> &str;
    /// Its configured name.
    fn name(&self) -> &str;
    /// Its configured type.
    fn type_name(&self) -> &str;
    /// Its health.
    fn status(&self) -> Status;
    /// Opens it, replacing what is open.
    async fn open(&self) -> Result<()>;
    /// Tries again while it is not open, else asks the product whether it is there.
    async fn check(&self);
    /// Flushes and disconnects.
    async fn close(&self);
}

/// The setting that says how keys are prefixed.
pub const KEY_PREFIX: &str = "keyPrefix";

/// What the keys of a section belong to; `None` where they are not prefixed.
pub fn scope(section: &str) -> Option<Scope> {
    match section {
        "lock" => Some(Scope::Lock),
        "sequencer" => Some(Scope::Sequencer),
        "state" => Some(Scope::State),
        _ => None,
    }
}

/// What is done to a component once it is open, before calls reach it.
#[async_trait]
pub trait Prepare<T: ?Sized>: Send + Sync {
    /// An error keeps the component out of use, with its kind and text. Keys get `prefix`.
    async fn prepare(&self, component: &T, prefix: &KeyPrefix) -> Result<()>;
}

/// Nothing to do.
pub struct Ready;

#[async_trait]
impl<T: ?Sized + Sync> Prepare<T> for Ready {
    async fn prepare(&self, _: &T, _: &KeyPrefix) -> Result<()> {
        Ok(())
    }
}

/// The types of one kind in a registry.
pub type Select<T> = Box<dyn Fn(&Registry) -> Option<&Kind<T>> + Send + Sync>;

/// A component of kind `T` and all it takes to open it.
pub struct Opener<T: ?Sized> {
    /// The section of its configuration.
    pub section: String,
    /// Where calls find it.
    pub slot: Arc<Slot<T>>,
    /// Its configuration.
    pub config: ComponentConfig,
    /// All types.
    pub registry: Arc<Registry>,
    /// Those of this kind.
    pub select: Select<T>,
    /// What it gets; `refs` are filled in when it is opened.
    pub context: Context,
    /// Where `secret_ref` and `component_ref` look.
    pub secrets: Arc<Secrets>,
    /// What is done once it is open.
    pub prepare: Box<dyn Prepare<T>>,
    /// Its health; with others over the same connection it makes up one part.
    pub member: Member,
    /// Paces reopening after failures.
    pub backoff: Backoff,
    /// Held while it is opened: a reload, the start and the health check never do so at once.
    pub turn: Mutex<()>,
}

impl<T: ?Sized + Component> Opener<T> {
    async fn make(&self) -> Result<Arc<T>> {
        let type_name = &self.config.type_name;
        let found = (self.select)(&self.registry).and_then(|kind| kind.get(type_name));
        let info = found.ok_or_else(|| {
            let text = format!("component type {type_name} is not supported yet");
            Error::unavailable(text).with_detail(layotto_api::status::REASON, "NOT_SUPPORTED")
        })?;
        let mut settings = self
            .secrets
            .inject(self.settings(), &self.config.secret_ref)
            .await?;
        self.take_prefix(&mut settings)?;
        let refs = self.secrets.refs(&self.config.component_ref)?;
        info.open(
            &settings,
            Context {
                refs,
                ..self.context.clone()
            },
        )
        .await
    }

    /// Takes the prefix of keys that a secret named, if one did: that of the metadata is known before.
    fn take_prefix(&self, settings: &mut Settings) -> Result<()> {
        let Some(scope) = scope(&self.section) else {
            return Ok(());
        };
        let Some(strategy) = settings.take_text(KEY_PREFIX) else {
            return Ok(());
        };
        let prefix = KeyPrefix::new(scope, Some(&strategy), &self.context.app_id, &self.slot.name)?;
        self.slot.set_prefix(prefix);
        Ok(())
    }

    fn settings(&self) -> Settings {
        let mut settings = self.config.settings.clone();
        // As upstream: a blank consumer id is the application's.
        if self.section == "pub_subs" && settings.text("consumerID").is_none_or(|id| id.trim().is_empty()) {
            settings.set("consumerID", self.context.app_id.clone());
        }
        settings
    }

    /// Makes the component and puts it into the slot. What works there is kept when the new one is
    /// not fit, or when its product does not answer.
    async fn try_open(&self) -> Result<()> {
        let component = self.make().await?;
        let before = self.slot.get().ok();
        let fit = self.prepare.prepare(&component, self.slot.prefix()).await;
        let is_fit = fit.is_ok();
        let well = match fit {
            Ok(()) => ping(&*component).await,
            unfit => unfit,
        };
        if well.is_ok() || (is_fit && before.is_none()) {
            self.slot.fill(component);
            self.retire(before);
        } else {
            self.retire(Some(component));
        }
        well
    }

    /// Closes a component that new calls do not reach, once the calls under way let it go.
    fn retire(&self, component: Option<Arc<T>>) {
        let Some(component) = component else { return };
        let shutdown = self.context.shutdown.clone();
        let (section, name) = (self.section.clone(), self.slot.name.clone());
        self.context.tasks.spawn(async move {
            while Arc::strong_count(&component) > 1 && !shutdown.is_cancelled() {
                shutdown
                    .run_until_cancelled(tokio::time::sleep(RETIRE_EVERY))
                    .await;
            }
            close(&*component, &section, &name).await;
        });
    }

    /// Opens while nobody else does, within the time allowed and until the process shuts down.
    async fn open_in_turn(&self) -> Result<()> {
        let limited = tokio::time::timeout(OPEN_TIMEOUT, self.try_open());
        let outcome = match self.context.shutdown.run_until_cancelled(limited).await {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(Error::new(ErrorKind::Timeout, "did not open in time")),
            None => return Err(Error::unavailable("the process is shutting down")),
        };
        match &outcome {
            Ok(()) => {
                self.backoff.reset();
                self.member.up();
            }
            Err(error) => match self.slot.get() {
                Ok(component) => self.note(ping(&*component).await),
                Err(_) => {
                    self.member.down(error.message());
                    self.slot.vacate(error);
                }
            },
        }
        outcome
    }

    fn note(&self, answer: Result<()>) {
        match answer {
            Ok(()) => self.member.up(),
            Err(error) => self.member.down(error.message()),
        }
    }
}

async fn close<T: ?Sized + Component>(component: &T, kind: &str, name: &str) {
    if let Err(error) = component.close().await {
        tracing::warn!(kind, name, %error, "component did not close cleanly");
    }
}

async fn ping<T: ?Sized + Component>(component: &T) -> Result<()> {
    match tokio::time::timeout(PING_TIMEOUT, component.ping()).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::new(ErrorKind::Timeout, "no answer to a ping")),
    }
}

#[async_trait]
impl<T: ?Sized + Component> Managed for Opener<T> {
    fn kind(&self) -> &str {
        &self.section
    }

    fn name(&self) -> &str {
        &self.slot.name
    }

    fn type_name(&self) -> &str {
        &self.config.type_name
    }

    fn status(&self) -> Status {
        self.member.status()
    }

    async fn open(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        self.open_in_turn().await
    }

    async fn check(&self) {
        // Whoever opens it now says how it is.
        let Ok(_turn) = self.turn.try_lock() else { return };
        if let Ok(component) = self.slot.get() {
            return self.note(ping(&*component).await);
        }
        if self.backoff.is_due() {
            // The health entry keeps the reason.
            drop(self.open_in_turn().await);
        }
    }

    async fn close(&self) {
        let Ok(component) = self.slot.get() else { return };
        close(&*component, &self.section, &self.slot.name).await;
    }
}

/// Whether `error` at start means that the configuration is wrong, not that a product is away or
/// that something is not built yet.
pub fn is_fatal(error: &Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::FailedPrecondition | ErrorKind::Unsupported
    )
}

#[cfg(test)]
mod tests;
