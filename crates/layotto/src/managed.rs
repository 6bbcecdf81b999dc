//! One configured component over its life: opened, watched, reopened, closed.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use layotto_api::Slot;
use layotto_core::{Component, Context, Error, ErrorKind, Kind, Registry, Result, Settings, health::Status};

use crate::{backoff::Backoff, config::ComponentConfig, secrets::Secrets};

/// How long a product may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

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

/// What is done to a component once it is open, before calls reach it.
#[async_trait]
pub trait Prepare<T: ?Sized>: Send + Sync {
    /// An error keeps the component out of use, with its kind and text.
    async fn prepare(&self, component: &T) -> Result<()>;
}

/// Nothing to do.
pub struct Ready;

#[async_trait]
impl<T: ?Sized + Sync> Prepare<T> for Ready {
    async fn prepare(&self, _: &T) -> Result<()> {
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
    /// Paces reopening after failures.
    pub backoff: Backoff,
}

impl<T: ?Sized + Component> Opener<T> {
    async fn make(&self) -> Result<Arc<T>> {
        let type_name = &self.config.type_name;
        let found = (self.select)(&self.registry).and_then(|kind| kind.get(type_name));
        let info = found.ok_or_else(|| {
            let text = format!("component type {type_name} is not supported yet");
            Error::unavailable(text).with_detail(layotto_api::status::REASON, "NOT_SUPPORTED")
        })?;
        let settings = self
            .secrets
            .inject(self.settings(), &self.config.secret_ref)
            .await?;
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

    fn settings(&self) -> Settings {
        let mut settings = self.config.settings.clone();
        // As upstream: a blank consumer id is the application's.
        if self.section == "pub_subs" && settings.text("consumerID").is_none_or(|id| id.trim().is_empty()) {
            settings.set("consumerID", self.context.app_id.clone());
        }
        settings
    }

    async fn try_open(&self) -> Result<()> {
        let component = self.make().await?;
        // A reload keeps what works when the new one is not fit.
        self.prepare.prepare(&component).await?;
        let ping = ping(&*component).await;
        self.slot.fill(component);
        ping
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
        self.slot.indicator.status()
    }

    async fn open(&self) -> Result<()> {
        let outcome = self.try_open().await;
        match &outcome {
            Ok(()) => {
                self.backoff.reset();
                self.slot.indicator.up();
            }
            Err(error) => {
                self.slot.indicator.down(error.message());
                if self.slot.get().is_err() {
                    self.slot.vacate(error);
                }
            }
        }
        outcome
    }

    async fn check(&self) {
        let Ok(component) = self.slot.get() else {
            if self.backoff.is_due() {
                // The indicator keeps the reason.
                drop(self.open().await);
            }
            return;
        };
        match ping(&*component).await {
            Ok(()) => self.slot.indicator.up(),
            Err(error) => self.slot.indicator.down(error.message()),
        }
    }

    async fn close(&self) {
        let Ok(component) = self.slot.get() else { return };
        if let Err(error) = component.close().await {
            tracing::warn!(kind = self.section, name = self.slot.name, %error, "component did not close cleanly");
        }
    }
}

/// Whether `error` at start means that the configuration is wrong, not that a product is away.
pub fn is_fatal(error: &Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::FailedPrecondition
    )
}
