//! Lock stores.

mod basic;
mod fencing;
mod lease;

use std::time::Duration;

use layotto_core::lock::{Grant, LockStore, Owned, Status};

use super::{
    Assertion, Subject, Verified, always, assertions,
    check::{OrSay, ensure, equal, poll},
    common, durable,
};

type Locks = Subject<dyn LockStore>;

/// A lease that does not end during an assertion.
const LONG: Duration = Duration::from_secs(100);
/// The shortest lease.
const SHORT: Duration = Duration::from_secs(1);
/// How late after its end a lease may still hold.
const SLACK: Duration = Duration::from_secs(5);

/// The assertions of a lock store.
pub fn assertions() -> Vec<Assertion<dyn LockStore>> {
    let own: Vec<Assertion<dyn LockStore>> = assertions! {
        always => [
            basic::a_free_lock_is_granted,
            basic::a_held_lock_is_busy,
            basic::not_reentrant,
            basic::resources_are_independent,
            basic::owners_are_compared_exactly,
            basic::unlock_frees,
            basic::unlock_of_no_lock_is_unexist,
            basic::unlock_by_others_changes_nothing,
            basic::one_of_many_unlocks_succeeds,
            basic::one_of_many_tries_is_granted,
            basic::never_two_holders,
            basic::a_dropped_try_blocks_nobody_for_ever,
            lease::ends_by_itself_and_not_before,
            lease::one_of_many_tries_is_granted_after_the_end,
            lease::the_old_owner_cannot_unlock_the_next_grant,
            lease::an_ended_lease_is_unexist,
            lease::keep_alive_extends,
            lease::keep_alive_may_shorten,
            lease::keep_alive_of_no_lock_is_unexist,
            lease::keep_alive_by_others_changes_nothing,
        ],
        fenced => [
            fencing::tokens_increase_over_unlock,
            fencing::tokens_increase_over_the_end_of_a_lease,
            fencing::tokens_of_racing_owners_are_unique_and_ordered,
            fencing::keep_alive_tells_the_token_of_the_grant,
        ],
        durable => [basic::held_over_a_restart],
        durable_and_fenced => [fencing::tokens_increase_over_a_restart],
    };
    own.into_iter().chain(common::assertions()).collect()
}

fn fenced(locks: &Locks) -> Option<&'static str> {
    (!locks.fixture.facts.fenced).then_some("documented as unfenced")
}

fn durable_and_fenced(locks: &Locks) -> Option<&'static str> {
    durable(locks).or_else(|| fenced(locks))
}

impl Locks {
    fn owned(&self, resource: &str, owner: &str) -> Owned {
        Owned {
            resource: self.key(resource),
            owner: owner.to_owned(),
        }
    }

    async fn grant(&self, lock: &Owned, lease: Duration) -> Result<Grant, String> {
        self.try_lock(lock, lease)
            .await
            .or_say(&format!("try by {}", lock.owner))
    }

    /// Takes the lock, which must be free; the fencing token.
    async fn take(&self, lock: &Owned, lease: Duration) -> Result<Option<u64>, String> {
        match self.grant(lock, lease).await? {
            Grant::Acquired { fencing_token } => Ok(fencing_token),
            Grant::Busy => Err(format!("{} was refused a free lock", lock.owner)),
        }
    }

    async fn is_busy(&self, lock: &Owned) -> Verified {
        let grant = self.grant(lock, LONG).await?;
        equal(
            &format!("try of a held lock by {}", lock.owner),
            &grant,
            &Grant::Busy,
        )
    }

    /// Takes the lock as soon as it is free, within `limit`; the fencing token.
    async fn take_within(
        &self,
        lock: &Owned,
        lease: Duration,
        limit: Duration,
    ) -> Result<Option<u64>, String> {
        let ask = async || match self.grant(lock, lease).await? {
            Grant::Acquired { fencing_token } => Ok(Some(fencing_token)),
            Grant::Busy => Ok(None),
        };
        poll(limit, "a lock that becomes free", ask).await
    }

    async fn unlocks(&self, lock: &Owned, wanted: Status) -> Verified {
        let status = self
            .unlock(lock)
            .await
            .or_say(&format!("unlock by {}", lock.owner))?;
        equal(&format!("unlock by {}", lock.owner), &status, &wanted)
    }

    async fn keeps(&self, lock: &Owned, lease: Duration, wanted: Status) -> Result<Option<u64>, String> {
        let (status, token) = self
            .keep_alive(lock, lease)
            .await
            .or_say(&format!("keep-alive by {}", lock.owner))?;
        equal(&format!("keep-alive by {}", lock.owner), &status, &wanted)?;
        Ok(token)
    }
}
