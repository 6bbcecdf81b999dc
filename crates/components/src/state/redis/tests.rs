//! The layout, read and written by others; what a transaction finds; what the suite cannot know.

use layotto_core::{
    Settings,
    key_prefix::PrefixedKey,
    state::{Concurrency, Consistency, Options},
};
use layotto_testkit::{
    needs,
    server::{Server, redis as servers},
};

use super::*;

async fn open(server: &Server, settings: &[(&str, &str)]) -> Redis {
    let host = server.address().to_string();
    let settings = settings.iter().copied().chain([("redisHost", host.as_str())]);
    let cx = Context::standalone("test", std::env::temp_dir());
    Redis::open(Settings::from_iter(settings).parse().unwrap().config, cx)
        .await
        .unwrap()
}

fn say(server: &Server, words: &[&str]) -> String {
    servers::cli(server, words).unwrap().trim().to_owned()
}

/// The fields of a hash, as `name=value`.
fn fields(server: &Server, key: &str) -> Vec<String> {
    let told = say(server, &["hgetall", key]);
    let words: Vec<_> = told.lines().collect();
    let mut fields: Vec<_> = words.chunks(2).map(|pair| pair.join("=")).collect();
    fields.sort();
    fields
}

fn set(key: &str, value: &'static str) -> Set {
    Set {
        key: PrefixedKey(key.to_owned()),
        value: value.into(),
        etag: None,
        options: Options::default(),
        metadata: Metadata::new(),
    }
}

fn set_if(key: &str, value: &'static str, etag: &str) -> Set {
    Set {
        etag: Some(etag.to_owned()),
        ..set(key, value)
    }
}

fn first(set: Set) -> Set {
    let options = Options {
        concurrency: Concurrency::FirstWrite,
        ..set.options
    };
    Set { options, ..set }
}

fn last(set: Set) -> Set {
    let options = Options {
        concurrency: Concurrency::LastWrite,
        ..set.options
    };
    Set { options, ..set }
}

fn strong(set: Set) -> Set {
    let options = Options {
        consistency: Consistency::Strong,
        ..set.options
    };
    Set { options, ..set }
}

fn delete(key: &str) -> Delete {
    Delete {
        key: PrefixedKey(key.to_owned()),
        etag: None,
        options: Options::default(),
        metadata: Metadata::new(),
    }
}

async fn get(store: &Redis, key: &str) -> Result<Option<Item>> {
    let request = Get {
        key: PrefixedKey(key.to_owned()),
        consistency: Consistency::Unspecified,
        metadata: Metadata::new(),
    };
    store.get(&request).await
}

async fn value(store: &Redis, key: &str) -> (String, Option<String>) {
    let item = get(store, key).await.unwrap().unwrap();
    (String::from_utf8(item.value.to_vec()).unwrap(), item.etag)
}

fn conflicts(result: Result<()>) {
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn items_lie_as_upstream_lays_them() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let store = open(&server, &[]).await;
    store.set(set("k", "v1")).await.unwrap();
    store.set(set("k", "v2")).await.unwrap();
    assert_eq!(fields(&server, "k"), ["data=v2", "version=2"]);
    store.set(first(set("f", "v"))).await.unwrap();
    assert_eq!(fields(&server, "f"), ["data=v", "first-write=0", "version=1"]);
    store.bulk_set(vec![set("a", "1"), set("b", "2")]).await.unwrap();
    assert_eq!(fields(&server, "b"), ["data=2", "version=1"]);
    let steps = vec![
        Operation::Set(first(set("t", "v"))),
        Operation::Delete(delete("a")),
    ];
    store.transact(steps, &Metadata::new()).await.unwrap();
    // As upstream: a transaction marks nothing.
    assert_eq!(fields(&server, "t"), ["data=v", "version=1"]);
    assert_eq!(say(&server, &["exists", "a"]), "0");
}

#[tokio::test]
async fn what_a_go_sidecar_wrote_is_read_and_guarded() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let store = open(&server, &[]).await;
    say(
        &server,
        &["hset", "k", "data", "theirs", "version", "7", "first-write", "0"],
    );
    say(&server, &["expire", "k", "100"]);
    let item = get(&store, "k").await.unwrap().unwrap();
    assert_eq!(
        (&item.value[..], item.etag.as_deref()),
        (&b"theirs"[..], Some("7"))
    );
    assert!(item.metadata.contains_key("ttlExpireTime"));
    // Marked: whoever writes must know the version.
    conflicts(store.set(set("k", "x")).await);
    conflicts(store.set(last(set("k", "x"))).await);
    conflicts(store.set(set_if("k", "x", "6")).await);
    store.set(set_if("k", "ours", "7")).await.unwrap();
    assert_eq!(fields(&server, "k"), ["data=ours", "first-write=0", "version=8"]);
    store.delete(delete("k")).await.unwrap();
}

