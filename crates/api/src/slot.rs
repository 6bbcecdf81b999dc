//! The place of one configured component: it may not be open yet, and may be opened anew.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;
use layotto_core::{Error, ErrorKind, Result, health::Indicator, key_prefix::KeyPrefix};

/// What a slot holds now.
enum Content<T: ?Sized> {
    Open(Arc<T>),
    Absent(ErrorKind, String),
}

/// One configured component.
pub struct Slot<T: ?Sized> {
    /// The configured name.
    pub name: String,
    /// The configured type.
    pub type_name: String,
    /// The component's health.
    pub indicator: Indicator,
    /// Held while new settings are applied: one caller after another.
    pub(crate) applying: tokio::sync::Mutex<()>,
    prefix: KeyPrefix,
    /// The prefix that a secret named.
    secret_prefix: OnceLock<KeyPrefix>,
    content: ArcSwap<Content<T>>,
}

impl<T: ?Sized> Slot<T> {
    /// A slot whose component is not open yet: calls answer UNAVAILABLE. `prefix` is the one of its
    /// settings.
    pub fn new(
        name: impl Into<String>,
        type_name: impl Into<String>,
        prefix: KeyPrefix,
        indicator: Indicator,
    ) -> Self {
        let absent = Content::Absent(ErrorKind::Unavailable, "component is starting".to_owned());
        Self {
            name: name.into(),
            type_name: type_name.into(),
            prefix,
            secret_prefix: OnceLock::new(),
            indicator,
            applying: tokio::sync::Mutex::new(()),
            content: ArcSwap::from_pointee(absent),
        }
    }

    /// How keys of this component are prefixed; raw for kinds without keys.
    pub fn prefix(&self) -> &KeyPrefix {
        self.secret_prefix.get().unwrap_or(&self.prefix)
    }

    /// Prefixes keys with what a secret named, from now on. The first one counts: a secret that is
    /// renewed later must not hide the keys that there are.
    pub fn set_prefix(&self, prefix: KeyPrefix) {
        self.secret_prefix.get_or_init(|| prefix);
    }

    /// The component; where it is not open, the error that says why.
    pub fn get(&self) -> Result<Arc<T>> {
        match &**self.content.load() {
            Content::Open(component) => Ok(Arc::clone(component)),
            Content::Absent(kind, reason) => Err(Error::new(*kind, reason.clone())),
        }
    }

    /// Puts a component in; calls under way finish on the one before.
    pub fn fill(&self, component: Arc<T>) {
        self.content.store(Arc::new(Content::Open(component)));
    }

    /// Takes the component out, for `error`.
    pub fn vacate(&self, error: &Error) {
        self.content.store(Arc::new(Content::Absent(
            error.kind(),
            error.message().to_owned(),
        )));
    }
}

/// The components of one kind, by name; clones share the slots.
pub struct Store<T: ?Sized>(HashMap<String, Arc<Slot<T>>>);

impl<T: ?Sized> Clone for Store<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: ?Sized> Default for Store<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: ?Sized> Store<T> {
    /// Whether no component of this kind is configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The slot called `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Slot<T>>> {
        self.0.get(name)
    }

    /// All slots, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Slot<T>>> {
        self.0.values()
    }

    /// Adds a slot.
    pub fn insert(&mut self, slot: Arc<Slot<T>>) {
        self.0.insert(slot.name.clone(), slot);
    }
}
