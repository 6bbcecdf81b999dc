//! Who gets a lock, and who can give it back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::{
    FutureExt,
    future::{join_all, try_join_all},
};

use super::*;
use crate::conformance::DEADLINE;

const RIVALS: usize = 16;

pub(super) async fn a_free_lock_is_granted(locks: Locks) -> Verified {
    locks.take(&locks.owned("r", "a"), LONG).await.map(drop)
}

pub(super) async fn a_held_lock_is_busy(locks: Locks) -> Verified {
    locks.take(&locks.owned("r", "a"), LONG).await?;
    locks.is_busy(&locks.owned("r", "b")).await?;
    locks.is_busy(&locks.owned("r", "c")).await
}

pub(super) async fn not_reentrant(locks: Locks) -> Verified {
    let lock = locks.owned("r", "a");
    locks.take(&lock, LONG).await?;
    locks.is_busy(&lock).await?;
    locks.unlocks(&lock, Status::Success).await
}

pub(super) async fn resources_are_independent(locks: Locks) -> Verified {
    let long = "l".repeat(300);
    let resources = ["r", "r2", "R", "r/2", "r ", "ключ", &long];
    for resource in resources {
        locks.take(&locks.owned(resource, "a"), LONG).await?;
    }
    locks.unlocks(&locks.owned("r", "a"), Status::Success).await?;
    for resource in resources.into_iter().skip(1) {
        locks.is_busy(&locks.owned(resource, "b")).await?;
    }
    Ok(())
}

pub(super) async fn owners_are_compared_exactly(locks: Locks) -> Verified {
    locks.take(&locks.owned("r", "owner"), LONG).await?;
    for other in ["Owner", "owner ", "owne", "owner2", "own*"] {
        locks
            .unlocks(&locks.owned("r", other), Status::BelongsToOthers)
            .await?;
        locks
            .keeps(&locks.owned("r", other), LONG, Status::BelongsToOthers)
            .await?;
    }
    locks.unlocks(&locks.owned("r", "owner"), Status::Success).await
}

pub(super) async fn unlock_frees(locks: Locks) -> Verified {
    let (a, b) = (locks.owned("r", "a"), locks.owned("r", "b"));
    locks.take(&a, LONG).await?;
    locks.unlocks(&a, Status::Success).await?;
    locks.take(&b, LONG).await?;
    locks.unlocks(&b, Status::Success).await?;
    locks.take(&b, LONG).await.map(drop)
}

pub(super) async fn unlock_of_no_lock_is_unexist(locks: Locks) -> Verified {
    let lock = locks.owned("r", "a");
    locks.unlocks(&lock, Status::Unexist).await?;
    locks.take(&lock, LONG).await?;
    locks.unlocks(&lock, Status::Success).await?;
    locks.unlocks(&lock, Status::Unexist).await
}

pub(super) async fn unlock_by_others_changes_nothing(locks: Locks) -> Verified {
    let (a, b) = (locks.owned("r", "a"), locks.owned("r", "b"));
    locks.take(&a, LONG).await?;
    locks.unlocks(&b, Status::BelongsToOthers).await?;
    locks.is_busy(&b).await?;
    locks.unlocks(&a, Status::Success).await
}

pub(super) async fn one_of_many_unlocks_succeeds(locks: Locks) -> Verified {
    let lock = locks.owned("r", "a");
    locks.take(&lock, LONG).await?;
    let unlocks = (0..RIVALS).map(|_| {
        let (locks, lock) = (locks.clone(), lock.clone());
        tokio::spawn(async move { locks.unlock(&lock).await })
    });
    let mut succeeded = 0;
    for joined in join_all(unlocks).await {
        match joined.map_err(|error| error.to_string())?.or_say("unlock")? {
            Status::Success => succeeded += 1,
            status => equal("unlock after another", &status, &Status::Unexist)?,
        }
    }
    equal("unlocks that succeeded", &succeeded, &1)
}

pub(super) async fn one_of_many_tries_is_granted(locks: Locks) -> Verified {
    for round in 0..8 {
        let granted = rivals_granted(&locks, &format!("r{round}")).await?;
        equal(&format!("grants of round {round}"), &granted.len(), &1)?;
    }
    Ok(())
}

/// The rivals that were granted `resource` when all of them tried at once.
pub(super) async fn rivals_granted(locks: &Locks, resource: &str) -> Result<Vec<Owned>, String> {
    let gate = Arc::new(tokio::sync::Barrier::new(RIVALS));
    let tries = (0..RIVALS).map(|rival| {
        let (locks, gate) = (locks.clone(), gate.clone());
        let lock = locks.owned(resource, &format!("rival{rival}"));
        tokio::spawn(async move {
            gate.wait().await;
            locks.grant(&lock, LONG).await.map(|grant| (lock, grant))
        })
    });
    let mut granted = Vec::new();
    for joined in join_all(tries).await {
        let (lock, grant) = joined.map_err(|error| error.to_string())??;
        if grant != Grant::Busy {
            granted.push(lock);
        }
    }
    Ok(granted)
}

/// Many workers take and give back one lock; a counter shows whether two are ever inside.
pub(super) async fn never_two_holders(locks: Locks) -> Verified {
    let inside = Arc::new(AtomicUsize::new(0));
    let workers = (0..6).map(|worker| {
        let (locks, inside) = (locks.clone(), inside.clone());
        let lock = locks.owned("r", &format!("w{worker}"));
        async move {
            for _ in 0..4 {
                locks.take_within(&lock, LONG, 2 * DEADLINE).await?;
                let others = inside.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                ensure!(
                    others == 0,
                    "{} got the lock while {others} others held it",
                    lock.owner
                );
                locks.unlocks(&lock, Status::Success).await?;
            }
            Ok::<_, String>(())
        }
    });
    let tasks = workers
        .map(tokio::spawn)
        .map(|task| async { task.await.map_err(|error| error.to_string())? });
    try_join_all(tasks).await.map(drop)
}

/// Whoever gives up waiting for an answer may hold the lock, but no longer than the lease.
pub(super) async fn a_dropped_try_blocks_nobody_for_ever(locks: Locks) -> Verified {
    let (a, b) = (locks.owned("r", "a"), locks.owned("r", "b"));
    drop(locks.try_lock(&a, SHORT).now_or_never());
    locks.take_within(&b, LONG, SHORT + SLACK).await?;
    locks.unlocks(&a, Status::BelongsToOthers).await?;
    locks.unlocks(&b, Status::Success).await
}

pub(super) async fn held_over_a_restart(locks: Locks) -> Verified {
    let own = locks.fresh([]).await?;
    let (a, b) = (own.owned("r", "a"), own.owned("r", "b"));
    own.take(&a, LONG).await?;
    let own = own.reopen().await?;
    own.is_busy(&b).await?;
    own.unlocks(&b, Status::BelongsToOthers).await?;
    own.unlocks(&a, Status::Success).await?;
    own.take(&b, LONG).await.map(drop)
}
