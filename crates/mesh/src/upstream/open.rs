//! An open connection in the counters of its host and cluster.

use std::sync::Arc;

use crate::cluster::{Host, Stats};

/// Counts a connection as open until it is dropped, and then by whom it was closed. It holds the
/// counters and not the host, as the host owns the connection.
#[derive(Debug)]
pub(crate) struct Open {
    counters: [Arc<Stats>; 2],
    busy: bool,
    lost: bool,
}

impl Open {
    /// A connection to `host` was made.
    pub(crate) fn new(host: &Host) -> Self {
        host.count(|stats| {
            stats.connection_total.inc();
            stats.connection_active.inc();
        });
        Self {
            counters: host.counters(),
            busy: false,
            lost: false,
        }
    }

    /// Whether it carries a request.
    pub(super) fn set_busy(&mut self, busy: bool) {
        self.busy = busy;
    }

    /// Whether the host closed it; if not, it is us who will.
    pub(super) fn set_lost(&mut self, lost: bool) {
        self.lost = lost;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        for stats in &self.counters {
            stats.connection_active.dec();
            stats.connection_close.inc();
            let (closed, busy) = match self.lost {
                true => (
                    &stats.connection_remote_close,
                    &stats.connection_remote_close_with_active_request,
                ),
                false => (
                    &stats.connection_local_close,
                    &stats.connection_local_close_with_active_request,
                ),
            };
            closed.inc();
            if self.busy {
                busy.inc();
            }
        }
    }
}
