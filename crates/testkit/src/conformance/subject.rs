//! The component that an assertion looks at, and ways to open another of its type.

use std::{
    ops::Deref,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use layotto_core::{Component, Context, Kind, Registry, Settings, TypeInfo, key_prefix::PrefixedKey};
use serde_json::Value;
use tokio_util::sync::DropGuard;

use super::{DEADLINE, check::OrSay, check::within};
use crate::fixture::Fixture;

/// Where the components of a type come from.
pub struct Source<T: ?Sized> {
    /// The registry that knows the type.
    pub registry: Arc<Registry>,
    /// Finds the kind in the registry.
    pub kind: fn(&Registry) -> &Kind<T>,
    /// The type's name.
    pub type_name: &'static str,
    /// What is put around each component opened: nothing, or a defect.
    pub wrap: fn(Arc<T>) -> Arc<T>,
}

impl<T: ?Sized> Clone for Source<T> {
    fn clone(&self) -> Self {
        Self {
            registry: self.registry.clone(),
            ..*self
        }
    }
}

/// An opened component, the fixture that it was opened with, and names of the assertion's own.
pub struct Subject<T: ?Sized> {
    /// The component.
    pub component: Arc<T>,
    /// What it was opened with, and what is known of its type.
    pub fixture: Arc<Fixture>,
    settings: Settings,
    context: Context,
    assertion: &'static str,
    shared: Arc<Origin<T>>,
    _shutdown: Arc<DropGuard>,
}

/// What all subjects of one type have in common.
struct Origin<T: ?Sized> {
    source: Source<T>,
    run: String,
    opened: AtomicU32,
}

impl<T: ?Sized> Clone for Subject<T> {
    fn clone(&self) -> Self {
        Self {
            component: self.component.clone(),
            fixture: self.fixture.clone(),
            settings: self.settings.clone(),
            context: self.context.clone(),
            assertion: self.assertion,
            shared: self.shared.clone(),
            _shutdown: self._shutdown.clone(),
        }
    }
}

impl<T: ?Sized> Deref for Subject<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.component
    }
}

impl<T: ?Sized + Component> Origin<T> {
    fn info(&self) -> Result<&TypeInfo<T>, String> {
        let Source {
            registry,
            kind,
            type_name,
            ..
        } = &self.source;
        kind(registry)
            .get(type_name)
            .ok_or_else(|| format!("{type_name} is not registered"))
    }

    async fn open(&self, settings: &Settings, context: Context) -> Result<Arc<T>, String> {
        let opening = self.info()?.open(settings, context);
        let component = within(DEADLINE, "opening the component", opening).await?;
        component.or_say("opening the component").map(self.source.wrap)
    }

    /// A context with a data directory of its own.
    fn context(&self, data_dir: PathBuf) -> Context {
        let mut context = Context::standalone(self.source.type_name, data_dir);
        context.app_id = "app1".to_owned();
        context
    }
}

impl<T: ?Sized + Component> Subject<T> {
    /// Opens a component with the fixture's settings.
    pub async fn open(source: Source<T>, fixture: Fixture) -> Result<Self, String> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let origin = Origin {
            source,
            run: format!("{:x}", since.as_micros()),
            opened: AtomicU32::new(0),
        };
        let (settings, data_dir) = (fixture.settings.clone(), fixture.dir.path().join("main"));
        Self::open_in(Arc::new(origin), Arc::new(fixture), settings, data_dir).await
    }

    async fn open_in(
        shared: Arc<Origin<T>>,
        fixture: Arc<Fixture>,
        settings: Settings,
        data_dir: PathBuf,
    ) -> Result<Self, String> {
        std::fs::create_dir_all(&data_dir).map_err(|error| format!("making a data directory: {error}"))?;
        let context = shared.context(data_dir);
        let component = shared.open(&settings, context.clone()).await?;
        Ok(Self {
            component,
            fixture,
            settings,
            assertion: "",
            shared,
            _shutdown: Arc::new(context.shutdown.clone().drop_guard()),
            context,
        })
    }

    /// Opens another component of this type, with settings that override the fixture's, in a data
    /// directory of its own.
    pub async fn fresh(&self, settings: impl IntoIterator<Item = (&str, Value)>) -> Result<Self, String> {
        let settings = Settings::from_iter(settings).over(&self.fixture.settings);
        let number = self.shared.opened.fetch_add(1, Ordering::Relaxed);
        let data_dir = self
            .fixture
            .dir
            .path()
            .join(format!("{}-{number}", self.assertion));
        let opened = Self::open_in(self.shared.clone(), self.fixture.clone(), settings, data_dir).await?;
        Ok(opened.named(self.assertion))
    }

    /// Closes the component as a process that shuts down does, and opens it again on its data.
    pub async fn reopen(self) -> Result<Self, String> {
        within(DEADLINE, "closing", self.component.close())
            .await?
            .or_say("closing")?;
        self.context.shutdown.cancel();
        self.context.tasks.close();
        within(
            DEADLINE,
            "the end of the component's tasks",
            self.context.tasks.wait(),
        )
        .await?;
        let (shared, fixture, settings) = (self.shared.clone(), self.fixture.clone(), self.settings.clone());
        let (assertion, data_dir) = (self.assertion, self.context.data_dir.clone());
        // The last one to hold an embedded store must be gone before it can be opened again.
        drop(self);
        Ok(Self::open_in(shared, fixture, settings, data_dir)
            .await?
            .named(assertion))
    }

    /// Whether the type reads the setting `key`.
    pub fn reads_setting(&self, key: &str) -> bool {
        let mut settings = self.settings.clone();
        settings.set(key, "1");
        match self.shared.info().map(|info| info.check(&settings)) {
            Ok(Ok(unknown)) => !unknown.iter().any(|path| path == key),
            // A setting that is read may well not accept the text.
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }

    /// The unknown keys among the settings once `key` is one of them.
    pub fn unknown_with(&self, key: &str) -> Result<Vec<String>, String> {
        let mut settings = self.settings.clone();
        settings.set(key, "1");
        self.shared
            .info()?
            .check(&settings)
            .map_err(|error| error.to_string())
    }
}

impl<T: ?Sized> Subject<T> {
    /// The same component for the assertion called `assertion`.
    #[must_use]
    pub fn named(mut self, assertion: &'static str) -> Self {
        self.assertion = assertion;
        self
    }

    /// A text that no other assertion and no other run uses.
    pub fn name(&self, part: &str) -> String {
        format!("{}-{}-{part}", self.shared.run, self.assertion)
    }

    /// A key that no other assertion and no other run uses.
    pub fn key(&self, part: &str) -> PrefixedKey {
        PrefixedKey(self.name(part))
    }
}
