//! What a Go sidecar sees of our locks, and we of its; fencing when the clock is no help.

use layotto_core::{Settings, key_prefix::PrefixedKey};
use layotto_testkit::{
    needs,
    server::{Server, redis as servers},
};

use super::*;

const LEASE: Duration = Duration::from_secs(30);

async fn locks(server: &Server) -> Redis {
    let settings = Settings::from_iter([("redisHost", server.address().to_string())]);
    let cx = Context::standalone("test", std::env::temp_dir());
    Redis::open(settings.parse().unwrap().config, cx).await.unwrap()
}

fn owned(owner: &str) -> Owned {
    Owned {
        resource: PrefixedKey("lock|||app||res".to_owned()),
        owner: owner.to_owned(),
    }
}

fn say(server: &Server, words: &[&str]) -> String {
    servers::cli(server, words).unwrap().trim().to_owned()
}

/// Milliseconds since 1970.
fn now() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// When a key ends, in milliseconds since 1970.
fn end(server: &Server, key: &str) -> i64 {
    say(server, &["pexpiretime", key]).parse().unwrap()
}

fn token(grant: Grant) -> u64 {
    match grant {
        Grant::Acquired { fencing_token } => fencing_token.unwrap(),
        Grant::Busy => panic!("the lock is not free"),
    }
}

// deviation: D088
#[tokio::test]
async fn a_grant_looks_as_that_of_a_go_sidecar_with_a_fence_beside_it() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let locks = locks(&server).await;
    let begun = now();
    let granted = token(locks.try_lock(&owned("a"), LEASE).await.unwrap());
    let lasts = begun + 30_000..=now() + 30_000;
    assert_eq!(say(&server, &["get", "lock|||app||res"]), "a");
    let ends = end(&server, "lock|||app||res");
    assert!(lasts.contains(&ends), "{ends}, not in {lasts:?}");
    let fence = "lock|||app||res|||fence";
    assert_eq!(say(&server, &["hget", fence, "token"]), granted.to_string());
    // The clock of a script goes on between its commands.
    let outlives = end(&server, fence) - ends;
    assert!((600_000..601_000).contains(&outlives), "{outlives}");
    assert_eq!(say(&server, &["dbsize"]), "2");
    // What a Go sidecar does to unlock.
    say(&server, &["del", "lock|||app||res"]);
    assert_eq!(locks.unlock(&owned("a")).await.unwrap(), Status::Unexist);
    assert!(token(locks.try_lock(&owned("b"), LEASE).await.unwrap()) > granted);
}

#[tokio::test]
async fn the_lock_of_a_go_sidecar_is_respected_and_has_no_token() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let locks = locks(&server).await;
    let before = token(locks.try_lock(&owned("ours"), LEASE).await.unwrap());
    assert_eq!(locks.unlock(&owned("ours")).await.unwrap(), Status::Success);
    for owner in ["theirs", "ours"] {
        say(&server, &["set", "lock|||app||res", owner, "nx", "ex", "10"]);
        assert_eq!(locks.try_lock(&owned("b"), LEASE).await.unwrap(), Grant::Busy);
        let (status, token) = locks.keep_alive(&owned("b"), LEASE).await.unwrap();
        assert_eq!((status, token), (Status::BelongsToOthers, None));
        let begun = now();
        let (status, token) = locks.keep_alive(&owned(owner), LEASE).await.unwrap();
        assert_eq!((status, token), (Status::Success, None));
        let lasts = begun + 30_000..=now() + 30_000;
        assert!(lasts.contains(&end(&server, "lock|||app||res")));
        assert_eq!(locks.unlock(&owned("b")).await.unwrap(), Status::BelongsToOthers);
        assert_eq!(locks.unlock(&owned(owner)).await.unwrap(), Status::Success);
    }
    assert!(token(locks.try_lock(&owned("b"), LEASE).await.unwrap()) > before);
}

#[tokio::test]
async fn tokens_grow_though_the_clock_went_back() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let locks = locks(&server).await;
    // A token of a clock that was centuries ahead.
    let ahead = 8_999_999_999_999_990_u64;
    say(
        &server,
        &["hset", "lock|||app||res|||fence", "token", &ahead.to_string()],
    );
    for more in 1..=3 {
        assert_eq!(
            token(locks.try_lock(&owned("a"), LEASE).await.unwrap()),
            ahead + more
        );
        locks.unlock(&owned("a")).await.unwrap();
    }
}
