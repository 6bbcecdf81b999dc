//! The table as Go Layotto uses it, and what several sidecars at once do to it.

use std::time::Duration;

use layotto_core::{
    Metadata, Secret,
    key_prefix::PrefixedKey,
    state::{Concurrency, Consistency, Options},
};
use layotto_testkit::{
    needs, programs,
    server::{Server, postgres},
};
use tokio::{task::JoinSet, time::Instant};

use super::*;
use crate::client::postgres::MaxConns;

/// What Go Layotto makes where there is no table.
const TABLE_OF_GO: &str = "create table state (key text NOT NULL PRIMARY KEY, value jsonb NOT NULL, \
    isbinary boolean NOT NULL, insertdate TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(), \
    updatedate TIMESTAMP WITH TIME ZONE NULL)";

/// A server, unless its programs are not there.
async fn server() -> Option<Server> {
    needs!(postgres::PROGRAM, None);
    Some(postgres::start(&[]).await.unwrap())
}

async fn open_as(user: &str, server: &Server) -> Postgresql {
    let config = Config(Settings {
        connection_string: Secret::new(postgres::url(server).replace("postgres@", &format!("{user}@"))),
        max_conns: MaxConns::default(),
    });
    let cx = Context::standalone("test", ".");
    Postgresql::open(config, cx).await.unwrap()
}

async fn open(server: &Server) -> Postgresql {
    open_as("postgres", server).await
}

fn get(key: &str) -> Get {
    Get {
        key: PrefixedKey(key.to_owned()),
        consistency: Consistency::Strong,
        metadata: Metadata::new(),
    }
}

fn set(key: &str, value: &[u8]) -> Set {
    Set {
        key: PrefixedKey(key.to_owned()),
        value: Bytes::copy_from_slice(value),
        etag: None,
        options: Options::default(),
        metadata: Metadata::new(),
    }
}