#[tokio::test]
async fn the_last_write_needs_no_etag_whatever_comes_with_it() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let store = open(&server, &[]).await;
    store.set(set("k", "v1")).await.unwrap();
    store.set(last(set_if("k", "v2", "77"))).await.unwrap();
    store.set(set_if("k", "v3", "0")).await.unwrap();
    assert_eq!(value(&store, "k").await, ("v3".to_owned(), Some("3".to_owned())));
    let error = store.set(set_if("k", "x", "abc")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidEtag);
    assert_eq!(error.message(), "strconv.Atoi: parsing \"abc\": invalid syntax");
    let stale = Delete {
        etag: Some("abc".to_owned()),
        ..delete("k")
    };
    conflicts(store.delete(stale).await);
}

// deviation: D081
#[tokio::test]
async fn a_first_write_needs_an_absent_key() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let store = open(&server, &[]).await;
    store.set(set("k", "v")).await.unwrap();
    conflicts(store.set(first(set("k", "x"))).await);
    assert_eq!(fields(&server, "k"), ["data=v", "version=1"]);
    store.delete(delete("k")).await.unwrap();
    store.set(first(set("k", "v"))).await.unwrap();
    conflicts(store.set(first(set("k", "x"))).await);
}

// deviation: D082
#[tokio::test]
async fn a_write_without_a_time_to_live_lives_for_ever() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let store = open(&server, &[]).await;
    store.set(set("k", "v")).await.unwrap();
    say(&server, &["expire", "k", "100"]);
    store.set(set("k", "w")).await.unwrap();
    assert_eq!(say(&server, &["ttl", "k"]), "-1");
}

// deviation: D080
#[tokio::test]
async fn what_is_no_item_is_read_where_it_can_be_and_replaced() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let store = open(&server, &[]).await;
    say(&server, &["set", "text", "plain"]);
    assert_eq!(value(&store, "text").await, ("plain".to_owned(), None));
    say(&server, &["rpush", "list", "x"]);
    assert_eq!(get(&store, "list").await.unwrap_err().kind(), ErrorKind::Internal);
    say(&server, &["hset", "half", "data", "x"]);
    say(&server, &["hset", "other", "field", "x"]);
    for key in ["half", "other"] {
        let error = get(&store, key).await.unwrap_err();
        let wanted = "required hash field 'data' or 'version' was not found";
        assert_eq!((error.kind(), error.message()), (ErrorKind::Internal, wanted));
    }
    let keys = ["text", "list", "half"];
    conflicts(store.set(set_if("text", "x", "1")).await);
    store
        .bulk_set(keys.map(|key| set(key, "v")).into())
        .await
        .unwrap();
    for key in keys {
        assert_eq!(value(&store, key).await, ("v".to_owned(), Some("1".to_owned())));
    }
    say(&server, &["rpush", "list2", "x"]);
    store.delete(delete("list2")).await.unwrap();
    assert_eq!(say(&server, &["exists", "list2"]), "0");
}

// deviation: D083
#[tokio::test]
async fn a_transaction_sees_its_own_steps_and_leaves_nothing_where_one_is_refused() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let store = open(&server, &[]).await;
    store.set(set("k", "v")).await.unwrap();
    let steps = |second: &str| {
        vec![
            Operation::Set(set_if("k", "one", "1")),
            Operation::Set(set_if("k", "two", second)),
            Operation::Delete(delete("k")),
            Operation::Set(first(set("k", "three"))),
        ]
    };
    conflicts(store.transact(steps("1"), &Metadata::new()).await);
    assert_eq!(fields(&server, "k"), ["data=v", "version=1"]);
    store.transact(steps("2"), &Metadata::new()).await.unwrap();
    assert_eq!(fields(&server, "k"), ["data=three", "version=1"]);
    say(&server, &["config", "set", "maxmemory", "1"]);
    let steps = vec![Operation::Set(set("new", "v")), Operation::Delete(delete("k"))];
    let error = store.transact(steps, &Metadata::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    assert_eq!(say(&server, &["keys", "*"]), "k");
}

