//! Locks beside a Go sidecar, and what becomes of their sessions.

use layotto_core::{Settings, key_prefix::PrefixedKey};
use layotto_testkit::{
    needs,
    server::{Server, zookeeper},
};
use tokio::time::{Instant, sleep, timeout};

use super::*;

const NODE: &str = "/lock|||app1||r";
const LONG: Duration = Duration::from_secs(30);
const BRIEF: Duration = Duration::from_millis(300);
/// Longest wait for what takes milliseconds on a machine that has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, unless its program is not there.
async fn server() -> Option<Server> {
    needs!(zookeeper::PROGRAM, None);
    Some(zookeeper::start().await.unwrap())
}

async fn open_in(server: &Server, cx: Context) -> Zookeeper {
    let settings = Settings::from_iter([("zookeeperHosts", server.address().to_string())]);
    Zookeeper::open(settings.parse().unwrap().config, cx)
        .await
        .unwrap()
}

async fn open(server: &Server) -> Zookeeper {
    open_in(server, Context::standalone("test", ".")).await
}

fn by(owner: &str) -> Owned {
    Owned {
        resource: PrefixedKey("lock|||app1||r".to_owned()),
        owner: owner.to_owned(),
    }
}

async fn session(server: &Server) -> Client {
    Client::connect(&server.address().to_string()).await.unwrap()
}

async fn token(locks: &Zookeeper, owner: &str, lease: Duration) -> u64 {
    match locks.try_lock(&by(owner), lease).await.unwrap() {
        Grant::Acquired { fencing_token } => fencing_token.unwrap(),
        Grant::Busy => panic!("{owner} is refused a free lock"),
    }
}

/// Waits until nobody holds the lock.
async fn until_free(session: &Client) -> Duration {
    let begun = Instant::now();
    while session.check_stat(NODE).await.unwrap().is_some() {
        assert!(begun.elapsed() < PATIENCE, "the lock stays held");
        sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn the_node_is_that_of_a_go_sidecar_and_gone_with_the_unlock() {
    let Some(server) = server().await else { return };
    let (locks, go) = (open(&server).await, session(&server).await);
    let granted = token(&locks, "owner1", LONG).await;
    let (data, stat) = go.get_data(NODE).await.unwrap();
    assert_eq!((&data[..], stat.version), (&b"owner1"[..], 0));
    assert_eq!(u64::try_from(stat.czxid).unwrap(), granted);
    assert_ne!(stat.ephemeral_owner, 0);
    assert_eq!(
        locks.unlock(&by("owner2")).await.unwrap(),
        Status::BelongsToOthers
    );
    assert_eq!(locks.unlock(&by("owner1")).await.unwrap(), Status::Success);
    go.sync(NODE).await.unwrap();
    assert_eq!(go.check_stat(NODE).await.unwrap(), None);
}

#[tokio::test]
async fn a_lock_of_a_go_sidecar_is_busy_and_can_be_given_back_but_not_extended() {
    let Some(server) = server().await else { return };
    let (locks, go) = (open(&server).await, session(&server).await);
    go.create(NODE, b"owner1", &EPHEMERAL).await.unwrap();
    assert_eq!(locks.try_lock(&by("owner2"), LONG).await.unwrap(), Grant::Busy);
    for (owner, status) in [
        ("owner1", Status::InternalError),
        ("owner2", Status::BelongsToOthers),
    ] {
        assert_eq!(locks.keep_alive(&by(owner), LONG).await.unwrap(), (status, None));
    }
    assert_eq!(
        locks.unlock(&by("owner2")).await.unwrap(),
        Status::BelongsToOthers
    );
    assert_eq!(locks.unlock(&by("owner1")).await.unwrap(), Status::Success);
    assert_eq!(
        locks.keep_alive(&by("owner1"), LONG).await.unwrap(),
        (Status::Unexist, None)
    );
}

/// The end of a lease that was given back elsewhere leaves the next holder's node alone.
#[tokio::test]
async fn the_end_of_a_lost_grant_does_not_free_the_lock_of_the_next_owner() {
    let Some(server) = server().await else { return };
    let (first, second) = (open(&server).await, open(&server).await);
    let lost = token(&first, "a", Duration::from_secs(1)).await;
    assert_eq!(second.unlock(&by("a")).await.unwrap(), Status::Success);
    let granted = token(&second, "b", LONG).await;
    assert!(granted > lost);
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(first.try_lock(&by("c"), LONG).await.unwrap(), Grant::Busy);
    assert_eq!(
        first.keep_alive(&by("a"), LONG).await.unwrap(),
        (Status::BelongsToOthers, None)
    );
    assert_eq!(
        second.keep_alive(&by("b"), LONG).await.unwrap(),
        (Status::Success, Some(granted))
    );
}

#[tokio::test]
async fn what_is_held_outlives_a_component_that_is_opened_anew() {
    let Some(server) = server().await else { return };
    let cx = Context::standalone("test", ".");
    let before = open_in(&server, cx.clone()).await;
    let granted = token(&before, "a", Duration::from_secs(1)).await;
    let after = open_in(&server, cx).await;
    drop(before);
    assert_eq!(
        after.keep_alive(&by("a"), LONG).await.unwrap(),
        (Status::Success, Some(granted))
    );
    assert_eq!(after.unlock(&by("a")).await.unwrap(), Status::Success);
}

#[tokio::test]
async fn the_end_of_the_process_frees_no_lock() {
    let Some(server) = server().await else { return };
    let cx = Context::standalone("test", ".");
    let (locks, other) = (open_in(&server, cx.clone()).await, session(&server).await);
    token(&locks, "a", LONG).await;
    cx.shutdown.cancel();
    cx.tasks.close();
    cx.tasks.wait().await;
    drop((locks, cx));
    sleep(BRIEF).await;
    other.sync(NODE).await.unwrap();
    assert!(other.check_stat(NODE).await.unwrap().is_some());
}

#[tokio::test]
async fn a_frozen_server_ends_callers_at_their_deadline_and_goes_on() {
    let Some(server) = server().await else { return };
    let locks = open(&server).await;
    assert_eq!(locks.unlock(&by("a")).await.unwrap(), Status::Unexist);
    server.freeze().unwrap();
    let begun = Instant::now();
    for _ in 0..3 {
        assert!(timeout(BRIEF, locks.try_lock(&by("a"), LONG)).await.is_err());
    }
    assert!(begun.elapsed() < 10 * BRIEF);
    server.thaw().unwrap();
    let begun = Instant::now();
    loop {
        match locks.try_lock(&by("b"), LONG).await {
            Ok(Grant::Acquired { .. }) => break,
            _ => assert!(begun.elapsed() < PATIENCE, "does not go on"),
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(locks.unlock(&by("b")).await.unwrap(), Status::Success);
}

#[tokio::test]
async fn a_lease_ends_by_closing_a_session_that_would_live_longer() {
    let Some(server) = server().await else { return };
    let (locks, other) = (open(&server).await, session(&server).await);
    let begun = Instant::now();
    token(&locks, "a", Duration::from_secs(1)).await;
    until_free(&other).await;
    let held = begun.elapsed();
    assert!(held >= Duration::from_millis(950) && held < SHORTEST, "{held:?}");
    // Its place is free again.
    assert_eq!(locks.grants.free_places(), grants::MOST);
}
