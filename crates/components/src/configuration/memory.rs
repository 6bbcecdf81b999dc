//! Configuration in the memory of the process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Metadata, Open, Result,
    configuration::{ConfigStore, Item, Selector, Subscription},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    DEFAULT, check_items, deletion,
    feed::{Feed, Keys},
};

/// Configuration in the memory of the process, gone when it ends. For tests and development.
/// A request that names no keys selects none.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// Accepted since every configuration store has it in Go Layotto; not used.
    pub address: Option<Value>,
    /// Accepted since every configuration store has it in Go Layotto; not used.
    pub timeout: Option<Value>,
}

/// A configuration store in memory.
pub struct Memory {
    // Held while subscribers are told, so that they hear of changes in the order they were made.
    items: Mutex<HashMap<Place, Item>>,
    feed: Arc<Feed>,
    cx: Context,
    stop: CancellationToken,
}

/// Application, group, label, key.
type Place = (String, String, String, String);

impl Open for Memory {
    const TYPE: &'static str = "in-memory";
    type Config = Config;

    async fn open(_: Config, cx: Context) -> Result<Self> {
        Ok(Self {
            items: Mutex::default(),
            feed: Arc::default(),
            stop: cx.shutdown.child_token(),
            cx,
        })
    }
}

impl Memory {
    fn hold(&self) -> MutexGuard<'_, HashMap<Place, Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn places(selector: &Selector) -> impl Iterator<Item = Place> {
    selector
        .keys
        .iter()
        .map(|key| place(&selector.app_id, &selector.group, &selector.label, key))
}

fn place(app_id: &str, group: &str, label: &str, key: &str) -> Place {
    (
        app_id.to_owned(),
        group.to_owned(),
        label.to_owned(),
        key.to_owned(),
    )
}

#[async_trait]
impl Component for Memory {
    async fn close(&self) -> Result<()> {
        self.stop.cancel();
        Ok(())
    }
}

#[async_trait]
impl ConfigStore for Memory {
    fn default_group(&self) -> &str {
        DEFAULT
    }

    fn default_label(&self) -> &str {
        DEFAULT
    }

    async fn get(&self, selector: &Selector) -> Result<Vec<Item>> {
        let items = self.hold();
        Ok(places(selector)
            .filter_map(|place| items.get(&place).cloned())
            .collect())
    }

    async fn set(&self, app_id: &str, items: Vec<Item>, _: &Metadata) -> Result<()> {
        check_items(&items)?;
        let mut held = self.hold();
        for item in &items {
            held.insert(place(app_id, &item.group, &item.label, &item.key), item.clone());
        }
        self.feed.publish(app_id, items);
        Ok(())
    }

    async fn delete(&self, selector: &Selector) -> Result<()> {
        let mut held = self.hold();
        let deleted: Vec<_> = places(selector).filter_map(|place| held.remove(&place)).collect();
        self.feed
            .publish(&selector.app_id, deleted.into_iter().map(deletion));
        Ok(())
    }

    async fn subscribe(&self, selector: &Selector) -> Result<Subscription> {
        let items = self.hold();
        let current = places(selector)
            .filter_map(|place| items.get(&place).cloned())
            .collect();
        let keys = Keys::Only(selector.keys.iter().cloned().collect());
        let watcher = self.feed.watch(selector, keys, current);
        Ok(watcher.start(&self.cx, self.stop.child_token()))
    }
}
