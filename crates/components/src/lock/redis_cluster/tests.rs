//! Some of the servers away, frozen, restarted empty, or of another mind.

use layotto_core::{Settings, key_prefix::PrefixedKey};
use layotto_testkit::{
    needs,
    server::{Server, redis as servers},
};

use super::*;

const LEASE: Duration = Duration::from_secs(30);

/// Leaves the test, saying why, where the server's program is not there.
macro_rules! needs_servers {
    ($count:literal) => {{
        needs!(servers::PROGRAM);
        let mut servers = Vec::new();
        for _ in 0..$count {
            servers.push(servers::start(&[]).await.unwrap());
        }
        let locks = locks(&servers).await;
        (servers, locks)
    }};
}

async fn locks(servers: &[Server]) -> RedisCluster {
    let hosts: Vec<_> = servers
        .iter()
        .map(|server| server.address().to_string())
        .collect();
    let settings = Settings::from_iter([("redisHosts", hosts.join(",")), ("concurrency", "4".into())]);
    let cx = Context::standalone("test", std::env::temp_dir());
    RedisCluster::open(settings.parse().unwrap().config, cx)
        .await
        .unwrap()
}

fn owned(owner: &str) -> Owned {
    Owned {
        resource: PrefixedKey("lock|||r".to_owned()),
        owner: owner.to_owned(),
    }
}

fn say(server: &Server, words: &[&str]) -> String {
    servers::cli(server, words).unwrap().trim().to_owned()
}

fn holder(server: &Server) -> String {
    say(server, &["get", "lock|||r"])
}

/// Waits until all servers say that `owner` has the lock: what they are told goes on by itself.
async fn held_by(servers: &[Server], owners: &[&str]) {
    let begun = Instant::now();
    while servers.iter().map(holder).collect::<Vec<_>>() != owners {
        let held: Vec<_> = servers.iter().map(holder).collect();
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{held:?}, not {owners:?}"
        );
        sleep(Duration::from_millis(5)).await;
    }
}

async fn take(locks: &RedisCluster, owner: &str) -> u64 {
    match locks.try_lock(&owned(owner), LEASE).await.unwrap() {
        Grant::Acquired { fencing_token } => fencing_token.unwrap(),
        Grant::Busy => panic!("the lock is not free for {owner}"),
    }
}

// deviation: D085
#[tokio::test]
async fn a_lock_is_held_at_every_server_and_given_back_at_every_server() {
    let (servers, locks) = needs_servers!(3);
    take(&locks, "a").await;
    assert_eq!(locks.try_lock(&owned("b"), LEASE).await.unwrap(), Grant::Busy);
    // A second try of the holder's takes nothing of the first away.
    assert_eq!(locks.try_lock(&owned("a"), LEASE).await.unwrap(), Grant::Busy);
    held_by(&servers, &["a"; 3]).await;
    assert_eq!(locks.unlock(&owned("a")).await.unwrap(), Status::Success);
    held_by(&servers, &[""; 3]).await;
    take(&locks, "b").await;
}

