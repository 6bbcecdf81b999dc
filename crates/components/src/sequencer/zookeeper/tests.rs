//! Ids beside a Go sidecar, over crashes, and at the end of the range.

use std::{collections::HashSet, time::Duration};

use layotto_core::Settings;
use layotto_testkit::{
    needs,
    server::{Server, zookeeper},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::*;
use crate::client::zookeeper::EPHEMERAL;

/// A server, unless its program is not there.
async fn server() -> Option<Server> {
    needs!(zookeeper::PROGRAM, None);
    Some(zookeeper::start().await.unwrap())
}

async fn open(server: &Server) -> Arc<Zookeeper> {
    let settings = Settings::from_iter([("zookeeperHosts", server.address().to_string())]);
    let cx = Context::standalone("test", ".");
    Arc::new(
        Zookeeper::open(settings.parse().unwrap().config, cx)
            .await
            .unwrap(),
    )
}

fn key(name: &str) -> PrefixedKey {
    PrefixedKey(format!("sequencer|||app1||{name}"))
}

async fn next(ids: &Zookeeper, name: &str) -> Result<i64> {
    ids.next_id(&key(name), &Metadata::new()).await
}

/// The node is what Go Layotto makes, except that it stays.
// deviation: D116
#[tokio::test]
async fn the_first_id_is_one_and_the_node_stays() {
    let Some(server) = server().await else { return };
    let ids = open(&server).await;
    for expected in 1..=3 {
        assert_eq!(next(&ids, "k").await.unwrap(), expected);
    }
    drop(ids);
    assert_eq!(next(&*open(&server).await, "k").await.unwrap(), 4);
    let session = Client::connect(&server.address().to_string()).await.unwrap();
    let (data, stat) = session.get_data("/sequencer|||app1||k").await.unwrap();
    assert_eq!((data.len(), stat.version, stat.ephemeral_owner), (0, 4, 0));
}

// deviation: D116
#[tokio::test]
async fn a_node_of_a_go_sidecar_is_refused() {
    let Some(server) = server().await else { return };
    let go = Client::connect(&server.address().to_string()).await.unwrap();
    go.create("/sequencer|||app1||k", &[], &EPHEMERAL).await.unwrap();
    let ids = open(&server).await;
    let error = next(&ids, "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.message().contains("ephemeral"), "{error}");
}

#[tokio::test]
async fn no_crash_of_the_server_repeats_an_id() {
    let Some(mut server) = server().await else { return };
    let ids = open(&server).await;
    let mut last = 0;
    for _ in 0..2 {
        for _ in 0..20 {
            let id = next(&ids, "k").await.unwrap();
            assert!(id > last, "{id} follows {last}");
            last = id;
        }
        server.kill();
        let error = next(&ids, "k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        server.resume().await.unwrap();
        let begun = Instant::now();
        last = loop {
            match next(&ids, "k").await {
                Ok(id) => {
                    assert!(id > last, "{id} follows {last}");
                    break id;
                }
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(2), "{error}"),
            }
            sleep(Duration::from_millis(5)).await;
        };
    }
}

// deviation: D116
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sidecars_that_use_a_key_first_together_get_different_ids() {
    let Some(server) = server().await else { return };
    let sidecars = [open(&server).await, open(&server).await];
    let mut callers = JoinSet::new();
    for caller in 0..8_usize {
        let ids = Arc::clone(&sidecars[caller % 2]);
        callers.spawn(async move {
            let mut mine = Vec::new();
            for _ in 0..20 {
                mine.push(next(&ids, "k").await.unwrap());
            }
            assert!(mine.is_sorted());
            mine
        });
    }
    let all: HashSet<_> = callers.join_all().await.into_iter().flatten().collect();
    assert_eq!(all, (1..=160).collect());
}

#[tokio::test]
async fn a_bound_that_does_not_hold_is_told_and_no_id_below_it_is_given() {
    let Some(server) = server().await else { return };
    let ids = open(&server).await;
    next(&ids, "used").await.unwrap();
    for (name, bound) in [("missing", 10), ("used", 10), ("used", i64::from(i32::MAX) + 1)] {
        let bounds = BiggerThan::from([(key(name), bound)]);
        let error = ids.ensure_bigger_than(&bounds).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
        assert!(error.message().contains("can not satisfy biggerThan"), "{error}");
        let error = next(&ids, name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    }
    let bounds = BiggerThan::from([(key("other"), 0), (key("used"), 1)]);
    ids.ensure_bigger_than(&bounds).await.unwrap();
    assert!(next(&ids, "used").await.unwrap() > 1);
}