#[tokio::test]
async fn a_time_to_live_may_be_the_components_and_is_never_refused_for_its_length() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let store = open(&server, &[("ttlInSeconds", "100")]).await;
    let lives = |key: &str| say(&server, &["ttl", key]).parse::<i64>().unwrap();
    store.set(set("default", "v")).await.unwrap();
    assert!((90..=100).contains(&lives("default")));
    let own = |ttl: &str| Metadata::from([("ttlInSeconds".to_owned(), ttl.to_owned())]);
    for (key, ttl) in [("longer", "200"), ("ever", "-1"), ("age", "9223372036854775807")] {
        let set = Set {
            metadata: own(ttl),
            ..set(key, "v")
        };
        store.set(set).await.unwrap();
    }
    assert!((190..=200).contains(&lives("longer")));
    assert_eq!(lives("ever"), -1);
    assert!(lives("age") > 100 * 365 * 86400);
    assert!(
        get(&store, "age")
            .await
            .unwrap()
            .unwrap()
            .metadata
            .contains_key("ttlExpireTime")
    );
}

// deviation: D084
#[tokio::test]
async fn a_strong_write_fails_where_replicas_do_not_follow() {
    needs!(servers::PROGRAM);
    let primary = servers::start(&[]).await.unwrap();
    let port = primary.address().port().to_string();
    let replica = servers::start(&["--replicaof", "127.0.0.1", &port])
        .await
        .unwrap();
    while !say(&primary, &["info", "replication"]).contains("state=online") {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let store = open(&primary, &[]).await;
    store.set(strong(set("k", "v1"))).await.unwrap();
    assert_eq!(say(&replica, &["hget", "k", "data"]), "v1");
    store
        .bulk_set(vec![strong(set("k", "v2")), set("other", "v")])
        .await
        .unwrap();
    assert_eq!(say(&replica, &["hget", "k", "data"]), "v2");
    replica.freeze().unwrap();
    let error = store.set(strong(set("k", "v3"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    store.set(set("k", "v4")).await.unwrap();
    replica.thaw().unwrap();
}

#[tokio::test]
async fn on_a_cluster_a_transaction_takes_keys_of_one_slot() {
    needs!(servers::PROGRAM);
    let nodes = servers::start_cluster().await.unwrap();
    let store = open(&nodes[0], &[("redisType", "cluster")]).await;
    let steps = |keys: [&str; 2]| keys.map(|key| Operation::Set(set(key, "v"))).into();
    let together = ["{tag}a", "{tag}b"];
    store.transact(steps(together), &Metadata::new()).await.unwrap();
    for key in together {
        assert_eq!(value(&store, key).await, ("v".to_owned(), Some("1".to_owned())));
    }
    let error = store
        .transact(steps(["a", "b"]), &Metadata::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert_eq!(get(&store, "a").await.unwrap(), None);
}

#[tokio::test]
async fn an_item_that_is_made_while_it_is_read_is_found() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let store = open(&server, &[]).await;
    store.set(set("k", "v")).await.unwrap();
    // The first of the two questions found nothing yet.
    let between = vec![Value::Array(vec![Value::Nil, Value::Nil]), Value::Int(-1)];
    let item = store.item("k", between).await.unwrap().unwrap();
    assert_eq!((&item.value[..], item.etag.as_deref()), (&b"v"[..], Some("1")));
}

#[tokio::test]
async fn an_end_beyond_any_calendar_is_not_told() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let store = open(&server, &[]).await;
    store.set(set("k", "v")).await.unwrap();
    assert_eq!(say(&server, &["expire", "k", "9000000000000"]), "1");
    let item = get(&store, "k").await.unwrap().unwrap();
    assert_eq!((&item.value[..], item.metadata), (&b"v"[..], Metadata::new()));
}

#[tokio::test]
async fn a_bulk_of_strong_writes_ends_with_the_first_that_takes_too_long() {
    needs!(servers::PROGRAM);
    let primary = servers::start(&[]).await.unwrap();
    let port = primary.address().port().to_string();
    let replica = servers::start(&["--replicaof", "127.0.0.1", &port])
        .await
        .unwrap();
    while !say(&primary, &["info", "replication"]).contains("state=online") {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let store = open(&primary, &[]).await;
    replica.freeze().unwrap();
    let begun = std::time::Instant::now();
    let writes = ["a", "b", "c", "d"].map(|key| strong(set(key, "v")));
    let error = store.bulk_set(writes.into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(begun.elapsed().as_secs() < 2, "{:?}", begun.elapsed());
    assert_eq!(say(&primary, &["exists", "a", "b", "c", "d"]), "1");
    replica.thaw().unwrap();
}
