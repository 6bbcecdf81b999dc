//! Leases: they end by themselves, and only the owner can extend them.

use std::time::Instant;

use super::{basic::rivals_granted, *};

/// Takes the lock for the shortest lease; the moment before.
async fn take_short(locks: &Locks, lock: &Owned) -> Result<Instant, String> {
    let started = Instant::now();
    locks.take(lock, SHORT).await?;
    Ok(started)
}

/// Waits without touching the lock until a lease of [`SHORT`] has surely ended, which is seen at
/// a second resource whose lease began later.
async fn let_it_end(locks: &Locks) -> Verified {
    let witness = locks.owned("witness", "a");
    locks.take(&witness, SHORT).await?;
    locks
        .take_within(&locks.owned("witness", "b"), LONG, SHORT + SLACK)
        .await
        .map(drop)
}

pub(super) async fn ends_by_itself_and_not_before(locks: Locks) -> Verified {
    let (a, b) = (locks.owned("r", "a"), locks.owned("r", "b"));
    let started = take_short(&locks, &a).await?;
    locks.is_busy(&b).await?;
    locks.take_within(&b, LONG, SHORT + SLACK).await?;
    let held = started.elapsed();
    ensure!(held >= SHORT.mul_f32(0.95), "a lease of 1 s ended after {held:?}");
    Ok(())
}

pub(super) async fn one_of_many_tries_is_granted_after_the_end(locks: Locks) -> Verified {
    for resource in ["r0", "r1", "r2", "r3"] {
        locks.take(&locks.owned(resource, "first"), SHORT).await?;
    }
    let_it_end(&locks).await?;
    for resource in ["r0", "r1", "r2", "r3"] {
        let granted = rivals_granted(&locks, resource).await?;
        equal("grants after the end of a lease", &granted.len(), &1)?;
    }
    Ok(())
}

pub(super) async fn the_old_owner_cannot_unlock_the_next_grant(locks: Locks) -> Verified {
    let (a, b) = (locks.owned("r", "a"), locks.owned("r", "b"));
    locks.take(&a, SHORT).await?;
    locks.take_within(&b, LONG, SHORT + SLACK).await?;
    locks.unlocks(&a, Status::BelongsToOthers).await?;
    locks.keeps(&a, LONG, Status::BelongsToOthers).await?;
    locks.is_busy(&a).await?;
    locks.unlocks(&b, Status::Success).await
}

pub(super) async fn an_ended_lease_is_unexist(locks: Locks) -> Verified {
    let (kept, unlocked) = (locks.owned("kept", "a"), locks.owned("unlocked", "a"));
    locks.take(&kept, SHORT).await?;
    locks.take(&unlocked, SHORT).await?;
    let_it_end(&locks).await?;
    locks.keeps(&kept, LONG, Status::Unexist).await?;
    locks.unlocks(&unlocked, Status::Unexist).await?;
    locks.take(&locks.owned("kept", "b"), LONG).await?;
    locks.take(&locks.owned("unlocked", "b"), LONG).await.map(drop)
}

pub(super) async fn keep_alive_extends(locks: Locks) -> Verified {
    let (a, b) = (locks.owned("r", "a"), locks.owned("r", "b"));
    locks.take(&a, SHORT).await?;
    locks.keeps(&a, LONG, Status::Success).await?;
    let_it_end(&locks).await?;
    locks.is_busy(&b).await?;
    locks.unlocks(&a, Status::Success).await
}

pub(super) async fn keep_alive_may_shorten(locks: Locks) -> Verified {
    let (a, b) = (locks.owned("r", "a"), locks.owned("r", "b"));
    locks.take(&a, LONG).await?;
    let started = Instant::now();
    locks.keeps(&a, SHORT, Status::Success).await?;
    locks.is_busy(&b).await?;
    locks.take_within(&b, LONG, SHORT + SLACK).await?;
    let held = started.elapsed();
    ensure!(
        held >= SHORT.mul_f32(0.95),
        "a lease cut to 1 s ended after {held:?}"
    );
    Ok(())
}

pub(super) async fn keep_alive_of_no_lock_is_unexist(locks: Locks) -> Verified {
    let lock = locks.owned("r", "a");
    locks.keeps(&lock, LONG, Status::Unexist).await?;
    locks.take(&lock, LONG).await?;
    locks.unlocks(&lock, Status::Success).await?;
    locks.keeps(&lock, LONG, Status::Unexist).await?;
    locks.take(&locks.owned("r", "b"), LONG).await.map(drop)
}

pub(super) async fn keep_alive_by_others_changes_nothing(locks: Locks) -> Verified {
    let (a, b) = (locks.owned("r", "a"), locks.owned("r", "b"));
    locks.take(&a, SHORT).await?;
    locks.keeps(&b, LONG, Status::BelongsToOthers).await?;
    locks.is_busy(&b).await?;
    // Had it extended the lease, this would not succeed.
    locks.take_within(&b, LONG, SHORT + SLACK).await.map(drop)
}
