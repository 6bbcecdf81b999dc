//! Configuration in the embedded store.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Metadata, Open, Result,
    configuration::{ConfigStore, Item, Selector, Subscription},
};
use redb::{ReadableTable, WriteTransaction};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    DEFAULT, check_items, deletion,
    feed::{Feed, Keys},
};
use crate::client::embedded::{
    CONFIGURATION, ConfigurationKey, Durability, Effect, Failure, Store, StorePath,
};

/// Configuration in a file of the process, found again after a restart. For one process on one
/// machine. A request that names no keys reads, or watches, all keys of its group and label.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// The store's file, relative to the data directory. Components that name the same file share
    /// it, and so their items. Default `layotto.db`.
    pub path: StorePath,
    /// When a write is answered: `fsync`, when it is on the disk; `os`, when the operating system
    /// has it. Components that share a file get the strictest of theirs. Default `fsync`.
    pub durability: Durability,
    /// Accepted since every configuration store has it in Go Layotto; not used.
    pub address: Option<Value>,
    /// Accepted since every configuration store has it in Go Layotto; not used.
    pub timeout: Option<Value>,
}

/// A configuration store in the embedded store.
pub struct Embedded {
    store: Arc<Store>,
    // Shared like the store: components of one file hear of each other's changes.
    feed: Arc<Feed>,
    cx: Context,
    stop: CancellationToken,
}

/// What the table keeps beside the content.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Extra {
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    tags: HashMap<String, String>,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    metadata: Metadata,
}

type Row = (&'static str, &'static [u8]);

impl Open for Embedded {
    const TYPE: &'static str = "embedded";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        let store = Store::shared(&config.path, config.durability, &cx).await?;
        let target = store.path().display().to_string();
        let feed = cx
            .shared
            .get_or_open(&target, async || Ok(Feed::default()))
            .await?;
        Ok(Self {
            store,
            feed,
            stop: cx.shutdown.child_token(),
            cx,
        })
    }
}

fn item(selector: &Selector, key: &str, (content, extra): (&str, &[u8])) -> Item {
    // Written by this program; what a later one may add is left out.
    let extra: Extra = serde_json::from_slice(extra).unwrap_or_default();
    Item {
        key: key.to_owned(),
        content: content.to_owned(),
        group: selector.group.clone(),
        label: selector.label.clone(),
        tags: extra.tags,
        metadata: extra.metadata,
    }
}

fn select(
    table: &impl ReadableTable<ConfigurationKey, Row>,
    selector: &Selector,
) -> Result<Vec<Item>, redb::StorageError> {
    if selector.keys.is_empty() {
        return select_all(table, selector);
    }
    let mut items = Vec::new();
    for key in &selector.keys {
        if let Some(row) = table.get(place(selector, key))? {
            items.push(item(selector, key, row.value()));
        }
    }
    Ok(items)
}

fn select_all(
    table: &impl ReadableTable<ConfigurationKey, Row>,
    selector: &Selector,
) -> Result<Vec<Item>, redb::StorageError> {
    let mut items = Vec::new();
    for row in table.range(place(selector, "")..)? {
        let (key, row) = row?;
        let (app_id, group, label, key) = key.value();
        if (app_id, group, label) != (&selector.app_id, &selector.group, &selector.label) {
            break;
        }
        items.push(item(selector, key, row.value()));
    }
    Ok(items)
}

fn place<'a>(selector: &'a Selector, key: &'a str) -> (&'a str, &'a str, &'a str, &'a str) {
    (&selector.app_id, &selector.group, &selector.label, key)
}

fn write(tx: &WriteTransaction, app_id: &str, item: &Item) -> Result<(), Failure> {
    let extra = Extra {
        tags: item.tags.clone(),
        metadata: item.metadata.clone(),
    };
    let extra = serde_json::to_vec(&extra).expect("invariant: maps of texts have a JSON form");
    let key = (
        app_id,
        item.group.as_str(),
        item.label.as_str(),
        item.key.as_str(),
    );
    tx.open_table(CONFIGURATION)?
        .insert(key, (item.content.as_str(), &extra[..]))?;
    Ok(())
}

fn delete(tx: &WriteTransaction, selector: &Selector) -> Result<Vec<Item>, Failure> {
    let mut table = tx.open_table(CONFIGURATION)?;
    let mut deleted = Vec::new();
    for key in &selector.keys {
        if let Some(row) = table.remove(place(selector, key))? {
            deleted.push(deletion(item(selector, key, row.value())));
        }
    }
    Ok(deleted)
}

#[async_trait]
impl Component for Embedded {
    async fn ping(&self) -> Result<()> {
        self.store.check()
    }

    async fn close(&self) -> Result<()> {
        self.stop.cancel();
        Ok(())
    }
}

#[async_trait]
impl ConfigStore for Embedded {
    fn default_group(&self) -> &str {
        DEFAULT
    }

    fn default_label(&self) -> &str {
        DEFAULT
    }

    async fn get(&self, selector: &Selector) -> Result<Vec<Item>> {
        self.store
            .read(|tx| Ok(select(&tx.open_table(CONFIGURATION)?, selector)?))
    }

    async fn set(&self, app_id: &str, items: Vec<Item>, _: &Metadata) -> Result<()> {
        check_items(&items)?;
        let (app_id, feed) = (app_id.to_owned(), Arc::clone(&self.feed));
        let changes = (app_id.clone(), items.clone());
        let operation = move |tx: &WriteTransaction| {
            items.iter().try_for_each(|item| write(tx, &app_id, item))?;
            Ok(((), Effect::Durable))
        };
        let tell = move |outcome: Result<()>| outcome.map(|()| feed.publish(&changes.0, changes.1));
        self.store.write_then(operation, tell).await
    }

    async fn delete(&self, selector: &Selector) -> Result<()> {
        let (selector, feed) = (selector.clone(), Arc::clone(&self.feed));
        let app_id = selector.app_id.clone();
        let operation = move |tx: &WriteTransaction| {
            let deleted = delete(tx, &selector)?;
            let effect = if deleted.is_empty() {
                Effect::None
            } else {
                Effect::Durable
            };
            Ok((deleted, effect))
        };
        let tell = move |outcome: Result<Vec<Item>>| outcome.map(|deleted| feed.publish(&app_id, deleted));
        self.store.write_then(operation, tell).await
    }

    async fn subscribe(&self, selector: &Selector) -> Result<Subscription> {
        let keys = match selector.keys.is_empty() {
            true => Keys::All,
            false => Keys::Only(selector.keys.iter().cloned().collect()),
        };
        let (reader, watcher) = (selector.clone(), selector.clone());
        let feed = Arc::clone(&self.feed);
        // On the writer's thread, so that no change falls between the reading and the watching.
        let read =
            move |tx: &WriteTransaction| Ok((select(&tx.open_table(CONFIGURATION)?, &reader)?, Effect::None));
        let watch =
            move |outcome: Result<Vec<Item>>| outcome.map(|current| feed.watch(&watcher, keys, current));
        let watcher = self.store.write_then(read, watch).await?;
        Ok(watcher.start(&self.cx, self.stop.child_token()))
    }
}
