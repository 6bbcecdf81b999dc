//! Both stores must pass each of these: a test runs them one after the other.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use layotto_core::{
    Context, ErrorKind, Metadata,
    key_prefix::PrefixedKey,
    state::{Concurrency, Consistency, Delete, Get, Item, Operation, Options, Set, StateStore},
};
use tempfile::TempDir;

use super::{Embedded, Memory};
use crate::{
    client::embedded::{Durability, Store},
    clock::Clock,
};

struct Subject {
    store: Box<dyn StateStore>,
    clock: Clock,
    folder: TempDir,
}

async fn embedded(folder: TempDir, clock: Clock) -> Subject {
    let path = folder.path().join("state.db");
    let store = Store::open(path, Durability::Fsync, clock.clone()).await.unwrap();
    Subject {
        store: Box::new(Embedded {
            store: Arc::new(store),
        }),
        clock,
        folder,
    }
}

async fn subjects() -> [Subject; 2] {
    let clock = Clock::manual();
    let memory = Subject {
        store: Box::new(Memory::with_clock(
            clock.clone(),
            &Context::standalone("test", "."),
        )),
        clock,
        folder: tempfile::tempdir().unwrap(),
    };
    [
        memory,
        embedded(tempfile::tempdir().unwrap(), Clock::manual()).await,
    ]
}

fn key(key: &str) -> PrefixedKey {
    PrefixedKey(key.to_owned())
}

fn set(name: &str, value: &'static str) -> Set {
    Set {
        key: key(name),
        value: Bytes::from_static(value.as_bytes()),
        etag: None,
        options: Options::default(),
        metadata: Metadata::new(),
    }
}

fn set_if(name: &str, value: &'static str, etag: &str) -> Set {
    Set {
        etag: Some(etag.to_owned()),
        ..set(name, value)
    }
}

fn set_first(name: &str, value: &'static str) -> Set {
    Set {
        options: Options {
            concurrency: Concurrency::FirstWrite,
            ..Options::default()
        },
        ..set(name, value)
    }
}

fn set_for(name: &str, value: &'static str, ttl: &str) -> Set {
    Set {
        metadata: Metadata::from([("ttlInSeconds".to_owned(), ttl.to_owned())]),
        ..set(name, value)
    }
}

fn delete(name: &str, etag: Option<&str>) -> Delete {
    Delete {
        key: key(name),
        etag: etag.map(str::to_owned),
        options: Options::default(),
        metadata: Metadata::new(),
    }
}

fn get(name: &str) -> Get {
    Get {
        key: key(name),
        consistency: Consistency::Unspecified,
        metadata: Metadata::new(),
    }
}

impl Subject {
    async fn item(&self, name: &str) -> Option<Item> {
        self.store.get(&get(name)).await.unwrap()
    }

    async fn value(&self, name: &str) -> Option<String> {
        let item = self.item(name).await?;
        Some(String::from_utf8(item.value.to_vec()).unwrap())
    }

    async fn etag(&self, name: &str) -> String {
        self.item(name).await.unwrap().etag.unwrap()
    }
}

#[tokio::test]
async fn every_write_changes_the_etag_even_after_a_removal() {
    for subject in subjects().await {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3 {
            subject.store.set(set("k", "v")).await.unwrap();
            assert!(seen.insert(subject.etag("k").await));
            subject.store.set(set("k", "v")).await.unwrap();
            assert!(seen.insert(subject.etag("k").await));
            subject.store.delete(delete("k", None)).await.unwrap();
            assert_eq!(subject.item("k").await, None);
        }
    }
}

#[tokio::test]
async fn a_wrong_etag_is_a_conflict_and_a_malformed_one_is_invalid() {
    for subject in subjects().await {
        subject.store.set(set("k", "v1")).await.unwrap();
        for (etag, kind) in [("999", ErrorKind::Conflict), ("abc", ErrorKind::InvalidEtag)] {
            let refused = subject.store.set(set_if("k", "v2", etag)).await.unwrap_err();
            assert_eq!(refused.kind(), kind);
            let refused = subject.store.delete(delete("k", Some(etag))).await.unwrap_err();
            assert_eq!(refused.kind(), kind);
        }
        let refused = subject.store.set(set_if("absent", "v", "1")).await.unwrap_err();
        assert_eq!(
            refused.message(),
            "possible etag mismatch. error from state store"
        );
        let refused = subject
            .store
            .delete(delete("absent", Some("1")))
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert_eq!(subject.value("k").await.unwrap(), "v1");
        let etag = subject.etag("k").await;
        subject.store.set(set_if("k", "v2", &etag)).await.unwrap();
        assert_eq!(subject.value("k").await.unwrap(), "v2");
        let etag = subject.etag("k").await;
        subject.store.delete(delete("k", Some(&etag))).await.unwrap();
        assert_eq!(subject.value("k").await, None);
    }
}

