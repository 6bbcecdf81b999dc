use std::sync::Arc;

use layotto_core::key_prefix::PrefixedKey;

use super::*;
use crate::{
    Components,
    ops::fake::{self, Asked, Fake},
};

fn wish(store: &str, resource: &str, owner: &str) -> Request {
    Request {
        store: store.to_owned(),
        resource: resource.to_owned(),
        owner: owner.to_owned(),
    }
}

fn message<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    outcome.unwrap_err().message().to_owned()
}

#[tokio::test]
async fn checks_in_the_order_of_upstream() {
    let runtime = fake::runtime(&Arc::default());
    for (store, resource, owner, expire, expected) in [
        ("nope", "", "", 0, "ResourceId is empty in lock store nope"),
        ("nope", "r", "", 0, "LockOwner is empty in lock store nope"),
        ("nope", "r", "o", 0, "Expire is not positive in lock store nope"),
        ("nope", "r", "o", -5, "Expire is not positive in lock store nope"),
        ("nope", "a||b", "o", 1, "lock store nope not found"),
        (
            "demo",
            "a||b",
            "o",
            1,
            "input key/keyPrefix 'a||b' can't contain '||'",
        ),
    ] {
        assert_eq!(
            message(try_lock(&runtime, wish(store, resource, owner), expire).await),
            expected
        );
        assert_eq!(
            message(keep_alive(&runtime, wish(store, resource, owner), expire).await),
            expected
        );
        if !expected.starts_with("Expire") {
            assert_eq!(
                message(unlock(&runtime, wish(store, resource, owner)).await),
                expected
            );
        }
    }
    let none = fake::runtime_of(Components::default());
    assert_eq!(
        message(try_lock(&none, wish("a", "", ""), 0).await),
        "lock store is not configured"
    );
}

#[tokio::test]
async fn hands_over_the_prefixed_resource() {
    let fake = Arc::new(Fake::default());
    let runtime = fake::runtime(&fake);
    try_lock(&runtime, wish("demo", "r", "o"), 3).await.unwrap();
    unlock(&runtime, wish("demo", "r", "o")).await.unwrap();
    keep_alive(&runtime, wish("demo", "r", "o"), 4).await.unwrap();
    let lock = Owned {
        resource: PrefixedKey("lock|||app1||r".to_owned()),
        owner: "o".to_owned(),
    };
    let expected = [
        Asked::TryLock(lock.clone(), Duration::from_secs(3)),
        Asked::Unlock(lock.clone()),
        Asked::KeepAlive(lock, Duration::from_secs(4)),
    ];
    assert_eq!(fake.asked(), expected);
}
