//! Fencing tokens: each grant of a resource has a greater one than every grant before.

use futures::future::join_all;

use super::*;
use crate::conformance::DEADLINE;

fn token(token: Option<u64>) -> Result<u64, String> {
    token.ok_or_else(|| "a grant has no fencing token".to_owned())
}

fn rises(what: &str, before: u64, after: u64) -> Verified {
    ensure!(after > before, "{what}: token {after} follows token {before}");
    Ok(())
}

pub(super) async fn tokens_increase_over_unlock(locks: Locks) -> Verified {
    let mut last = 0;
    for owner in ["a", "b", "b", "a", "c"] {
        let lock = locks.owned("r", owner);
        let next = token(locks.take(&lock, LONG).await?)?;
        rises(&format!("after an unlock, to {owner}"), last, next)?;
        locks.unlocks(&lock, Status::Success).await?;
        last = next;
    }
    Ok(())
}

pub(super) async fn tokens_increase_over_the_end_of_a_lease(locks: Locks) -> Verified {
    let (a, b) = (locks.owned("r", "a"), locks.owned("r", "b"));
    let first = token(locks.take(&a, SHORT).await?)?;
    let second = token(locks.take_within(&b, SHORT, SHORT + SLACK).await?)?;
    rises("to another owner", first, second)?;
    let third = token(locks.take_within(&b, LONG, SHORT + SLACK).await?)?;
    rises("to the same owner", second, third)
}

pub(super) async fn tokens_of_racing_owners_are_unique_and_ordered(locks: Locks) -> Verified {
    let workers = (0..4).map(|worker| {
        let locks = locks.clone();
        let lock = locks.owned("r", &format!("w{worker}"));
        tokio::spawn(async move {
            let mut tokens = Vec::new();
            for _ in 0..4 {
                tokens.push(token(locks.take_within(&lock, LONG, 2 * DEADLINE).await?)?);
                locks.unlocks(&lock, Status::Success).await?;
            }
            Ok::<_, String>(tokens)
        })
    });
    let mut all = Vec::new();
    for joined in join_all(workers).await {
        let tokens = joined.map_err(|error| error.to_string())??;
        ensure!(tokens.is_sorted(), "tokens of one worker: {tokens:?}");
        all.extend(tokens);
    }
    all.sort_unstable();
    let count = all.len();
    all.dedup();
    equal("different tokens", &all.len(), &count)
}

pub(super) async fn keep_alive_tells_the_token_of_the_grant(locks: Locks) -> Verified {
    let lock = locks.owned("r", "a");
    let granted = token(locks.take(&lock, LONG).await?)?;
    if let Some(kept) = locks.keeps(&lock, LONG, Status::Success).await? {
        equal("token after a keep-alive", &kept, &granted)?;
    }
    locks.unlocks(&lock, Status::Success).await?;
    let next = token(locks.take(&lock, LONG).await?)?;
    rises("after a keep-alive and an unlock", granted, next)
}

pub(super) async fn tokens_increase_over_a_restart(locks: Locks) -> Verified {
    let own = locks.fresh([]).await?;
    let lock = own.owned("r", "a");
    let mut last = 0;
    for _ in 0..3 {
        last = token(own.take(&lock, LONG).await?)?;
        own.unlocks(&lock, Status::Success).await?;
    }
    let own = own.reopen().await?;
    rises("after a restart", last, token(own.take(&lock, LONG).await?)?)
}
