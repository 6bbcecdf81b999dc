//! Both stores must pass each of these: a test runs them one after the other.

use std::{collections::HashMap, sync::Arc};

use layotto_core::{
    Context, ErrorKind, Metadata, Open,
    configuration::{ConfigStore, Item, Selector, Subscription},
};
use tempfile::TempDir;

use super::{Embedded, Memory, embedded, memory};

struct Subject {
    store: Arc<dyn ConfigStore>,
    _folder: TempDir,
}

async fn subjects() -> [Subject; 2] {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let memory = Memory::open(memory::Config::default(), cx(&folder))
        .await
        .unwrap();
    let embedded = open_embedded(&other).await;
    [
        (Arc::new(memory) as Arc<dyn ConfigStore>, folder),
        (Arc::new(embedded), other),
    ]
    .map(|(store, folder)| Subject {
        store,
        _folder: folder,
    })
}

fn cx(folder: &TempDir) -> Context {
    Context::standalone("test", folder.path())
}

async fn open_embedded(folder: &TempDir) -> Embedded {
    Embedded::open(embedded::Config::default(), cx(folder))
        .await
        .unwrap()
}

fn select(keys: &[&str]) -> Selector {
    Selector {
        app_id: "app".to_owned(),
        group: "default".to_owned(),
        label: "default".to_owned(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        metadata: Metadata::new(),
    }
}

fn item(key: &str, content: &str) -> Item {
    Item {
        key: key.to_owned(),
        content: content.to_owned(),
        group: "default".to_owned(),
        label: "default".to_owned(),
        ..Item::default()
    }
}

impl Subject {
    async fn set(&self, items: Vec<Item>) {
        self.store.set("app", items, &Metadata::new()).await.unwrap();
    }

    async fn get(&self, keys: &[&str]) -> Vec<Item> {
        self.store.get(&select(keys)).await.unwrap()
    }

    async fn subscribe(&self, keys: &[&str]) -> Subscription {
        self.store.subscribe(&select(keys)).await.unwrap()
    }
}

async fn next(subscription: &mut Subscription) -> Vec<Item> {
    subscription.changes.recv().await.unwrap()
}

#[tokio::test]
async fn items_come_back_whole_and_missing_keys_are_left_out() {
    for subject in subjects().await {
        let tagged = Item {
            tags: HashMap::from([("t".to_owned(), "v".to_owned())]),
            metadata: Metadata::from([("m".to_owned(), "n".to_owned())]),
            ..item("k1", "v1")
        };
        subject
            .set(vec![tagged.clone(), item("", "empty key"), item("k2", "old")])
            .await;
        subject.set(vec![item("k2", "v2")]).await;
        let got = subject.get(&["k1", "missing", "k2", ""]).await;
        assert_eq!(got, [tagged, item("k2", "v2"), item("", "empty key")]);
    }
}

#[tokio::test]
async fn applications_groups_and_labels_keep_items_apart() {
    for subject in subjects().await {
        let grouped = Item {
            group: "g".to_owned(),
            ..item("k", "grouped")
        };
        let labelled = Item {
            label: "l".to_owned(),
            ..item("k", "labelled")
        };
        subject
            .set(vec![item("k", "plain"), grouped.clone(), labelled.clone()])
            .await;
        subject
            .store
            .set("other", vec![item("k", "other")], &Metadata::new())
            .await
            .unwrap();
        assert_eq!(subject.get(&["k"]).await, [item("k", "plain")]);
        let group = Selector {
            group: "g".to_owned(),
            ..select(&["k"])
        };
        assert_eq!(subject.store.get(&group).await.unwrap(), [grouped]);
        let label = Selector {
            label: "l".to_owned(),
            ..select(&["k"])
        };
        subject.store.delete(&label).await.unwrap();
        assert_eq!(subject.store.get(&label).await.unwrap(), []);
        assert_eq!(subject.get(&["k"]).await, [item("k", "plain")]);
    }
}

#[tokio::test]
async fn saving_nothing_is_refused() {
    for subject in subjects().await {
        let refused = subject
            .store
            .set("app", Vec::new(), &Metadata::new())
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
        assert_eq!(refused.message(), "params illegal:item is empty");
    }
}

#[tokio::test]
async fn deleting_without_keys_deletes_nothing() {
    for subject in subjects().await {
        subject.set(vec![item("k", "v")]).await;
        subject.store.delete(&select(&[])).await.unwrap();
        subject.store.delete(&select(&["missing"])).await.unwrap();
        assert_eq!(subject.get(&["k"]).await, [item("k", "v")]);
    }
}

#[tokio::test]
async fn no_keys_means_none_in_memory_and_all_in_the_embedded_store() {
    let [memory, embedded] = subjects().await;
    for subject in [&memory, &embedded] {
        let neighbours = ["d", "defaultX"].map(|group| Item {
            group: group.to_owned(),
            ..item("k", "v")
        });
        subject.set(neighbours.into()).await;
        subject.set(vec![item("a", "1"), item("b", "2")]).await;
    }
    assert_eq!(memory.get(&[]).await, []);
    assert_eq!(embedded.get(&[]).await, [item("a", "1"), item("b", "2")]);
    let mut all = embedded.subscribe(&[]).await;
    embedded.set(vec![item("c", "3")]).await;
    for expected in [item("a", "1"), item("b", "2"), item("c", "3")] {
        assert_eq!(next(&mut all).await, [expected]);
    }
}

#[tokio::test]
async fn subscribers_get_the_current_value_then_every_change_of_their_keys() {
    for subject in subjects().await {
        subject.set(vec![item("k", "v0"), item("other", "x")]).await;
        let (mut first, mut second) = (
            subject.subscribe(&["k"]).await,
            subject.subscribe(&["k", "new"]).await,
        );
        for subscription in [&mut first, &mut second] {
            assert_eq!(next(subscription).await, [item("k", "v0")]);
        }
        subject.set(vec![item("other", "y"), item("k", "v1")]).await;
        for subscription in [&mut first, &mut second] {
            assert_eq!(next(subscription).await, [item("k", "v1")]);
        }
        drop(first);
        subject.store.delete(&select(&["k"])).await.unwrap();
        assert_eq!(next(&mut second).await, [item("k", "")]);
        subject.set(vec![item("new", "n")]).await;
        assert_eq!(next(&mut second).await, [item("new", "n")]);
    }
}

#[tokio::test]
async fn closing_a_component_ends_its_subscriptions() {
    for subject in subjects().await {
        let mut subscription = subject.subscribe(&["k"]).await;
        subject.store.close().await.unwrap();
        assert!(subscription.changes.recv().await.is_none());
    }
}

#[tokio::test]
async fn embedded_configuration_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let before = open_embedded(&folder).await;
    before
        .set("app", vec![item("k", "v")], &Metadata::new())
        .await
        .unwrap();
    drop(before);
    let after = open_embedded(&folder).await;
    assert_eq!(after.get(&select(&["k"])).await.unwrap(), [item("k", "v")]);
}

#[tokio::test]
async fn components_of_one_file_hear_of_each_others_changes() {
    let folder = tempfile::tempdir().unwrap();
    let cx = cx(&folder);
    let open = || Embedded::open(embedded::Config::default(), cx.clone());
    let (one, other) = (open().await.unwrap(), open().await.unwrap());
    let mut subscription = other.subscribe(&select(&["k"])).await.unwrap();
    one.set("app", vec![item("k", "v")], &Metadata::new())
        .await
        .unwrap();
    assert_eq!(next(&mut subscription).await, [item("k", "v")]);
}
