use std::time::Duration;

use layotto_core::{
    ErrorKind,
    key_prefix::PrefixedKey,
    state::{Concurrency, Options},
};
use layotto_testkit::server::Server;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::client::etcd::testing::{ctl, cx, no_lease_is_left, node, settings, three_nodes};

async fn open<'a>(nodes: impl IntoIterator<Item = &'a Server>) -> Etcd {
    Etcd::open(Config(settings(nodes)), cx()).await.unwrap()
}

fn set(key: &str, value: &str) -> Set {
    Set {
        key: PrefixedKey(key.to_owned()),
        value: Bytes::from(value.to_owned()),
        etag: None,
        options: Options::default(),
        metadata: Metadata::new(),
    }
}

fn set_for(key: &str, value: &str, ttl: &str) -> Set {
    Set {
        metadata: Metadata::from([("ttlInSeconds".to_owned(), ttl.to_owned())]),
        ..set(key, value)
    }
}

fn set_if(key: &str, value: &str, etag: &str) -> Set {
    Set {
        etag: Some(etag.to_owned()),
        ..set(key, value)
    }
}

fn set_first(key: &str, value: &str) -> Set {
    Set {
        options: Options {
            concurrency: Concurrency::FirstWrite,
            ..Options::default()
        },
        ..set(key, value)
    }
}

fn delete(key: &str) -> Delete {
    Delete {
        key: PrefixedKey(key.to_owned()),
        etag: None,
        options: Options::default(),
        metadata: Metadata::new(),
    }
}

fn get(key: &str, consistency: Consistency) -> Get {
    Get {
        key: PrefixedKey(key.to_owned()),
        consistency,
        metadata: Metadata::new(),
    }
}

impl Etcd {
    async fn item(&self, key: &str) -> Option<Item> {
        self.get(&get(key, Consistency::Strong)).await.unwrap()
    }

    async fn value(&self, key: &str) -> Option<Bytes> {
        Some(self.item(key).await?.value)
    }
}

