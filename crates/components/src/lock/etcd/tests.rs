use futures::FutureExt;
use layotto_core::key_prefix::PrefixedKey;
use layotto_testkit::{
    fault_proxy::{FaultProxy, Faults, Flow},
    server::Server,
};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::client::etcd::{
    Endpoints,
    testing::{ctl, cx, no_lease_is_left, node, settings},
};

const LONG: Duration = Duration::from_secs(100);
const KEY: &str = "/layotto/lock|||app1||r";

async fn open(node: &Server) -> Etcd {
    Etcd::open(Config(settings([node])), cx()).await.unwrap()
}

fn by(owner: &str) -> Owned {
    Owned {
        resource: PrefixedKey("lock|||app1||r".to_owned()),
        owner: owner.to_owned(),
    }
}

impl Etcd {
    async fn take(&self, owner: &str, expire: Duration) -> Option<u64> {
        match self.try_lock(&by(owner), expire).await.unwrap() {
            Grant::Acquired { fencing_token } => fencing_token,
            Grant::Busy => None,
        }
    }
}

/// Takes the lock as a Go sidecar does.
fn take_in_go(node: &Server, owner: &str, seconds: &str) {
    let granted = ctl(node, &["lease", "grant", seconds]);
    let lease = granted.split_whitespace().nth(1).unwrap();
    ctl(node, &["put", KEY, owner, &format!("--lease={lease}")]);
}

// deviation: D103
#[tokio::test(flavor = "multi_thread")]
async fn no_lease_outlives_its_lock() {
    let Some(node) = node(&[]).await else { return };
    let locks = open(&node).await;
    locks.take("a", LONG).await.unwrap();
    assert_eq!(locks.take("b", LONG).await, None);
    let list = ctl(&node, &["lease", "list"]);
    assert!(list.starts_with("found 1 leases"), "{list}");
    assert_eq!(locks.unlock(&by("a")).await.unwrap(), Status::Success);
    no_lease_is_left(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_loses_a_race_leaves_no_lease() {
    let Some(node) = node(&[]).await else { return };
    let locks = Arc::new(open(&node).await);
    let mut rivals = tokio::task::JoinSet::new();
    for rival in 0..20 {
        let locks = Arc::clone(&locks);
        rivals.spawn(async move { locks.try_lock(&by(&rival.to_string()), LONG).await.unwrap() });
    }
    let granted = rivals.join_all().await;
    assert_eq!(granted.iter().filter(|grant| **grant != Grant::Busy).count(), 1);
    let owner = ctl(&node, &["get", KEY, "--print-value-only"]);
    assert_eq!(locks.unlock(&by(owner.trim())).await.unwrap(), Status::Success);
    no_lease_is_left(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_is_given_up_leaves_neither_lock_nor_lease() {
    let Some(node) = node(&[]).await else { return };
    let locks = open(&node).await;
    locks.unlock(&by("a")).await.unwrap();
    for wait in 0..40 {
        let lock = by("a");
        let trying = locks.try_lock(&lock, LONG);
        let outcome = tokio::time::timeout(Duration::from_micros(wait * 150), trying).await;
        if outcome.is_ok() {
            locks.unlock(&by("a")).await.unwrap();
        }
    }
    drop(locks.try_lock(&by("a"), LONG).now_or_never());
    no_lease_is_left(&node).await;
    locks.take("b", LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_a_go_sidecar_counts() {
    let Some(node) = node(&[]).await else { return };
    let locks = open(&node).await;
    take_in_go(&node, "go", "100");
    assert_eq!(locks.take("rust", LONG).await, None);
    assert_eq!(locks.unlock(&by("rust")).await.unwrap(), Status::BelongsToOthers);
    let (status, token) = locks.keep_alive(&by("go"), LONG).await.unwrap();
    assert_eq!(status, Status::Success);
    assert_eq!(locks.unlock(&by("go")).await.unwrap(), Status::Success);
    no_lease_is_left(&node).await;
    assert!(locks.take("rust", LONG).await > token);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_looks_as_one_of_a_go_sidecar() {
    let Some(node) = node(&[]).await else { return };
    let locks = open(&node).await;
    locks.take("rust", LONG).await.unwrap();
    assert_eq!(ctl(&node, &["get", "", "--prefix"]), format!("{KEY}\nrust\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_time_puts_the_key_under_another_lease_and_keeps_the_token() {
    let Some(node) = node(&[]).await else { return };
    let locks = open(&node).await;
    let token = locks.take("a", LONG).await;
    let (_, same) = locks.keep_alive(&by("a"), LONG).await.unwrap();
    assert_eq!(ctl(&node, &["lease", "list"]).lines().count(), 2);
    let (status, kept) = locks.keep_alive(&by("a"), LONG / 2).await.unwrap();
    assert_eq!((status, kept, same), (Status::Success, token, token));
    // The lease before is revoked, and with it only what is no longer under it.
    let begun = Instant::now();
    let lease = loop {
        let list = ctl(&node, &["lease", "list"]);
        let leases: Vec<_> = list.lines().skip(1).collect();
        if let [lease] = leases[..] {
            break lease.to_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{list}");
        sleep(Duration::from_millis(20)).await;
    };
    let left = ctl(&node, &["lease", "timetolive", &lease, "--keys"]);
    assert!(
        left.contains("granted with TTL(50s)") && left.contains(KEY),
        "{left}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_below_the_least_one_is_kept_alive_too() {
    let Some(node) = node(&[]).await else { return };
    let locks = open(&node).await;
    let second = Duration::from_secs(1);
    let token = locks.take("a", second).await;
    let begun = Instant::now();
    while begun.elapsed() < 4 * second {
        let kept = locks.keep_alive(&by("a"), second).await.unwrap();
        assert_eq!(kept, (Status::Success, token));
        sleep(second / 4).await;
    }
    // What is left is the one lease of the lock.
    locks.unlock(&by("a")).await.unwrap();
    no_lease_is_left(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keep_alive_that_is_given_up_leaves_the_lock_to_its_owner() {
    let Some(node) = node(&[]).await else { return };
    let way = FaultProxy::start(node.address()).await.unwrap();
    let (cx, far) = (cx(), open(&node).await);
    let settings = Settings {
        endpoints: Endpoints(vec![way.address().to_string()]),
        ..Settings::default()
    };
    let locks = Etcd::open(Config(settings), cx.clone()).await.unwrap();
    locks.take("a", LONG).await.unwrap();
    let key = locks.key(&by("a"));
    let lease = async || far.holder(&key).await.unwrap().unwrap().lease;
    let before = lease().await;
    // Time to see what a request did before its answer is there.
    let late = Flow {
        delay: Duration::from_millis(300),
        ..Flow::default()
    };
    way.set(Faults {
        to_client: late,
        ..Faults::default()
    })
    .await;
    let moved = async {
        while lease().await == before {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let lock = by("a");
    tokio::select! {
        kept = locks.keep_alive(&lock, LONG / 2) => panic!("it was not given up: {kept:?}"),
        () = moved => {}
    }
    // Whatever is done once nobody waits any more is done.
    drop(locks);
    cx.tasks.close();
    timeout(Duration::from_secs(10), cx.tasks.wait()).await.unwrap();
    assert_eq!(far.take("b", LONG).await, None);
    assert_eq!(far.unlock(&by("a")).await.unwrap(), Status::Success);
}
