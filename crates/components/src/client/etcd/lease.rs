//! Leases: keys end with them, and none outlives its use.

use std::sync::Arc;

use super::Client;

/// A lease that is revoked, and its keys with it, when it is dropped before it is
/// [kept](Self::keep). Its id is chosen here, so that it can be revoked even when nobody waits for
/// the answer any more.
pub(crate) struct Lease {
    client: Option<Arc<Client>>,
    id: i64,
    /// What was granted, in seconds; 0 until it is.
    pub(super) granted: i64,
}

impl Lease {
    pub(super) fn new(client: Arc<Client>, id: i64) -> Self {
        Self {
            client: Some(client),
            id,
            granted: 0,
        }
    }

    /// The id.
    pub(crate) fn id(&self) -> i64 {
        self.id
    }

    /// What was granted, in seconds: the nodes have a least time.
    pub(crate) fn granted(&self) -> i64 {
        self.granted
    }

    /// Leaves the lease to its keys; its id.
    pub(crate) fn keep(mut self) -> i64 {
        self.client = None;
        self.id
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            client.revoke_in_background(self.id, self.granted == 0);
        }
    }
}

/// A random id.
pub(crate) fn random_id() -> i64 {
    fastrand::i64(1..)
}
