//! Defective lock stores.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use layotto_core::{
    Component, Result,
    lock::{Grant, LockStore, Owned, Status},
};

use super::Defect;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    GrantsTwiceInARace,
    RepeatsTokens,
    RestartsTokens,
    IsReentrant,
    NeverEnds,
    EndsEarly,
    PretendsToKeepAlive,
    UnlocksForAnyone,
}

pub(super) fn defects() -> Vec<Defect<dyn LockStore>> {
    vec![
        Defect {
            name: "a lock granted twice when two try at once",
            wrap: |inner| Faulty::around(inner, Fault::GrantsTwiceInARace),
            caught_by: &[
                "one_of_many_tries_is_granted",
                "one_of_many_tries_is_granted_after_the_end",
            ],
        },
        Defect {
            name: "a lock whose fencing token repeats",
            wrap: |inner| Faulty::around(inner, Fault::RepeatsTokens),
            caught_by: &[
                "tokens_increase_over_unlock",
                "tokens_increase_over_the_end_of_a_lease",
                "tokens_of_racing_owners_are_unique_and_ordered",
            ],
        },
        Defect {
            name: "a lock whose fencing token falls",
            wrap: |inner| Faulty::around(inner, Fault::RestartsTokens),
            caught_by: &[
                "tokens_increase_over_unlock",
                "tokens_increase_over_the_end_of_a_lease",
            ],
        },
        Defect {
            name: "a lock that is re-entrant",
            wrap: |inner| Faulty::around(inner, Fault::IsReentrant),
            caught_by: &["not_reentrant"],
        },
        Defect {
            name: "a lock whose lease never ends",
            wrap: |inner| Faulty::around(inner, Fault::NeverEnds),
            caught_by: &["ends_by_itself_and_not_before"],
        },
        Defect {
            name: "a lock whose lease ends early",
            wrap: |inner| Faulty::around(inner, Fault::EndsEarly),
            caught_by: &["ends_by_itself_and_not_before"],
        },
        Defect {
            name: "a lock that only pretends to keep alive",
            wrap: |inner| Faulty::around(inner, Fault::PretendsToKeepAlive),
            caught_by: &[
                "keep_alive_extends",
                "keep_alive_of_no_lock_is_unexist",
                "keep_alive_by_others_changes_nothing",
            ],
        },
        Defect {
            name: "a lock that says success to whoever unlocks",
            wrap: |inner| Faulty::around(inner, Fault::UnlocksForAnyone),
            caught_by: &["unlock_of_no_lock_is_unexist", "unlock_by_others_changes_nothing"],
        },
    ]
}

struct Faulty {
    inner: Arc<dyn LockStore>,
    fault: Fault,
    trying: AtomicUsize,
}

impl Faulty {
    fn around(inner: Arc<dyn LockStore>, fault: Fault) -> Arc<dyn LockStore> {
        Arc::new(Self {
            inner,
            fault,
            trying: AtomicUsize::new(0),
        })
    }

    fn token(&self, token: u64) -> u64 {
        match self.fault {
            Fault::RepeatsTokens => 7,
            Fault::RestartsTokens => u64::MAX - token,
            _ => token,
        }
    }

    async fn refused(&self, lock: &Owned, expire: Duration, rivals: usize) -> Result<Grant> {
        let grant = Grant::Acquired {
            fencing_token: Some(1),
        };
        match self.fault {
            Fault::GrantsTwiceInARace if rivals > 0 => Ok(grant),
            Fault::IsReentrant => match self.inner.keep_alive(lock, expire).await? {
                (Status::Success, _) => Ok(grant),
                _ => Ok(Grant::Busy),
            },
            _ => Ok(Grant::Busy),
        }
    }
}

#[async_trait]
impl Component for Faulty {
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[async_trait]
impl LockStore for Faulty {
    async fn try_lock(&self, lock: &Owned, expire: Duration) -> Result<Grant> {
        let expire = match self.fault {
            Fault::NeverEnds => expire * 1000,
            Fault::EndsEarly => expire / 3,
            _ => expire,
        };
        let rivals = self.trying.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let grant = self.inner.try_lock(lock, expire).await;
        self.trying.fetch_sub(1, Ordering::SeqCst);
        match grant? {
            Grant::Busy => self.refused(lock, expire, rivals).await,
            Grant::Acquired { fencing_token } => Ok(Grant::Acquired {
                fencing_token: fencing_token.map(|token| self.token(token)),
            }),
        }
    }

    async fn unlock(&self, lock: &Owned) -> Result<Status> {
        let status = self.inner.unlock(lock).await?;
        Ok(if self.fault == Fault::UnlocksForAnyone {
            Status::Success
        } else {
            status
        })
    }

    async fn keep_alive(&self, lock: &Owned, expire: Duration) -> Result<(Status, Option<u64>)> {
        if self.fault == Fault::PretendsToKeepAlive {
            return Ok((Status::Success, None));
        }
        let (status, token) = self.inner.keep_alive(lock, expire).await?;
        Ok((status, token.map(|token| self.token(token))))
    }
}
