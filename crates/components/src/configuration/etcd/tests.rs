use std::collections::HashMap;

use layotto_testkit::server::Server;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::client::etcd::testing::{ctl, cx, node};

async fn open(node: &Server) -> Etcd {
    let config = Config {
        address: Endpoints(vec![node.address().to_string()]),
        ..Config::default()
    };
    Etcd::open(config, cx()).await.unwrap()
}

fn select(keys: &[&str]) -> Selector {
    Selector {
        app_id: "app1".to_owned(),
        group: "default".to_owned(),
        label: "default".to_owned(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        metadata: Metadata::new(),
    }
}

fn item(key: &str, content: &str) -> Item {
    tagged(key, content, [])
}

fn tagged<const N: usize>(key: &str, content: &str, tags: [(&str, &str); N]) -> Item {
    Item {
        key: key.to_owned(),
        content: content.to_owned(),
        group: "default".to_owned(),
        label: "default".to_owned(),
        tags: map(tags),
        metadata: HashMap::new(),
    }
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

impl Etcd {
    async fn put(&self, items: Vec<Item>) {
        self.set("app1", items, &Metadata::new()).await.unwrap();
    }

    async fn read(&self, keys: &[&str]) -> Vec<Item> {
        self.get(&select(keys)).await.unwrap()
    }
}

async fn next(subscription: &mut Subscription) -> Item {
    let next = timeout(Duration::from_secs(10), subscription.changes.recv());
    let mut items = next.await.unwrap().unwrap();
    assert_eq!(items.len(), 1, "{items:?}");
    items.remove(0)
}

/// All keys and their values, in order.
fn dump(node: &Server) -> Vec<String> {
    let text = ctl(node, &["get", "", "--prefix"]);
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn items_of_a_go_sidecar_are_read_as_it_reads_them() {
    let Some(node) = node(&[]).await else { return };
    let store = open(&node).await;
    for (key, content) in [
        ("/app1/default/default/k", "new"),
        ("/app1/default/default/k/red", "old"),
        ("/app1/default/default/k/2024", "new"),
        ("/app1/default/default/kk", "other"),
        ("/app1/g/default/k", "elsewhere"),
        ("/app10/default/default/k", "another application"),
    ] {
        ctl(&node, &["put", key, content]);
    }
    let wanted = [
        tagged("k", "new", [("red", "old"), ("2024", "new")]),
        item("kk", "other"),
    ];
    assert_eq!(store.read(&["k", "missing", "kk"]).await, wanted);
    assert_eq!(store.read(&[]).await, wanted);
}

// deviation: D100
#[tokio::test(flavor = "multi_thread")]
async fn tags_are_kept_under_their_names_and_shown_to_go_sidecars() {
    let Some(node) = node(&[]).await else { return };
    let store = open(&node).await;
    store
        .put(vec![tagged("k", "v", [("a", "1"), ("b", "2"), ("c", "2")])])
        .await;
    let there = [
        "/app1/default/default/k",
        "v",
        "/app1/default/default/k/1",
        "v",
        "/app1/default/default/k/2",
        "v",
        "/app1/layotto-tags/default:default:k",
        r#"{"a":"1","b":"2","c":"2"}"#,
    ];
    assert_eq!(dump(&node), there);
    // The old tags go; what is below the key and was no tag of ours stays.
    ctl(&node, &["put", "/app1/default/default/k/go", "v"]);
    store.put(vec![tagged("k", "w", [("b", "3")])]).await;
    assert_eq!(store.read(&["k"]).await, [tagged("k", "w", [("b", "3")])]);
    store.put(vec![item("k", "x")]).await;
    let there = ["/app1/default/default/k", "x", "/app1/default/default/k/go", "v"];
    assert_eq!(dump(&node), there);
    // What a Go sidecar writes over ours counts as it wrote it.
    store.put(vec![tagged("k", "y", [("b", "3")])]).await;
    ctl(&node, &["put", "/app1/default/default/k", "z"]);
    let wanted = tagged("k", "z", [("go", "v"), ("3", "y")]);
    assert_eq!(store.read(&["k"]).await, [wanted]);
    store.delete(&select(&["k"])).await.unwrap();
    assert_eq!(dump(&node), [""; 0]);
}

// deviation: D101
#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_key_leaves_those_that_begin_alike() {
    let Some(node) = node(&[]).await else { return };
    let store = open(&node).await;
    store.put(vec![item("foo", "1"), item("foobar", "2")]).await;
    store.delete(&select(&["foo"])).await.unwrap();
    assert_eq!(store.read(&["foo", "foobar"]).await, [item("foobar", "2")]);
}

// deviation: D101
#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_key_leaves_items_below_it() {
    let Some(node) = node(&[]).await else { return };
    let store = open(&node).await;
    let below = [item("db/url", "1"), item("db/user", "2")];
    store.put(below.to_vec()).await;
    store.delete(&select(&["db"])).await.unwrap();
    assert_eq!(store.read(&["db/url", "db/user"]).await, below);
    // Where the item is there, its record tells its tags from what else is below.
    store.put(vec![tagged("db", "v", [("a", "1")])]).await;
    store.delete(&select(&["db", "db"])).await.unwrap();
    assert_eq!(store.read(&["db", "db/1"]).await, []);
    assert_eq!(store.read(&["db/url", "db/user"]).await, below);
    // Without a record a key right below may be a tag of a Go sidecar; one further below is none.
    store.put(vec![item("db", "v"), item("db/pool/size", "3")]).await;
    store.delete(&select(&["db"])).await.unwrap();
    assert_eq!(store.read(&["db/pool/size"]).await, [item("db/pool/size", "3")]);
    // However many they are.
    let many: Vec<_> = (0..300)
        .map(|number| item(&format!("db/{number}"), "v"))
        .collect();
    store.put([&many[..], &[item("db", "v")]].concat()).await;
    store.delete(&select(&["db"])).await.unwrap();
    assert_eq!(store.read(&[]).await, [item("db/pool/size", "3")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_of_any_size_is_whole_and_in_order() {
    let Some(node) = node(&[]).await else { return };
    let store = open(&node).await;
    let content = "x".repeat(300_000);
    let mut items: Vec<_> = (0..200)
        .map(|number| tagged(&format!("k{number}"), "v", [("t", "1")]))
        .collect();
    items.extend((0..10).map(|number| item(&format!("l{number}"), &content)));
    items.push(item("k0", "last"));
    store.put(items).await;
    assert_eq!(store.read(&[]).await.len(), 210);
    assert_eq!(
        store.read(&["k0", "l9"]).await,
        [item("k0", "last"), item("l9", &content)]
    );
    let many: HashMap<_, _> = (0..60)
        .map(|tag| (format!("n{tag}"), format!("v{tag}")))
        .collect();
    let crowded = Item {
        tags: many,
        ..item("k1", "v")
    };
    store.put(vec![crowded.clone()]).await;
    assert_eq!(store.read(&["k1"]).await, [crowded]);
    store.put(vec![item("k1", "plain"), item("k2", "plain")]).await;
    assert_eq!(
        store.read(&["k1", "k2"]).await,
        [item("k1", "plain"), item("k2", "plain")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_the_same_item_leave_the_tags_of_the_last() {
    let Some(node) = node(&[]).await else { return };
    let store = Arc::new(open(&node).await);
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..8 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            store
                .put(vec![tagged("k", "v", [("t", &number.to_string())])])
                .await
        });
    }
    writers.join_all().await;
    let tags = &store.read(&["k"]).await[0].tags;
    assert_eq!(dump(&node).len(), 6);
    assert!(dump(&node).contains(&format!("/app1/default/default/k/{}", tags["t"])));
}

// deviation: D102
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_gets_what_others_write_from_then_on_one_item_each() {
    let Some(node) = node(&[]).await else { return };
    let store = open(&node).await;
    store.put(vec![item("k", "before"), item("gone", "before")]).await;
    let mut some = store.subscribe(&select(&["k", "gone"])).await.unwrap();
    let mut all = store.subscribe(&select(&[])).await.unwrap();
    ctl(&node, &["put", "/app1/default/default/k", "by a go sidecar"]);
    ctl(&node, &["put", "/app1/default/default/k/tag", "by a go sidecar"]);
    store
        .put(vec![tagged("k", "v", [("a", "1")]), item("new", "n")])
        .await;
    store.delete(&select(&["gone"])).await.unwrap();
    store.delete(&select(&["k"])).await.unwrap();
    store.put(vec![item("k", "last")]).await;
    let changes = [
        item("k", "by a go sidecar"),
        tagged("k", "v", [("a", "1")]),
        item("new", "n"),
        item("gone", ""),
        item("k", ""),
        item("k", "last"),
    ];
    for (subscription, skipped) in [(&mut some, "new"), (&mut all, "")] {
        let mut seen = Vec::new();
        while seen.last() != Some(&item("k", "last")) {
            seen.push(next(subscription).await);
        }
        // A change of a key that was not taken yet may give way to a newer one.
        let mut rest = seen.iter();
        for change in changes.iter().filter(|change| change.key != skipped) {
            let later = changes.iter().rfind(|later| later.key == change.key);
            if Some(change) == later {
                assert!(rest.any(|seen| seen == change), "{change:?} in {seen:?}");
            }
        }
        assert!(seen.iter().all(|seen| changes.contains(seen)), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_missed_while_the_node_is_away() {
    let Some(mut node) = node(&[]).await else { return };
    let (store, other) = (open(&node).await, open(&node).await);
    store
        .put(vec![item("a", "1"), item("b", "1"), item("same", "1")])
        .await;
    let mut subscription = store.subscribe(&select(&["a", "b", "c", "same"])).await.unwrap();
    for round in 0..3 {
        node.kill();
        node.resume().await.unwrap();
        let a = item("a", &format!("round {round}"));
        let begun = Instant::now();
        while other
            .set("app1", vec![a.clone()], &Metadata::new())
            .await
            .is_err()
        {
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
        assert_eq!(next(&mut subscription).await, a);
    }
    other.put(vec![item("c", "new")]).await;
    assert_eq!(next(&mut subscription).await, item("c", "new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_missed_when_its_revision_is_gone() {
    let Some(node) = node(&[]).await else { return };
    let store = open(&node).await;
    store
        .put(vec![
            item("changed", "1"),
            item("deleted", "1"),
            item("same", "1"),
        ])
        .await;
    let keys = ["changed", "deleted", "same", "new"];
    let feed = Arc::new(Feed::default());
    let all = || Keys::Only(keys.map(str::to_owned).into());
    let watcher = feed.watch(&select(&keys), all(), Vec::new());
    let follower = Follower::begin(&store.client, &select(&keys), feed)
        .await
        .unwrap();
    // As if the connection had been lost for a while.
    let follower = follower.interrupted();
    store
        .put(vec![item("changed", "2"), tagged("new", "n", [("t", "x")])])
        .await;
    store.put(vec![item("changed", "3")]).await;
    store.delete(&select(&["deleted"])).await.unwrap();
    let revision = ctl(&node, &["get", "x", "-w", "fields"]);
    let revision = revision
        .lines()
        .find_map(|line| line.strip_prefix("\"Revision\" : "))
        .unwrap();
    ctl(&node, &["compact", revision]);
    let mut subscription = watcher.start_beside(&store.cx, CancellationToken::new(), follower.run());
    let mut seen = HashMap::new();
    for _ in 0..3 {
        let item = next(&mut subscription).await;
        seen.insert(item.key.clone(), item);
    }
    assert_eq!(seen["changed"], item("changed", "3"));
    assert_eq!(seen["new"], tagged("new", "n", [("t", "x")]));
    assert_eq!(seen["deleted"], item("deleted", ""));
    store.put(vec![item("same", "2")]).await;
    assert_eq!(next(&mut subscription).await, item("same", "2"));
}

// deviation: D102
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_ends_takes_no_other_with_it_and_leaves_nothing() {
    let Some(node) = node(&[]).await else { return };
    let store = open(&node).await;
    let first = store.subscribe(&select(&["k"])).await.unwrap();
    let tasks = store.cx.tasks.len();
    let mut second = store.subscribe(&select(&["k"])).await.unwrap();
    drop(first);
    store.put(vec![item("k", "1")]).await;
    assert_eq!(next(&mut second).await, item("k", "1"));
    let begun = Instant::now();
    while store.cx.tasks.len() > tasks {
        assert!(begun.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(10)).await;
    }
    store.close().await.unwrap();
    assert!(second.changes.recv().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_needs_the_product_once() {
    let Some(mut node) = node(&[]).await else { return };
    let store = open(&node).await;
    node.kill();
    let refused = store.subscribe(&select(&["k"])).await.unwrap_err();
    assert_eq!(refused.kind(), layotto_core::ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_it_and_other_kinds() {
    let Some(node) = node(&[]).await else { return };
    let cx = cx();
    let endpoints = || Endpoints(vec![node.address().to_string()]);
    let config = Config {
        endpoints: endpoints(),
        ..Config::default()
    };
    let store = Etcd::open(config, cx.clone()).await.unwrap();
    let others = Settings {
        endpoints: endpoints(),
        ..Settings::default()
    };
    let others = Client::shared(&others, "endpoints", &cx).await.unwrap();
    assert!(Arc::ptr_eq(&store.client, &others));
    let none = Etcd::open(Config::default(), cx).await;
    assert_eq!(
        none.err().unwrap().message(),
        "address: expected at least one node"
    );
}
