//! Ids over crashes, and from several sidecars at once.

use std::{collections::HashSet, num::NonZeroU16, time::Duration};

use layotto_core::{ErrorKind, Secret};
use layotto_testkit::{
    needs,
    server::{Server, postgres},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::*;
use crate::client::postgres::MaxConns;

/// A server, unless its programs are not there.
async fn server() -> Option<Server> {
    needs!(postgres::PROGRAM, None);
    Some(postgres::start(&[]).await.unwrap())
}

async fn open(server: &Server) -> Arc<Postgresql> {
    let config = Config(Settings {
        connection_string: Secret::new(postgres::url(server)),
        max_conns: MaxConns(NonZeroU16::new(4).unwrap()),
    });
    let cx = Context::standalone("test", ".");
    Arc::new(Postgresql::open(config, cx).await.unwrap())
}

fn key() -> PrefixedKey {
    PrefixedKey("sequencer|||a".to_owned())
}

async fn next(ids: &Postgresql) -> Result<i64> {
    ids.next_id(&key(), &Metadata::new()).await
}

#[tokio::test]
async fn no_crash_of_the_server_repeats_an_id() {
    let Some(mut server) = server().await else { return };
    let ids = open(&server).await;
    assert_eq!(next(&ids).await.unwrap(), 1);
    assert_eq!(ids.segment(&key(), 100).await.unwrap(), 2..=101);
    assert!(ids.segment(&key(), 0).await.unwrap().is_empty());
    let mut last = 101;
    for _ in 0..3 {
        let hammering = async {
            while let Ok(id) = next(&ids).await {
                assert!(id > last, "{id} follows {last}");
                last = id;
            }
        };
        let killing = async {
            sleep(Duration::from_millis(100)).await;
            server.kill();
        };
        tokio::join!(hammering, killing);
        server.resume().await.unwrap();
        let begun = Instant::now();
        last = loop {
            match next(&ids).await {
                Ok(id) => {
                    assert!(id > last, "{id} follows {last}");
                    break id;
                }
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(1), "{error}"),
            }
            sleep(Duration::from_millis(5)).await;
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sidecars_never_hand_out_the_same_id() {
    let Some(server) = server().await else { return };
    let sidecars = [open(&server).await, open(&server).await];
    let mut callers = JoinSet::new();
    for caller in 0..8_usize {
        let ids = Arc::clone(&sidecars[caller % 2]);
        callers.spawn(async move {
            let mut mine = Vec::new();
            for _ in 0..20 {
                mine.push(next(&ids).await.unwrap());
                mine.extend(ids.segment(&key(), 3).await.unwrap());
            }
            assert!(mine.is_sorted());
            mine
        });
    }
    let all: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    let different: HashSet<_> = all.iter().collect();
    assert_eq!((all.len(), different.len()), (640, 640));
}

#[tokio::test]
async fn bounds_raise_counters_and_never_lower_them() {
    let Some(server) = server().await else { return };
    let ids = open(&server).await;
    for (bound, expected) in [(-5, 1), (1000, 1001), (5, 1002)] {
        let other = PrefixedKey("other".to_owned());
        let bounds = BiggerThan::from([(key(), bound), (other, bound)]);
        ids.ensure_bigger_than(&bounds).await.unwrap();
        assert_eq!(next(&ids).await.unwrap(), expected);
    }
    let bounds = BiggerThan::from([(key(), i64::MAX)]);
    ids.ensure_bigger_than(&bounds).await.unwrap();
    assert_eq!(next(&ids).await.unwrap_err().kind(), ErrorKind::ResourceExhausted);
    let segment = ids.segment(&key(), 10).await;
    assert_eq!(segment.unwrap_err().kind(), ErrorKind::ResourceExhausted);
}
