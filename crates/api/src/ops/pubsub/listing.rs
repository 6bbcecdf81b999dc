//! Which topics the application gets, for the actuator.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// How the application gets a topic's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// By calls of its `AppCallback` service.
    Callback,
    /// By a stream it opened, shared with the other streams of the topic.
    Compete,
    /// By a stream it opened, which gets every event.
    Each,
}

impl Mode {
    /// The mode as the actuator shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Compete => "compete",
            Self::Each => "each",
        }
    }
}

/// One topic that the application gets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The component.
    pub pubsub: String,
    /// The topic.
    pub topic: String,
    /// How it gets there.
    pub mode: Mode,
}

/// The live subscriptions; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Subscriptions(Arc<Mutex<BTreeMap<Listed, usize>>>);

impl Subscriptions {
    /// All of them, sorted; several streams of one topic show once.
    pub fn list(&self) -> Vec<Listed> {
        self.counts().keys().cloned().collect()
    }

    /// Lists `listed` until the entry is dropped.
    pub(crate) fn enter(&self, listed: Listed) -> Entry {
        *self.counts().entry(listed.clone()).or_default() += 1;
        Entry {
            subscriptions: self.clone(),
            listed,
        }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, BTreeMap<Listed, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one subscription listed.
#[derive(Debug)]
pub(crate) struct Entry {
    subscriptions: Subscriptions,
    listed: Listed,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut counts = self.subscriptions.counts();
        if let Some(count) = counts.get_mut(&self.listed) {
            *count -= 1;
        }
        counts.retain(|_, count| *count > 0);
    }
}