#[tokio::test]
async fn an_etag_of_0_is_none() {
    for subject in subjects().await {
        subject.store.set(set_if("k", "v1", "0")).await.unwrap();
        subject.store.set(set_if("k", "v2", "0")).await.unwrap();
        assert_eq!(subject.value("k").await.unwrap(), "v2");
        let first = Set {
            etag: Some("0".to_owned()),
            ..set_first("k", "v3")
        };
        let refused = subject.store.set(first).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        subject.store.delete(delete("k", Some("0"))).await.unwrap();
        assert_eq!(subject.value("k").await, None);
    }
}

#[tokio::test]
async fn a_first_write_without_an_etag_needs_an_absent_key() {
    for subject in subjects().await {
        subject.store.set(set_first("k", "v1")).await.unwrap();
        let refused = subject.store.set(set_first("k", "v2")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        subject.store.set(set("k", "v3")).await.unwrap();
        assert_eq!(subject.value("k").await.unwrap(), "v3");
        subject.store.set(set_for("brief", "v", "1")).await.unwrap();
        subject.clock.advance(Duration::from_secs(1));
        subject.store.set(set_first("brief", "again")).await.unwrap();
    }
}

#[tokio::test]
async fn a_ttl_ends_an_item_and_any_write_without_one_clears_it() {
    for subject in subjects().await {
        subject.store.set(set_for("k", "v", "60")).await.unwrap();
        let item = subject.item("k").await.unwrap();
        assert_eq!(item.metadata["ttlExpireTime"], "2023-11-14T22:14:20Z");
        for clearing in [set("k", "v"), set_for("k", "v", "0"), set_for("k", "v", "-1")] {
            subject.store.set(set_for("k", "v", "60")).await.unwrap();
            subject.store.set(clearing).await.unwrap();
            subject.clock.advance(Duration::from_secs(60));
            assert_eq!(subject.item("k").await.unwrap().metadata, Metadata::new());
        }
        subject.store.set(set_for("k", "v", "60")).await.unwrap();
        let etag = subject.etag("k").await;
        subject.clock.advance(Duration::from_millis(59_999));
        assert!(subject.item("k").await.is_some());
        subject.clock.advance(Duration::from_millis(1));
        assert_eq!(subject.item("k").await, None);
        let refused = subject.store.set(set_if("k", "v", &etag)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
    }
}

#[tokio::test]
async fn a_ttl_that_is_no_number_writes_nothing() {
    for subject in subjects().await {
        let bad = || set_for("k", "v", "abc");
        for refused in [
            subject.store.set(bad()).await,
            subject.store.bulk_set(vec![set("other", "v"), bad()]).await,
            subject
                .store
                .transact(
                    vec![Operation::Set(set("other", "v")), Operation::Set(bad())],
                    &Metadata::new(),
                )
                .await,
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        assert_eq!(
            (subject.item("k").await, subject.item("other").await),
            (None, None)
        );
    }
}

#[tokio::test]
async fn a_bulk_write_applies_what_it_may_and_names_what_it_may_not() {
    for subject in subjects().await {
        for name in ["a", "b", "c"] {
            subject.store.set(set(name, "old")).await.unwrap();
        }
        let etag = subject.etag("b").await;
        let writes = vec![set("a", "new"), set_if("b", "new", "999"), set("c", "new")];
        let refused = subject.store.bulk_set(writes).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert_eq!(
            refused.message(),
            "possible etag mismatch. error from state store: key b"
        );
        let reads = vec![get("a"), get("b"), get("c"), get("missing")];
        let items = subject.store.bulk_get(reads, 1).await.unwrap();
        let values: Vec<_> = items
            .into_iter()
            .map(|item| item.unwrap().map(|item| item.value))
            .collect();
        assert_eq!(
            values,
            [Some("new".into()), Some("old".into()), Some("new".into()), None]
        );
        assert_eq!(subject.etag("b").await, etag);
        let removals = vec![
            delete("a", Some("abc")),
            delete("b", Some(&etag)),
            delete("missing", None),
        ];
        let refused = subject.store.bulk_delete(removals).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidEtag);
        assert!(refused.message().ends_with("key a"), "{refused}");
        assert_eq!(
            (subject.value("b").await, subject.value("a").await),
            (None, Some("new".into()))
        );
    }
}

#[tokio::test]
async fn a_transaction_is_carried_out_in_order() {
    for subject in subjects().await {
        subject.store.set(set("k1", "old")).await.unwrap();
        let steps = vec![
            Operation::Delete(delete("k1", None)),
            Operation::Set(set("k2", "v")),
            Operation::Delete(delete("k2", None)),
            Operation::Set(set_first("k1", "again")),
            Operation::Set(set("k3", "v")),
        ];
        subject.store.transact(steps, &Metadata::new()).await.unwrap();
        assert_eq!(subject.value("k1").await.unwrap(), "again");
        assert_eq!(subject.value("k2").await, None);
        assert_eq!(subject.value("k3").await.unwrap(), "v");
        subject
            .store
            .transact(Vec::new(), &Metadata::new())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_transaction_that_fails_leaves_everything_as_it_was() {
    for subject in subjects().await {
        subject.store.set(set("k", "old")).await.unwrap();
        let etag = subject.etag("k").await;
        for (last, message) in [
            (
                Operation::Delete(delete("absent", Some("1"))),
                "etag does not match for key not found absent",
            ),
            // The first step changed it.
            (
                Operation::Set(set_if("k", "x", &etag)),
                "possible etag mismatch. error from state store",
            ),
            (
                Operation::Set(set_first("k", "x")),
                "possible etag mismatch. error from state store",
            ),
        ] {
            let steps = vec![
                Operation::Set(set("k", "new")),
                Operation::Set(set("other", "v")),
                last,
            ];
            let refused = subject.store.transact(steps, &Metadata::new()).await.unwrap_err();
            assert_eq!(
                (refused.kind(), refused.message()),
                (ErrorKind::Conflict, message)
            );
            assert_eq!(subject.etag("k").await, etag);
            assert_eq!(
                (subject.value("k").await.unwrap(), subject.value("other").await),
                ("old".into(), None)
            );
        }
    }
}

#[tokio::test]
async fn embedded_state_is_found_again_with_etags_and_ttl() {
    let folder = tempfile::tempdir().unwrap();
    let before = embedded(folder, Clock::manual()).await;
    before.store.set(set("k", "v")).await.unwrap();
    before.store.set(set_for("brief", "v", "60")).await.unwrap();
    let (item, brief) = (before.item("k").await, before.item("brief").await);
    let (folder, clock) = (before.folder, before.clock.clone());
    drop(before.store);
    let after = embedded(folder, clock).await;
    assert_eq!(
        (after.item("k").await, after.item("brief").await),
        (item.clone(), brief)
    );
    after.store.set(set("k", "v")).await.unwrap();
    assert_ne!(after.item("k").await.unwrap().etag, item.unwrap().etag);
    after.clock.advance(Duration::from_secs(60));
    assert_eq!(after.item("brief").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_write_with_one_etag_one_succeeds() {
    for subject in subjects().await {
        subject.store.set(set("k", "v")).await.unwrap();
        let etag = subject.etag("k").await;
        let store: Arc<dyn StateStore> = subject.store.into();
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let (store, etag) = (Arc::clone(&store), etag.clone());
            writers.spawn(async move { store.set(set_if("k", "new", &etag)).await.is_ok() });
        }
        let won = writers.join_all().await.into_iter().filter(|won| *won).count();
        assert_eq!(won, 1);
    }
}

#[tokio::test]
async fn a_value_does_not_keep_the_message_that_it_came_in() {
    for subject in subjects().await {
        let message = Bytes::from(vec![b'v'; 4096]);
        let value = message.slice(..3);
        let request = Set {
            value,
            ..set("k", "")
        };
        subject.store.set(request).await.unwrap();
        assert!(message.is_unique());
    }
}
