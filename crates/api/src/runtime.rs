//! The opened components of one application, and what every call to them shares.

use std::{collections::BTreeMap, sync::Arc};

use layotto_core::{
    Error, ErrorKind, Result, binding::Binding, configuration::ConfigStore, custom::Custom, file::FileStore,
    hello::Hello, lock::LockStore, pubsub::PubSub, rpc::Invoker, secret::SecretStore, sequencer::Sequencer,
    state::StateStore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    metrics::Metrics,
    slot::{Slot, Store},
    status::REASON,
};

/// Every configured component, by kind.
#[derive(Default)]
pub struct Components {
    /// `hellos`
    pub hello: Store<dyn Hello>,
    /// `config_store`
    pub configuration: Store<dyn ConfigStore>,
    /// `rpcs`
    pub rpc: Store<dyn Invoker>,
    /// `pub_subs`
    pub pubsub: Store<dyn PubSub>,
    /// `state`
    pub state: Store<dyn StateStore>,
    /// `file`
    pub file: Store<dyn FileStore>,
    /// `lock`
    pub lock: Store<dyn LockStore>,
    /// `sequencer`
    pub sequencer: Store<dyn Sequencer>,
    /// `secret_store`
    pub secret: Store<dyn SecretStore>,
    /// `bindings`
    pub binding: Store<dyn Binding>,
    /// `custom_component`, by kind.
    pub custom: BTreeMap<String, Store<dyn Custom>>,
}

/// The runtime of one application: what each operation of [`ops`](crate::ops) works on.
pub struct Runtime {
    /// The application served; may be empty.
    pub app_id: String,
    /// Its components.
    pub components: Components,
    /// Counters of calls.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the process drains: long streams end cleanly.
    pub shutdown: CancellationToken,
    /// Owner of the runtime's background tasks.
    pub tasks: TaskTracker,
    /// Topics the application gets now.
    pub subscriptions: crate::ops::pubsub::Subscriptions,
    /// Configuration that is watched now.
    pub watches: crate::ops::configuration::Watches,
    pub(crate) sequences: crate::ops::sequencer::SegmentCaches,
}

impl Runtime {
    /// The runtime of `app_id` over `components`.
    pub fn new(
        app_id: impl Into<String>,
        components: Components,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let sequences = crate::ops::sequencer::SegmentCaches::default();
        let subscriptions = crate::ops::pubsub::Subscriptions::default();
        let watches = crate::ops::configuration::Watches::default();
        Self {
            app_id: app_id.into(),
            components,
            metrics,
            shutdown,
            tasks,
            subscriptions,
            watches,
            sequences,
        }
    }
}

/// Looks a component up: `none` is the text where the kind has no component at all, `unknown` the
/// text where it has none of that name.
pub(crate) fn look_up<'a, T: ?Sized>(
    store: &'a Store<T>,
    name: &str,
    none: impl FnOnce() -> String,
    unknown: impl FnOnce() -> String,
) -> Result<&'a Arc<Slot<T>>> {
    if let Some(slot) = store.get(name) {
        return Ok(slot);
    }
    Err(if store.is_empty() {
        Error::new(ErrorKind::FailedPrecondition, none()).with_detail(REASON, "NOT_CONFIGURED")
    } else {
        Error::invalid(unknown()).with_detail(REASON, "COMPONENT_NOT_FOUND")
    })
}

/// A component's error as the caller sees it: upstream's text around the component's, and where
/// the error comes from.
pub(crate) fn component_error(kind: &'static str, name: &str, text: String, error: Error) -> Error {
    let mut shaped = Error::new(error.kind(), text)
        .with_detail("kind", kind)
        .with_detail("component", name);
    for (key, value) in error.details() {
        shaped = shaped.with_detail(key, value.clone());
    }
    shaped.with_source(error)
}
