//! What a lock is after a crash of the server, after its row is gone, and while the server hangs.

use layotto_core::{Secret, key_prefix::PrefixedKey};
use layotto_testkit::{
    needs,
    server::{Server, postgres},
};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::client::postgres::MaxConns;

const LONG: Duration = Duration::from_secs(100);
const BRIEF: Duration = Duration::from_millis(300);
/// Longest wait for what takes milliseconds on a machine that has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, unless its programs are not there.
async fn server() -> Option<Server> {
    needs!(postgres::PROGRAM, None);
    Some(postgres::start(&[]).await.unwrap())
}

async fn open(server: &Server) -> Postgresql {
    let config = Config(Settings {
        connection_string: Secret::new(postgres::url(server)),
        max_conns: MaxConns::default(),
    });
    Postgresql::open(config, Context::standalone("test", "."))
        .await
        .unwrap()
}

fn by(owner: &str) -> Owned {
    Owned {
        resource: PrefixedKey("lock|||r".to_owned()),
        owner: owner.to_owned(),
    }
}

async fn token(locks: &Postgresql, owner: &str, lease: Duration) -> u64 {
    match locks.try_lock(&by(owner), lease).await.unwrap() {
        Grant::Acquired { fencing_token } => fencing_token.unwrap(),
        Grant::Busy => panic!("{owner} is refused a free lock"),
    }
}

#[tokio::test]
async fn a_crash_of_the_server_frees_no_lock_and_repeats_no_token() {
    let Some(mut server) = server().await else { return };
    let locks = open(&server).await;
    let first = token(&locks, "a", LONG).await;
    server.kill();
    let error = locks.try_lock(&by("b"), LONG).await.unwrap_err();
    assert_eq!(error.kind(), layotto_core::ErrorKind::Unavailable);
    server.resume().await.unwrap();
    let begun = Instant::now();
    let grant = loop {
        match locks.try_lock(&by("b"), LONG).await {
            Ok(grant) => break grant,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(1), "{error}"),
        }
        sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(grant, Grant::Busy);
    assert_eq!(locks.unlock(&by("a")).await.unwrap(), Status::Success);
    assert!(token(&locks, "b", LONG).await > first);
}

#[tokio::test]
async fn tokens_grow_over_the_removal_of_a_row() {
    let Some(server) = server().await else { return };
    let locks = open(&server).await;
    let mut last = 0;
    for _ in 0..3 {
        last = token(&locks, "a", LONG).await;
        assert_eq!(locks.unlock(&by("a")).await.unwrap(), Status::Success);
    }
    let psql = |statement: &str| postgres::psql(&server, statement).unwrap().trim().to_owned();
    psql(
        "insert into layotto_lock values ('free', '', now() - interval '50 minutes', 0),
          ('held', 'a', now() + interval '1 minute', 0)",
    );
    psql("update layotto_lock set expires_at = now() - interval '61 minutes' where resource = 'lock|||r'");
    let begun = Instant::now();
    while psql("select string_agg(resource, ',' order by resource) from layotto_lock") != "free,held" {
        assert!(begun.elapsed() < PATIENCE, "the row is not removed");
        locks.ping().await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    assert!(token(&locks, "b", LONG).await > last);
}

#[tokio::test]
async fn a_try_that_was_given_up_holds_the_lock_no_longer_than_its_lease() {
    let Some(server) = server().await else { return };
    let locks = open(&server).await;
    locks.ping().await.unwrap();
    assert_eq!(locks.unlock(&by("a")).await.unwrap(), Status::Unexist);
    server.freeze().unwrap();
    let begun = Instant::now();
    let tried = timeout(BRIEF, locks.try_lock(&by("a"), Duration::from_secs(1))).await;
    assert!(tried.is_err() && begun.elapsed() < 10 * BRIEF);
    server.thaw().unwrap();
    let begun = Instant::now();
    while locks.try_lock(&by("b"), LONG).await.unwrap() == Grant::Busy {
        assert!(begun.elapsed() < PATIENCE, "held for ever");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(locks.unlock(&by("b")).await.unwrap(), Status::Success);
}

#[tokio::test]
async fn owners_and_leases_that_cannot_be_stored_are_refused() {
    let locks = {
        let config = Config(Settings {
            connection_string: Secret::new("host=127.0.0.1 port=1".to_owned()),
            max_conns: MaxConns::default(),
        });
        Postgresql::open(config, Context::standalone("test", "."))
            .await
            .unwrap()
    };
    for (owner, lease) in [("", LONG), ("a\0", LONG), ("a", Duration::MAX)] {
        let error = locks.try_lock(&by(owner), lease).await.unwrap_err();
        assert_eq!(error.kind(), layotto_core::ErrorKind::InvalidArgument, "{error}");
    }
}