fn set_for(key: &str, value: &[u8], seconds: &str) -> Set {
    Set {
        metadata: [("ttlInSeconds".to_owned(), seconds.to_owned())].into(),
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

fn psql(server: &Server, statement: &str) -> String {
    postgres::psql(server, statement).unwrap().trim().to_owned()
}

#[tokio::test]
async fn rows_of_a_go_sidecar_are_read_and_ours_look_the_same() {
    let Some(server) = server().await else { return };
    psql(&server, TABLE_OF_GO);
    psql(
        &server,
        r#"insert into state (key, value, isbinary) values ('bytes', '"AAH/"', true), ('empty', '""', true),
           ('json', '{"a": [1, null]}', false), ('text', '"t"', false), ('damaged', '"%"', true),
           ('number', '7', true)"#,
    );
    let store = open(&server).await;
    for (key, value) in [
        ("bytes", &[0, 1, 255][..]),
        ("empty", b""),
        ("json", br#"{"a": [1, null]}"#),
        ("text", br#""t""#),
    ] {
        let item = store.get(&get(key)).await.unwrap().unwrap();
        assert_eq!(item.value, value, "{key}");
        let etag = psql(&server, &format!("select xmin from state where key = '{key}'"));
        assert_eq!(item.etag, Some(etag), "{key}");
    }
    let mixed = store
        .bulk_get(vec![get("damaged"), get("json"), get("number")], 1)
        .await
        .unwrap();
    let kinds = mixed
        .iter()
        .map(|item| item.as_ref().map(drop).map_err(Error::kind));
    assert_eq!(
        Vec::from_iter(kinds),
        [Err(ErrorKind::DataLoss), Ok(()), Err(ErrorKind::DataLoss)]
    );

    let every: Vec<u8> = (0..=255).collect();
    store.set(set("bytes", &every)).await.unwrap();
    store.set(set("new", b"v")).await.unwrap();
    let row = |key: &str| {
        let columns = "value, isbinary, updatedate is null";
        psql(
            &server,
            &format!("select {columns} from state where key = '{key}'"),
        )
    };
    assert_eq!(row("bytes"), format!("\"{}\"|t|f", STANDARD.encode(&every)));
    assert_eq!(row("new"), "\"dg==\"|t|t");
}

// deviation: D111
#[tokio::test]
async fn a_row_that_a_go_sidecar_wrote_over_does_not_end() {
    let Some(server) = server().await else { return };
    let store = open(&server).await;
    for key in ["kept", "ended"] {
        store.set(set_for(key, b"v", "1")).await.unwrap();
    }
    // As Go Layotto writes.
    psql(
        &server,
        r#"INSERT INTO state (key, value, isbinary) VALUES ('kept', '"Z28="', true)
           ON CONFLICT (key) DO UPDATE SET value = '"Z28="', isbinary = true, updatedate = NOW()"#,
    );
    let begun = Instant::now();
    while store.get(&get("ended")).await.unwrap().is_some() {
        assert!(begun.elapsed() < Duration::from_secs(20), "does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let kept = store.get(&get("kept")).await.unwrap().unwrap();
    assert_eq!((&kept.value[..], kept.metadata.len()), (&b"go"[..], 0));

    // The health check removes what ended, and nothing else.
    let rows = || psql(&server, "select string_agg(key, ',' order by key) from state");
    assert_eq!(rows(), "ended,kept");
    while rows() != "kept" {
        assert!(begun.elapsed() < Duration::from_secs(20), "not removed");
        store.ping().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.get(&get("kept")).await.unwrap().unwrap().value, "go");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sidecars_that_start_together_make_one_table() {
    let Some(server) = server().await else { return };
    for round in 0..5 {
        let mut writers = JoinSet::new();
        for writer in 0..8 {
            let store = open(&server).await;
            writers.spawn(async move { store.set(set(&format!("{round}-{writer}"), b"v")).await });
        }
        for written in writers.join_all().await {
            written.unwrap();
        }
        assert_eq!(psql(&server, "select count(*) from state"), "8");
        psql(&server, "drop table state");
    }
    // A Go sidecar that knows nothing of our lock makes it in the middle of ours.
    let store = open(&server).await;
    let mut psql = tokio::process::Command::new(programs::find("psql").unwrap());
    let port = server.address().port().to_string();
    psql.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-Xqc"]);
    psql.arg(format!("begin; {TABLE_OF_GO}; select pg_sleep(1); commit"));
    let (made, written) = tokio::join!(psql.status(), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        store.set(set("k", b"v")).await
    });
    assert!(made.unwrap().success());
    written.unwrap();
}

#[tokio::test]
async fn a_table_that_is_dropped_comes_back() {
    let Some(server) = server().await else { return };
    let store = open(&server).await;
    store.set(set("k", b"v")).await.unwrap();
    psql(&server, "drop table state");
    let error = store.get(&get("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    assert_eq!(store.get(&get("k")).await.unwrap(), None);
}

#[tokio::test]
async fn missing_privileges_are_told_as_such() {
    let Some(server) = server().await else { return };
    psql(&server, "create role app login");
    psql(&server, "revoke create on schema public from public");
    let store = open_as("app", &server).await;
    let error = store.set(set("k", b"v")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");

    open(&server).await.set(set("k", b"v")).await.unwrap();
    psql(&server, "grant select on state to app");
    assert_eq!(store.get(&get("k")).await.unwrap().unwrap().value, "v");
    for refused in [store.set(set("k", b"w")).await, store.delete(delete("k")).await] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    }
    assert_eq!(store.get(&get("k")).await.unwrap().unwrap().value, "v");
}

/// Each transaction touches the keys in an order of its own, and makes some of them new.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transactions_in_any_order_of_keys_do_not_stop_each_other() {
    let Some(server) = server().await else { return };
    let store = Arc::new(open(&server).await);
    let mut writers = JoinSet::new();
    for writer in 0..6_usize {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for round in 0..10_usize {
                let keys = (0..6).map(|step| format!("k{}", (writer * 5 + step * (writer | 1) + round) % 7));
                let operations = keys.enumerate().map(|(step, key)| match (writer + step) % 3 {
                    0 => Operation::Delete(delete(&key)),
                    _ => Operation::Set(set(&key, b"v")),
                });
                let begun = Instant::now();
                store
                    .transact(operations.collect(), &Metadata::new())
                    .await
                    .unwrap();
                assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
            }
        });
    }
    writers.join_all().await;
    // None had to be undone by the server for the sake of another.
    let deadlocks = "select deadlocks from pg_stat_database where datname = 'postgres'";
    assert_eq!(psql(&server, deadlocks), "0");
}

// deviation: D110
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_first_writes_in_transactions_at_once_one_succeeds() {
    let Some(server) = server().await else { return };
    let store = Arc::new(open(&server).await);
    store.ping().await.unwrap();
    for round in 0..10 {
        let mut writers = JoinSet::new();
        for writer in 0..6 {
            let store = Arc::clone(&store);
            let first = |key: &str| {
                let mut first = set(&format!("{round}-{key}"), writer.to_string().as_bytes());
                first.options.concurrency = Concurrency::FirstWrite;
                Operation::Set(first)
            };
            let operations = vec![first("a"), first("b")];
            writers.spawn(async move { store.transact(operations, &Metadata::new()).await });
        }
        let outcomes = writers.join_all().await;
        let lost = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        assert_eq!(Vec::from_iter(lost.map(Error::kind)), [ErrorKind::Conflict; 5]);
        let values = store.bulk_get(vec![get(&format!("{round}-a")), get(&format!("{round}-b"))], 1);
        let values = values
            .await
            .unwrap()
            .into_iter()
            .map(|item| item.unwrap().unwrap().value);
        let values = Vec::from_iter(values);
        assert_eq!(values[0], values[1], "two transactions are mixed");
    }
}

#[tokio::test]
async fn changes_of_one_kind_are_one_statement() {
    let mut changes: Vec<_> = (0..100)
        .map(|n| Change::set(set(&n.to_string(), b"v")).unwrap())
        .collect();
    assert_eq!(write::batches(&changes).0.len(), 1);
    changes.push(Change::set(set("7", b"again")).unwrap());
    assert_eq!(write::batches(&changes).0.len(), 2);
    changes.push(Change::delete(delete("absent")));
    assert_eq!(write::batches(&changes).0.len(), 3);
}

#[test]
fn an_item_may_live_for_ages() {
    let changes = [Change::set(set_for("k", b"v", &i64::MAX.to_string())).unwrap()];
    assert_eq!(write::batches(&changes).0.len(), 1);
}
