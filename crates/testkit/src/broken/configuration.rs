//! Defective configuration stores.

use std::sync::Arc;

use async_trait::async_trait;
use layotto_core::{
    Component, Metadata, Result,
    configuration::{ConfigStore, Item, Selector, Subscription},
};
use tokio::sync::mpsc;

use super::Defect;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    MixesGroups,
    ForgetsTags,
    HidesDeletions,
    SwapsChanges,
    WaitsForSubscribers,
}

pub(super) fn defects() -> Vec<Defect<dyn ConfigStore>> {
    vec![
        Defect {
            name: "a configuration store that mixes groups and labels",
            wrap: |inner| Faulty::around(inner, Fault::MixesGroups),
            caught_by: &["groups_and_labels_are_kept_apart", "gets_selected_items_alone"],
        },
        Defect {
            name: "a configuration store that forgets tags",
            wrap: |inner| Faulty::around(inner, Fault::ForgetsTags),
            caught_by: &["tags_come_back", "a_new_key_is_a_change"],
        },
        Defect {
            name: "a configuration store that hides deletions",
            wrap: |inner| Faulty::around(inner, Fault::HidesDeletions),
            caught_by: &["deletion_is_an_empty_content"],
        },
        Defect {
            name: "a configuration store that swaps changes",
            wrap: |inner| Faulty::around(inner, Fault::SwapsChanges),
            caught_by: &["changes_keep_their_order"],
        },
        Defect {
            name: "a configuration store whose writers wait for subscribers",
            wrap: |inner| Faulty::around(inner, Fault::WaitsForSubscribers),
            caught_by: &[
                "a_slow_subscriber_blocks_nobody",
                "a_slow_subscriber_misses_no_key",
            ],
        },
    ]
}

struct Faulty {
    inner: Arc<dyn ConfigStore>,
    fault: Fault,
    subscribers: tokio::sync::Mutex<Vec<mpsc::Sender<Vec<Item>>>>,
}

impl Faulty {
    fn around(inner: Arc<dyn ConfigStore>, fault: Fault) -> Arc<dyn ConfigStore> {
        Arc::new(Self {
            inner,
            fault,
            subscribers: tokio::sync::Mutex::default(),
        })
    }

    fn altered(&self, mut item: Item) -> Item {
        match self.fault {
            Fault::MixesGroups => {
                item.group = self.default_group().to_owned();
                item.label = self.default_label().to_owned();
            }
            Fault::ForgetsTags => item.tags.clear(),
            _ => {}
        }
        item
    }

    fn selected(&self, selector: &Selector) -> Selector {
        let mut selector = selector.clone();
        if self.fault == Fault::MixesGroups {
            selector.group = self.default_group().to_owned();
            selector.label = self.default_label().to_owned();
        }
        selector
    }
}

#[async_trait]
impl Component for Faulty {
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[async_trait]
impl ConfigStore for Faulty {
    fn default_group(&self) -> &str {
        self.inner.default_group()
    }

    fn default_label(&self) -> &str {
        self.inner.default_label()
    }

    async fn get(&self, selector: &Selector) -> Result<Vec<Item>> {
        self.inner.get(&self.selected(selector)).await
    }

    async fn set(&self, app_id: &str, items: Vec<Item>, metadata: &Metadata) -> Result<()> {
        let items: Vec<_> = items.into_iter().map(|item| self.altered(item)).collect();
        self.inner.set(app_id, items.clone(), metadata).await?;
        for subscriber in self.subscribers.lock().await.iter() {
            // A subscriber that is gone hears nothing.
            drop(subscriber.send(items.clone()).await);
        }
        Ok(())
    }

    async fn delete(&self, selector: &Selector) -> Result<()> {
        self.inner.delete(&self.selected(selector)).await
    }

    async fn subscribe(&self, selector: &Selector) -> Result<Subscription> {
        let (sender, changes) = mpsc::channel(4);
        if self.fault == Fault::WaitsForSubscribers {
            self.subscribers.lock().await.push(sender);
            return Ok(Subscription { changes });
        }
        let inner = self.inner.subscribe(&self.selected(selector)).await?;
        tokio::spawn(forward(inner, sender, self.fault));
        Ok(Subscription { changes })
    }
}

/// Passes changes on with the fault.
async fn forward(mut from: Subscription, to: mpsc::Sender<Vec<Item>>, fault: Fault) {
    let mut held_back = None;
    while let Some(mut batch) = from.changes.recv().await {
        match fault {
            Fault::HidesDeletions => batch.retain(|item| !item.content.is_empty()),
            Fault::SwapsChanges if held_back.is_none() => {
                held_back = Some(batch);
                continue;
            }
            _ => {}
        }
        let batches = [Some(batch), held_back.take()];
        for batch in batches.into_iter().flatten().filter(|batch| !batch.is_empty()) {
            if to.send(batch).await.is_err() {
                return;
            }
        }
    }
}
