//! Correct components with a defect put around them: what the assertions must be able to find.

mod configuration;
mod lock;
mod pubsub;
mod sequencer;
mod state;

use std::sync::Arc;

use layotto_core::{
    configuration::ConfigStore, lock::LockStore, pubsub::PubSub, sequencer::Sequencer, state::StateStore,
};

/// A defect, and the assertions that must find it.
pub struct Defect<T: ?Sized> {
    /// What is wrong.
    pub name: &'static str,
    /// Puts the defect around a correct component.
    pub wrap: fn(Arc<T>) -> Arc<T>,
    /// The assertions that fail because of it.
    pub caught_by: &'static [&'static str],
}

/// Defects of state stores.
pub fn states() -> Vec<Defect<dyn StateStore>> {
    state::defects()
}

/// Defects of lock stores.
pub fn locks() -> Vec<Defect<dyn LockStore>> {
    lock::defects()
}

/// Defects of configuration stores.
pub fn configurations() -> Vec<Defect<dyn ConfigStore>> {
    configuration::defects()
}

/// Defects of brokers.
pub fn queues() -> Vec<Defect<dyn PubSub>> {
    pubsub::defects()
}

/// Defects of sequencers.
pub fn sequencers() -> Vec<Defect<dyn Sequencer>> {
    sequencer::defects()
}
