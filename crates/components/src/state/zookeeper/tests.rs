//! Nodes as Go Layotto uses them.

use bytes::Bytes;
use layotto_core::{Settings, key_prefix::PrefixedKey, state::Options};
use layotto_testkit::{
    needs,
    server::{Server, zookeeper},
};

use super::*;
use crate::client::zookeeper::PERSISTENT;

/// A server, unless its program is not there.
async fn server() -> Option<Server> {
    needs!(zookeeper::PROGRAM, None);
    Some(zookeeper::start().await.unwrap())
}

async fn open(server: &Server, prefix: &str) -> Zookeeper {
    let address = server.address().to_string();
    let settings = [
        ("servers", address.as_str()),
        ("sessionTimeout", "5s"),
        ("keyPrefixPath", prefix),
    ];
    let parsed = settings.into_iter().collect::<Settings>().parse();
    Zookeeper::open(parsed.unwrap().config, Context::standalone("test", "."))
        .await
        .unwrap()
}

fn get(key: &str) -> Get {
    Get {
        key: PrefixedKey(key.to_owned()),
        consistency: Consistency::Unspecified,
        metadata: Metadata::new(),
    }
}

fn set(key: &str, value: &[u8], etag: Option<&str>) -> Set {
    Set {
        key: PrefixedKey(key.to_owned()),
        value: Bytes::copy_from_slice(value),
        etag: etag.map(str::to_owned),
        options: Options::default(),
        metadata: Metadata::new(),
    }
}

fn delete(key: &str, etag: Option<&str>) -> Delete {
    Delete {
        key: PrefixedKey(key.to_owned()),
        etag: etag.map(str::to_owned),
        options: Options::default(),
        metadata: Metadata::new(),
    }
}

async fn session(server: &Server) -> Client {
    Client::connect(&server.address().to_string()).await.unwrap()
}

#[tokio::test]
async fn a_node_that_a_go_sidecar_wrote_is_read_and_written() {
    let Some(server) = server().await else { return };
    let go = session(&server).await;
    go.create("/pre", &[], &PERSISTENT).await.unwrap();
    go.create("/pre/k", b"old", &PERSISTENT).await.unwrap();
    let store = open(&server, "/pre").await;
    let read = async || store.get(&get("k")).await.unwrap().unwrap();
    assert_eq!(read().await, change::item("old".into(), 0, 0));
    store.set(set("k", b"v2", Some("0"))).await.unwrap();
    assert_eq!(read().await, change::item("v2".into(), 1, 0));
    for stale in [
        store.set(set("k", b"x", Some("0"))).await,
        store.delete(delete("k", Some("9"))).await,
    ] {
        assert_eq!(stale.unwrap_err().kind(), ErrorKind::Conflict);
    }
    go.set_data("/pre/k", b"go", None).await.unwrap();
    assert_eq!(read().await, change::item("go".into(), 2, 0));
    store.delete(delete("k", Some("2"))).await.unwrap();
    assert_eq!(go.check_stat("/pre/k").await.unwrap(), None);
    assert_eq!(store.get(&get("k")).await.unwrap(), None);
}

// deviation: D117
#[tokio::test]
async fn items_are_made_where_there_is_no_node_and_everybody_may_use_them() {
    let Some(server) = server().await else { return };
    let other = session(&server).await;
    for (prefix, path) in [("", "/k"), ("deep/er/", "/deep/er/k")] {
        let store = open(&server, prefix).await;
        store.set(set("k", b"v", None)).await.unwrap();
        let (data, stat) = other.get_data(path).await.unwrap();
        assert_eq!((&data[..], stat.version, stat.ephemeral_owner), (&b"v"[..], 0, 0));
        let (acls, _) = other.get_acl(path).await.unwrap();
        assert_eq!(acls, zookeeper_client::Acls::anyone_all().to_vec());
    }
}

#[tokio::test]
async fn a_request_that_the_servers_would_not_take_breaks_no_connection() {
    let Some(server) = server().await else { return };
    let store = open(&server, "").await;
    let large = vec![0; MaxRequest::default().0];
    let error = store.set(set("k", &large, None)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    store.set(set("k", &large[..1_000_000], None)).await.unwrap();
    let operations = (0..2).map(|n| Operation::Set(set(&n.to_string(), &large[..600_000], None)));
    let error = store
        .transact(operations.collect(), &Metadata::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

// deviation: D117
#[tokio::test]
async fn an_item_that_is_to_end_is_refused() {
    let Some(server) = server().await else { return };
    let store = open(&server, "").await;
    let mut ending = set("k", b"v", None);
    ending.metadata.insert("ttlInSeconds".to_owned(), "5".to_owned());
    assert_eq!(
        store.set(ending.clone()).await.unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    ending.metadata.insert("ttlInSeconds".to_owned(), "-1".to_owned());
    store.set(ending).await.unwrap();
}

#[test]
fn a_prefix_is_a_path() {
    for (given, path) in [("", ""), ("/", ""), ("a", "/a"), ("/a/b/", "/a/b")] {
        assert_eq!(parent(given).unwrap(), path);
    }
    for given in ["/a/./b", "/..", "/zookeeper", "/a\u{0}"] {
        assert!(parent(given).is_err(), "{given:?}");
    }
}

#[test]
fn changes_of_one_key_keep_their_order() {
    let writes: Vec<_> = ["a", "b", "a", "c", "a"]
        .map(|key| Write::set(set(key, b"", None)).unwrap())
        .into();
    let turns = write::turns(&writes);
    let keys = turns
        .iter()
        .map(|turn| turn.iter().map(|write| write.key.as_str()).collect::<String>());
    assert_eq!(Vec::from_iter(keys), ["abc", "a", "a"]);
}