fn leases(node: &Server) -> usize {
    ctl(node, &["lease", "list"]).lines().count() - 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_stored_as_it_is_and_its_revision_is_the_etag() {
    let Some(node) = node(&[]).await else { return };
    let state = open([&node]).await;
    state.set(set("app1||k", "v")).await.unwrap();
    assert_eq!(
        ctl(&node, &["get", "", "--prefix"]),
        "/layotto/state/app1||k\nv\n"
    );
    ctl(&node, &["put", "/layotto/state/app1||k", "by hand"]);
    let found = ctl(&node, &["get", "/layotto/state/app1||k", "-w", "fields"]);
    let item = state.item("app1||k").await.unwrap();
    assert_eq!(item.value, "by hand");
    let etag = item.etag.unwrap();
    assert!(found.contains(&format!("\"ModRevision\" : {etag}\n")), "{found}");
    state.set(set_if("app1||k", "w", &etag)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn items_that_are_overwritten_or_removed_leave_no_lease() {
    let Some(node) = node(&[]).await else { return };
    let state = open([&node]).await;
    for round in 0..10 {
        state.set(set_for("k", &round.to_string(), "1000")).await.unwrap();
    }
    state
        .bulk_set(vec![
            set_for("k", "a", "1000"),
            set_for("l", "b", "1000"),
            set_for("k", "c", "1000"),
        ])
        .await
        .unwrap();
    let operations = [set_for("k", "d", "1000"), set_for("k", "e", "2000")].map(Operation::Set);
    state.transact(operations.into(), &Metadata::new()).await.unwrap();
    let begun = Instant::now();
    while leases(&node) != 2 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        (state.value("k").await.unwrap(), state.value("l").await.unwrap()),
        ("e".into(), "b".into())
    );
    state.set(set("k", "for ever")).await.unwrap();
    state.delete(delete("l")).await.unwrap();
    no_lease_is_left(&node).await;
    assert_eq!(state.value("k").await.unwrap(), "for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_not_allowed_leaves_no_lease() {
    let Some(node) = node(&[]).await else { return };
    let state = open([&node]).await;
    state.set(set("k", "v")).await.unwrap();
    let refused = Set {
        etag: Some("1".to_owned()),
        ..set_for("k", "x", "1000")
    };
    for error in [
        state.set(refused.clone()).await.unwrap_err(),
        state.bulk_set(vec![refused.clone()]).await.unwrap_err(),
        state
            .transact(vec![Operation::Set(refused)], &Metadata::new())
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    let too_large = set_for("k", &"x".repeat(2 << 20), "1000");
    let error = state.set(too_large).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    no_lease_is_left(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_somebody_else_is_left_alone() {
    let Some(node) = node(&[]).await else { return };
    let state = open([&node]).await;
    let granted = ctl(&node, &["lease", "grant", "1000"]);
    let lease = format!("--lease={}", granted.split_whitespace().nth(1).unwrap());
    ctl(&node, &["put", "/layotto/state/k", "v", &lease]);
    ctl(&node, &["put", "other", "v", &lease]);
    assert_eq!(state.item("k").await.unwrap().metadata, Metadata::new());
    state.set(set("k", "w")).await.unwrap();
    state.set(set_for("k", "w", "1000")).await.unwrap();
    state.delete(delete("k")).await.unwrap();
    let begun = Instant::now();
    while leases(&node) != 1 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ctl(&node, &["get", "other", "--print-value-only"]), "v\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn bulks_of_any_size_are_read_and_written_in_order() {
    let Some(node) = node(&[]).await else { return };
    let state = open([&node]).await;
    let names: Vec<_> = (0..300).map(|number| format!("k{number}")).collect();
    let mut writes: Vec<_> = names.iter().map(|name| set(name, "first")).collect();
    writes.extend(names.iter().map(|name| set(name, name)));
    state.bulk_set(writes).await.unwrap();
    let reads = names
        .iter()
        .map(|name| get(name, Consistency::Unspecified))
        .collect();
    let items = state.bulk_get(reads, 1).await.unwrap();
    let values: Vec<_> = items
        .into_iter()
        .map(|item| item.unwrap().unwrap().value)
        .collect();
    assert_eq!(values, names);
    // More than one request takes.
    let large = "x".repeat(1 << 20);
    state
        .bulk_set((0..4).map(|number| set(&format!("l{number}"), &large)).collect())
        .await
        .unwrap();
    assert_eq!(state.value("l3").await.unwrap().len(), 1 << 20);
    state
        .bulk_delete(names.iter().map(|name| delete(name)).collect())
        .await
        .unwrap();
    assert_eq!(state.value("k299").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_names_the_keys_that_were_not_written() {
    let Some(node) = node(&[]).await else { return };
    let state = open([&node]).await;
    let writes = vec![
        set("a", "1"),
        set_if("b", "2", "7"),
        set("c", "3"),
        set_if("d", "4", "7"),
    ];
    let error = state.bulk_set(writes).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.details()),
        (ErrorKind::Conflict, &[("key", "b, d".to_owned())][..])
    );
    assert_eq!(state.value("c").await.unwrap(), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_of_a_transaction_see_those_before() {
    let Some(node) = node(&[]).await else { return };
    let state = open([&node]).await;
    let commit = async |operations: Vec<Operation>| state.transact(operations, &Metadata::new()).await;
    state.set(set("k", "v")).await.unwrap();
    commit(vec![
        Operation::Delete(delete("k")),
        Operation::Set(set_first("k", "again")),
    ])
    .await
    .unwrap();
    assert_eq!(state.value("k").await.unwrap(), "again");
    let etag = state.item("k").await.unwrap().etag.unwrap();
    for refused in [
        vec![Operation::Set(set("k", "x")), Operation::Set(set_first("k", "y"))],
        vec![
            Operation::Set(set("k", "x")),
            Operation::Set(set_if("k", "y", &etag)),
        ],
        vec![
            Operation::Delete(delete("k")),
            Operation::Set(set_if("k", "y", &etag)),
        ],
        vec![
            Operation::Set(set("other", "x")),
            Operation::Set(set_first("k", "y")),
        ],
    ] {
        assert_eq!(commit(refused).await.unwrap_err().kind(), ErrorKind::Conflict);
    }
    assert_eq!(
        (state.value("k").await.unwrap(), state.value("other").await),
        ("again".into(), None)
    );
    commit(vec![
        Operation::Set(set_if("k", "x", &etag)),
        Operation::Delete(delete("k")),
    ])
    .await
    .unwrap();
    assert_eq!(state.value("k").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_as_large_as_etcd_takes() {
    let Some(node) = node(&[]).await else { return };
    let state = open([&node]).await;
    let commit = async |operations: Vec<Set>| {
        let operations = operations.into_iter().map(Operation::Set).collect();
        state.transact(operations, &Metadata::new()).await
    };
    let plain = |count: usize| (0..count).map(|number| set(&format!("p{number}"), "v"));
    let first = |count: usize, round: &str| {
        let round = round.to_owned();
        (0..count).map(move |number| set_first(&format!("{round}{number}"), "v"))
    };
    commit(plain(2048).collect()).await.unwrap();
    commit(first(64, "a").chain(plain(1000)).collect()).await.unwrap();
    commit(first(126, "b").collect()).await.unwrap();
    for (too_large, count) in [
        (commit(plain(2049).collect()).await, "2049 keys, 0"),
        (commit(first(127, "c").collect()).await, "127 keys, 127"),
    ] {
        let error = too_large.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let text = format!("a transaction of {count} of them with a condition, is too large for etcd");
        assert_eq!(error.message(), text);
    }
    assert_eq!(state.value("c0").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eventual_read_needs_no_majority_and_a_strong_one_does() {
    let Some(mut nodes) = three_nodes().await else {
        return;
    };
    let state = open(&nodes).await;
    state.set(set("k", "v")).await.unwrap();
    // The last node may lag behind the majority that answered.
    let last = open([&nodes[2]]).await;
    assert_eq!(last.value("k").await.unwrap(), "v");
    nodes[0].kill();
    nodes[1].kill();
    let eventual = async |state: &Etcd| state.get(&get("k", Consistency::Eventual)).await;
    assert_eq!(eventual(&last).await.unwrap().unwrap().value, "v");
    let bulk = last
        .bulk_get(vec![get("k", Consistency::Eventual)], 1)
        .await
        .unwrap();
    assert_eq!(bulk[0].as_ref().unwrap().as_ref().unwrap().value, "v");
    let strong = timeout(Duration::from_secs(2), last.get(&get("k", Consistency::Strong))).await;
    assert!(!matches!(strong, Ok(Ok(_))), "{strong:?}");
    // A node is left for another one, also by those who need no leader.
    let begun = Instant::now();
    while eventual(&state).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_write_keeps_what_it_wrote() {
    let Some(node) = node(&[]).await else { return };
    let state = open([&node]).await;
    state.set(set("k", "0")).await.unwrap();
    for wait in 1..60 {
        let value = wait.to_string();
        let write = state.set(set_for("k", &value, "1000"));
        drop(timeout(Duration::from_micros(wait * 100), write).await);
        // Never the value's end along with its lease.
        assert!(state.value("k").await.is_some());
    }
    sleep(Duration::from_millis(200)).await;
    assert!(state.value("k").await.is_some());
}
