//! Both stores must pass each of these: a test runs them one after the other.

use std::{sync::Arc, time::Duration};

use layotto_core::{
    Context,
    key_prefix::PrefixedKey,
    lock::{Grant, LockStore, Owned, Status},
};
use tempfile::TempDir;

use super::{Embedded, Memory};
use crate::{
    client::embedded::{Durability, Store},
    clock::Clock,
};

const LEASE: Duration = Duration::from_secs(2);

struct Subject {
    locks: Arc<dyn LockStore>,
    clock: Clock,
    folder: TempDir,
}

async fn embedded(folder: TempDir, clock: Clock) -> Subject {
    let path = folder.path().join("lock.db");
    let store = Store::open(path, Durability::Fsync, clock.clone()).await.unwrap();
    Subject {
        locks: Arc::new(Embedded {
            store: Arc::new(store),
        }),
        clock,
        folder,
    }
}

async fn subjects() -> [Subject; 2] {
    let clock = Clock::manual();
    let memory = Subject {
        locks: Arc::new(Memory::with_clock(
            clock.clone(),
            &Context::standalone("test", "."),
        )),
        clock,
        folder: tempfile::tempdir().unwrap(),
    };
    [
        memory,
        embedded(tempfile::tempdir().unwrap(), Clock::manual()).await,
    ]
}

fn by(owner: &str) -> Owned {
    Owned {
        resource: PrefixedKey("r".to_owned()),
        owner: owner.to_owned(),
    }
}

impl Subject {
    async fn lock(&self, owner: &str) -> Option<u64> {
        match self.locks.try_lock(&by(owner), LEASE).await.unwrap() {
            Grant::Acquired { fencing_token } => Some(fencing_token.unwrap()),
            Grant::Busy => None,
        }
    }

    async fn unlock(&self, owner: &str) -> Status {
        self.locks.unlock(&by(owner)).await.unwrap()
    }

    async fn keep(&self, owner: &str) -> (Status, Option<u64>) {
        self.locks.keep_alive(&by(owner), LEASE).await.unwrap()
    }
}

#[tokio::test]
async fn a_held_lock_is_busy_for_everyone_until_its_lease_ends() {
    for subject in subjects().await {
        let first = subject.lock("a").await.unwrap();
        assert_eq!((subject.lock("a").await, subject.lock("b").await), (None, None));
        subject.clock.advance(LEASE);
        assert_eq!(subject.unlock("a").await, Status::Unexist);
        let second = subject.lock("b").await.unwrap();
        assert!(second > first);
        assert_eq!(subject.unlock("a").await, Status::BelongsToOthers);
        assert_eq!(subject.unlock("b").await, Status::Success);
        assert_eq!(subject.unlock("b").await, Status::Unexist);
        assert!(subject.lock("a").await.unwrap() > second);
    }
}

#[tokio::test]
async fn keeping_alive_extends_the_lease_and_keeps_the_token() {
    for subject in subjects().await {
        let granted = subject.lock("a").await.unwrap();
        subject.clock.advance(LEASE / 2);
        assert_eq!(subject.keep("a").await, (Status::Success, Some(granted)));
        assert_eq!(subject.keep("b").await, (Status::BelongsToOthers, None));
        subject.clock.advance(LEASE * 3 / 4);
        assert_eq!(subject.lock("b").await, None);
        subject.clock.advance(LEASE / 4);
        assert_eq!(subject.keep("a").await, (Status::Unexist, None));
        assert!(subject.lock("b").await.unwrap() > granted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_callers_one_gets_the_lock() {
    for subject in subjects().await {
        let mut callers = tokio::task::JoinSet::new();
        for n in 0..32 {
            let locks = Arc::clone(&subject.locks);
            callers.spawn(async move { locks.try_lock(&by(&n.to_string()), LEASE).await.unwrap() });
        }
        let outcomes = callers.join_all().await;
        let granted = outcomes.iter().filter(|grant| **grant != Grant::Busy).count();
        assert_eq!(granted, 1);
    }
}

#[tokio::test]
async fn leases_and_tokens_go_on_over_a_restart() {
    let before = embedded(tempfile::tempdir().unwrap(), Clock::manual()).await;
    let token = before.lock("a").await.unwrap();
    let (folder, clock) = (before.folder, before.clock);
    drop(before.locks);
    let after = embedded(folder, clock).await;
    assert_eq!(after.lock("b").await, None);
    assert_eq!(after.keep("a").await, (Status::Success, Some(token)));
    after.clock.advance(LEASE);
    assert!(after.lock("b").await.unwrap() > token);
}
