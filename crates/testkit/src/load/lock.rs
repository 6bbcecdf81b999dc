//! Clients that fight for locks.

use std::{sync::Arc, time::Duration};

use layotto_core::{
    key_prefix::PrefixedKey,
    lock::{Grant, LockStore, Owned},
};

use super::{Client, Load, answer};
use crate::history::lock::{Answer, Call, History, What};

/// The shortest lease.
const LEASE: Duration = Duration::from_secs(1);
/// How long a lock is held where it is given back in time.
const HELD: Duration = Duration::from_millis(30);

/// Fights for locks until the load is stopped. Most clients give back what they got; some extend
/// it, forget it, try again while they hold it, or are late; some meddle with what is not theirs.
pub async fn locks(store: Arc<dyn LockStore>, load: &Load, history: &History) {
    load.run(|mut client| {
        let (store, history) = (store.clone(), history.clone());
        async move {
            for number in 0.. {
                if !client.goes_on().await {
                    return;
                }
                let lock = Owned {
                    resource: PrefixedKey(client.key()),
                    owner: client.name(number),
                };
                let turn = Turn {
                    store: &*store,
                    history: &history,
                    lock,
                };
                turn.take(&mut client).await;
            }
        }
    })
    .await;
}

/// One try for a lock, and what follows from it.
struct Turn<'l> {
    store: &'l dyn LockStore,
    history: &'l History,
    lock: Owned,
}

impl Turn<'_> {
    async fn take(&self, client: &mut Client) {
        let lease = LEASE * client.random.u32(1..=2);
        match self.try_lock(client, lease).await {
            Some(Grant::Acquired { .. }) => self.hold(client, lease).await,
            Some(Grant::Busy) if client.chance(10) => self.unlock(client).await,
            Some(Grant::Busy) if client.chance(10) => self.keep_alive(client, lease).await,
            Some(Grant::Busy) | None => {}
        }
    }

    async fn hold(&self, client: &mut Client, lease: Duration) {
        client.pause(HELD).await;
        match client.random.u8(0..100) {
            0..4 => return,
            4..6 => tokio::time::sleep(lease + HELD).await,
            6..20 => drop(self.try_lock(client, lease).await),
            20..40 => {
                self.keep_alive(client, LEASE).await;
                client.pause(HELD).await;
            }
            _ => {}
        }
        self.unlock(client).await;
    }

    fn begin(&self, client: &Client, what: What) -> crate::history::Pending<Call, Answer> {
        let call = Call {
            resource: self.lock.resource.0.clone(),
            owner: self.lock.owner.clone(),
            what,
        };
        self.history.begin(client.number, call)
    }

    async fn try_lock(&self, client: &Client, lease: Duration) -> Option<Grant> {
        let pending = self.begin(client, What::Try(lease));
        let grant = answer(self.store.try_lock(&self.lock, lease).await)?;
        pending.end(Answer::Grant(grant));
        Some(grant)
    }

    async fn unlock(&self, client: &Client) {
        let pending = self.begin(client, What::Unlock);
        if let Some(status) = answer(self.store.unlock(&self.lock).await) {
            pending.end(Answer::Status(status, None));
        }
    }

    async fn keep_alive(&self, client: &Client, lease: Duration) {
        let pending = self.begin(client, What::KeepAlive(lease));
        if let Some((status, token)) = answer(self.store.keep_alive(&self.lock, lease).await) {
            pending.end(Answer::Status(status, token));
        }
    }
}