// deviation: D085
#[tokio::test]
async fn with_any_one_server_gone_everything_works_and_tokens_grow() {
    let (mut servers, locks) = needs_servers!(3);
    let mut last = take(&locks, "first").await;
    locks.unlock(&owned("first")).await.unwrap();
    for (gone, server) in servers.iter_mut().enumerate() {
        server.kill();
        for owner in ["a", "b"] {
            let begun = Instant::now();
            let token = take(&locks, owner).await;
            assert!(token > last, "{token} follows {last} without server {gone}");
            assert_eq!(locks.try_lock(&owned("c"), LEASE).await.unwrap(), Grant::Busy);
            let kept = locks.keep_alive(&owned(owner), LEASE).await.unwrap();
            assert_eq!(kept, (Status::Success, Some(token)));
            assert_eq!(locks.unlock(&owned("c")).await.unwrap(), Status::BelongsToOthers);
            assert_eq!(locks.unlock(&owned(owner)).await.unwrap(), Status::Success);
            assert_eq!(locks.unlock(&owned(owner)).await.unwrap(), Status::Unexist);
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
            last = token;
        }
        // It comes back without its memory.
        server.resume().await.unwrap();
        while locks.servers.clients[gone].ping().await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn with_any_one_server_frozen_everything_works() {
    let (servers, locks) = needs_servers!(3);
    for client in &locks.servers.clients {
        client.ping().await.unwrap();
    }
    for (number, frozen) in servers.iter().enumerate() {
        frozen.freeze().unwrap();
        let owner = format!("owner{number}");
        let begun = Instant::now();
        take(&locks, &owner).await;
        assert_eq!(locks.try_lock(&owned("c"), LEASE).await.unwrap(), Grant::Busy);
        assert_eq!(
            locks.keep_alive(&owned(&owner), LEASE).await.unwrap().0,
            Status::Success
        );
        assert_eq!(locks.unlock(&owned(&owner)).await.unwrap(), Status::Success);
        locks.ping().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        frozen.thaw().unwrap();
        // What it was told meanwhile, it does in order.
        while locks.servers.clients[number].ping().await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
        held_by(std::slice::from_ref(frozen), &[""]).await;
    }
}

#[tokio::test]
async fn without_most_servers_there_is_no_lock_and_nobody_waits() {
    let (mut servers, locks) = needs_servers!(3);
    take(&locks, "a").await;
    servers[1].kill();
    servers[2].kill();
    let begun = Instant::now();
    for error in [
        locks.try_lock(&owned("b"), LEASE).await.map(drop).unwrap_err(),
        locks.keep_alive(&owned("a"), LEASE).await.map(drop).unwrap_err(),
        locks.unlock(&owned("a")).await.map(drop).unwrap_err(),
        locks.ping().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_took_longer_than_a_tenth_of_the_lease_is_given_back() {
    let (servers, locks) = needs_servers!(3);
    locks.ping().await.unwrap();
    for server in &servers {
        say(server, &["client", "pause", "60000", "write"]);
    }
    let lease = Duration::from_secs(1);
    let error = locks.try_lock(&owned("a"), lease).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    for server in &servers {
        say(server, &["client", "unpause"]);
    }
    // All that was sent is carried out now, and taken back.
    locks.ping().await.unwrap();
    held_by(&servers, &[""; 3]).await;
    take(&locks, "b").await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_behind() {
    let (servers, locks) = needs_servers!(3);
    for polls in 1..20 {
        let (lock, mut left) = (owned("a"), polls);
        let mut trying = locks.try_lock(&lock, LEASE);
        // Polled some times, which gets it further each time.
        let dropped = std::future::poll_fn(|cx| {
            left -= 1;
            match trying.as_mut().poll(cx) {
                std::task::Poll::Pending if left > 0 => std::task::Poll::Pending,
                std::task::Poll::Pending => std::task::Poll::Ready(true),
                std::task::Poll::Ready(_) => std::task::Poll::Ready(false),
            }
        });
        let was_dropped = dropped.await;
        drop(trying);
        if !was_dropped {
            assert_eq!(locks.unlock(&lock).await.unwrap(), Status::Success);
        }
        locks.tasks.close();
        locks.tasks.wait().await;
        locks.tasks.reopen();
        held_by(&servers, &[""; 3]).await;
    }
}

#[tokio::test]
async fn a_lock_that_is_left_over_at_one_server_stops_nobody() {
    let (servers, locks) = needs_servers!(3);
    for server in &servers {
        say(server, &["set", "lock|||r", "left over"]);
        take(&locks, "a").await;
        assert_eq!(locks.unlock(&owned("a")).await.unwrap(), Status::Success);
        assert_eq!(locks.unlock(&owned("left over")).await.unwrap(), Status::Unexist);
        // And its owner can clear it away.
        held_by(&servers, &[""; 3]).await;
    }
}

// deviation: D085
#[tokio::test]
async fn who_has_the_lock_at_a_minority_only_has_lost_it() {
    let (servers, locks) = needs_servers!(3);
    take(&locks, "a").await;
    held_by(&servers, &["a"; 3]).await;
    say(&servers[0], &["flushall"]);
    assert_eq!(
        locks.keep_alive(&owned("a"), LEASE).await.unwrap().0,
        Status::Success
    );
    say(&servers[1], &["flushall"]);
    assert_eq!(
        locks.keep_alive(&owned("a"), LEASE).await.unwrap(),
        (Status::Unexist, None)
    );
    // Nothing of it is kept alive.
    held_by(&servers, &[""; 3]).await;
    for server in &servers[..2] {
        say(server, &["set", "lock|||r", "theirs"]);
    }
    assert_eq!(locks.try_lock(&owned("a"), LEASE).await.unwrap(), Grant::Busy);
    // What was got is given back.
    held_by(&servers, &["theirs", "theirs", ""]).await;
    assert_eq!(locks.unlock(&owned("a")).await.unwrap(), Status::BelongsToOthers);
    assert_eq!(locks.unlock(&owned("theirs")).await.unwrap(), Status::Success);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_ask_at_once_each_gets_its_turn_and_a_greater_token() {
    let (servers, _) = needs_servers!(5);
    let held = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut rivals = tokio::task::JoinSet::new();
    for rival in 0..6 {
        // Each with connections of its own, as sidecars have.
        let (locks, held) = (locks(&servers).await, Arc::clone(&held));
        rivals.spawn(async move {
            let (owner, mut tokens) = (owned(&format!("rival{rival}")), Vec::new());
            while tokens.len() < 3 {
                if let Grant::Acquired { fencing_token } = locks.try_lock(&owner, LEASE).await.unwrap() {
                    assert!(
                        !held.swap(true, std::sync::atomic::Ordering::SeqCst),
                        "two hold the lock"
                    );
                    tokens.push(fencing_token.unwrap());
                    held.store(false, std::sync::atomic::Ordering::SeqCst);
                    assert_eq!(locks.unlock(&owner).await.unwrap(), Status::Success);
                }
                tokio::task::yield_now().await;
            }
            tokens
        });
    }
    let mut all: Vec<u64> = rivals.join_all().await.into_iter().flatten().collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 18, "a token came twice");
}

#[tokio::test]
async fn servers_that_are_no_servers_of_their_own_are_refused() {
    for settings in [
        vec![],
        vec![("redisHosts", "a,b,c"), ("redisType", "cluster")],
        vec![
            ("redisHosts", "a,b,c"),
            ("failover", "true"),
            ("sentinelMasterName", "m"),
        ],
        vec![("redisHosts", "a,:,c")],
    ] {
        let config = Settings::from_iter(settings).parse().unwrap().config;
        let cx = Context::standalone("test", std::env::temp_dir());
        let Err(error) = RedisCluster::open(config, cx).await else {
            panic!("opened");
        };
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}
