//! Configuration stores.

mod basic;
mod subscription;

use std::collections::HashMap;

use layotto_core::{
    Metadata,
    configuration::{ConfigStore, Item, Selector, Subscription},
};

use super::{
    Assertion, DEADLINE, Subject, Verified, always, assertions,
    check::{OrSay, ensure, equal, within},
    common, durable,
};

type Store = Subject<dyn ConfigStore>;

/// The assertions of a configuration store.
pub fn assertions() -> Vec<Assertion<dyn ConfigStore>> {
    let own: Vec<Assertion<dyn ConfigStore>> = assertions! {
        always => [
            basic::defaults_are_named,
            basic::set_then_get,
            basic::missing_keys_are_left_out,
            basic::several_keys_at_once,
            basic::no_keys_means_all_or_none,
            basic::overwrite_replaces,
            basic::odd_keys_are_kept_apart,
            basic::groups_and_labels_are_kept_apart,
            basic::tags_come_back,
            basic::tags_are_replaced,
            basic::large_and_odd_contents_come_back,
            basic::delete_removes_the_key_alone,
            basic::delete_of_a_missing_key_is_no_error,
            basic::concurrent_sets_lose_nothing,
            subscription::gets_every_change_it_waits_for,
            subscription::changes_keep_their_order,
            subscription::gets_selected_items_alone,
            subscription::a_new_key_is_a_change,
            subscription::a_set_of_several_items_shows_all,
            subscription::deletion_is_an_empty_content,
            subscription::two_subscribers_get_each_change,
            subscription::dropping_one_leaves_the_other,
            subscription::a_slow_subscriber_blocks_nobody,
            subscription::a_slow_subscriber_misses_no_key,
        ],
        durable => [basic::survives_a_restart],
    };
    own.into_iter().chain(common::assertions()).collect()
}

impl Store {
    /// An item of this assertion in the default group.
    fn item(&self, key: &str, content: &str) -> Item {
        Item {
            key: self.name(key),
            content: content.to_owned(),
            group: self.default_group().to_owned(),
            label: self.default_label().to_owned(),
            ..Item::default()
        }
    }

    /// The keys of this assertion in the default group.
    fn select(&self, keys: &[&str]) -> Selector {
        Selector {
            app_id: "app1".to_owned(),
            group: self.default_group().to_owned(),
            label: self.default_label().to_owned(),
            keys: keys.iter().map(|key| self.name(key)).collect(),
            metadata: Metadata::new(),
        }
    }

    async fn put(&self, items: Vec<Item>) -> Verified {
        within(DEADLINE, "set", self.set("app1", items, &Metadata::new()))
            .await?
            .or_say("set")
    }

    /// The contents found, by key as the assertion knows it.
    async fn contents(&self, selector: &Selector) -> Result<HashMap<String, String>, String> {
        let items = self.get(selector).await.or_say("get")?;
        let prefix = self.name("");
        let short = |key: &str| key.strip_prefix(&prefix).unwrap_or(key).to_owned();
        let found: HashMap<_, _> = items
            .iter()
            .map(|item| (short(&item.key), item.content.clone()))
            .collect();
        ensure!(found.len() == items.len(), "a key came twice: {items:?}");
        Ok(found)
    }

    async fn watch(&self, keys: &[&str]) -> Result<Watch, String> {
        self.watch_for(&self.select(keys)).await
    }

    async fn watch_for(&self, selector: &Selector) -> Result<Watch, String> {
        let subscription = self.subscribe(selector).await.or_say("subscribe")?;
        Ok(Watch {
            subscription,
            prefix: self.name(""),
        })
    }
}

/// A subscription, and the prefix of the assertion's keys.
struct Watch {
    subscription: Subscription,
    prefix: String,
}

impl Watch {
    async fn batch(&mut self) -> Result<Vec<Item>, String> {
        let batch = within(DEADLINE, "a change", self.subscription.changes.recv()).await?;
        let mut batch = batch.ok_or("the subscription ended")?;
        for item in &mut batch {
            item.key = item
                .key
                .strip_prefix(&self.prefix)
                .unwrap_or(&item.key)
                .to_owned();
        }
        Ok(batch)
    }

    /// Waits until `key` has `content`; everything that came until then, in order.
    async fn until(&mut self, key: &str, content: &str) -> Result<Vec<(String, String)>, String> {
        let mut seen = Vec::new();
        loop {
            let batch = self
                .batch()
                .await
                .map_err(|wrong| format!("{wrong}, after {seen:?}"))?;
            seen.extend(batch.into_iter().map(|item| (item.key, item.content)));
            if seen.iter().any(|(k, c)| k == key && c == content) {
                return Ok(seen);
            }
        }
    }
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}
