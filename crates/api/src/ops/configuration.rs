//! Configuration stores.

use layotto_core::{
    Error, Metadata, Result,
    configuration::{ConfigStore, Item, Selector},
};
use tokio::sync::mpsc;

use crate::{
    Slot,
    listing::{Entry, Listing},
    runtime::{Runtime, component_error, look_up},
};

/// What the application watches in a configuration store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The component.
    pub store: String,
    /// Whose configuration.
    pub app_id: String,
    /// The keys; none where the component decides.
    pub keys: Vec<String>,
}

/// What is watched now; equal subscriptions show once.
pub type Watches = Listing<Listed>;

/// A live subscription; dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    /// The changes; ends where the store ends the subscription.
    pub changes: mpsc::Receiver<Vec<Item>>,
    _entry: Entry<Listed>,
}

/// The items selected; a blank group or label means the store's default.
pub async fn get(runtime: &Runtime, store: &str, mut selector: Selector) -> Result<Vec<Item>> {
    let slot = find(runtime, store)?;
    let items = async {
        let configuration = slot.get()?;
        fill_in(&*configuration, &mut selector.group, &mut selector.label);
        configuration.get(&selector).await
    }
    .await;
    items.map_err(|error| {
        let text = format!("get configuration failed with error: {error}");
        component_error("config_store", store, text, error)
    })
}

/// Writes the items of `app_id`; a blank group or label of an item means the store's default.
pub async fn set(
    runtime: &Runtime,
    store: &str,
    app_id: &str,
    mut items: Vec<Item>,
    metadata: &Metadata,
) -> Result<()> {
    let slot = find(runtime, store)?;
    let written = async {
        let configuration = slot.get()?;
        for item in &mut items {
            fill_in(&*configuration, &mut item.group, &mut item.label);
        }
        configuration.set(app_id, items, metadata).await
    }
    .await;
    written.map_err(|error| unwrapped(store, error))
}

/// Deletes the items selected; a blank group or label means the store's default.
pub async fn delete(runtime: &Runtime, store: &str, mut selector: Selector) -> Result<()> {
    let slot = find(runtime, store)?;
    let deleted = async {
        let configuration = slot.get()?;
        fill_in(&*configuration, &mut selector.group, &mut selector.label);
        configuration.delete(&selector).await
    }
    .await;
    deleted.map_err(|error| unwrapped(store, error))
}

/// Watches the items selected; a blank group or label means the store's default.
pub async fn subscribe(runtime: &Runtime, store: &str, mut selector: Selector) -> Result<Watch> {
    let slot = find(runtime, store)?;
    let subscription = async {
        let configuration = slot.get()?;
        fill_in(&*configuration, &mut selector.group, &mut selector.label);
        configuration.subscribe(&selector).await
    }
    .await;
    let changes = subscription.map_err(|error| unwrapped(store, error))?.changes;
    let listed = Listed {
        store: store.to_owned(),
        app_id: selector.app_id,
        keys: selector.keys,
    };
    Ok(Watch {
        changes,
        _entry: runtime.watches.enter(listed),
    })
}

fn find<'a>(runtime: &'a Runtime, store: &str) -> Result<&'a Slot<dyn ConfigStore>> {
    let unknown = || format!("configure store [{store}] don't support now");
    look_up(&runtime.components.configuration, store, unknown, unknown).map(|slot| &**slot)
}

fn fill_in(store: &dyn ConfigStore, group: &mut String, label: &mut String) {
    if is_blank(group) {
        store.default_group().clone_into(group);
    }
    if is_blank(label) {
        store.default_label().clone_into(label);
    }
}

/// Upstream trims the space character alone: a tab is a group of its own.
fn is_blank(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ')
}

fn unwrapped(store: &str, error: Error) -> Error {
    component_error("config_store", store, error.message().to_owned(), error)
}

#[cfg(test)]
mod tests;
