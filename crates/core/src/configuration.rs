//! Configuration stores: items by application, group, label and key, with subscriptions.

use std::collections::HashMap;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::{Component, Metadata, Result};

/// One configuration item.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Item {
    /// The key.
    pub key: String,
    /// The value; empty in a change that deleted the item.
    pub content: String,
    /// The group.
    pub group: String,
    /// The label.
    pub label: String,
    /// Tags.
    pub tags: HashMap<String, String>,
    /// Metadata of the item.
    pub metadata: Metadata,
}

/// Which items; group and label are never blank.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// The application, as the caller gave it.
    pub app_id: String,
    /// The group.
    pub group: String,
    /// The label.
    pub label: String,
    /// The keys; a store decides what none means.
    pub keys: Vec<String>,
    /// Settings of this call.
    pub metadata: Metadata,
}

/// A live subscription; dropping it ends this subscription and no other.
#[derive(Debug)]
pub struct Subscription {
    /// Batches of changed items, in order. The sender waits where the receiver is slow, up to the
    /// channel's bound; then older changes of a key may give way to newer ones.
    pub changes: mpsc::Receiver<Vec<Item>>,
}

/// A configuration store.
#[async_trait]
pub trait ConfigStore: Component {
    /// The group used where a request has none.
    fn default_group(&self) -> &str;

    /// The label used where a request has none.
    fn default_label(&self) -> &str;

    /// The items selected; missing keys are left out.
    async fn get(&self, selector: &Selector) -> Result<Vec<Item>>;

    /// Writes the items of `app_id`.
    async fn set(&self, app_id: &str, items: Vec<Item>, metadata: &Metadata) -> Result<()>;

    /// Deletes the items selected; missing ones are no error.
    async fn delete(&self, selector: &Selector) -> Result<()>;

    /// Watches the items selected, from now on.
    async fn subscribe(&self, selector: &Selector) -> Result<Subscription>;
}
