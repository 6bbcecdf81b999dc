//! One try under way, in the counters of its host and cluster.

use std::sync::Arc;

use crate::cluster::{Host, InFlight};

/// A try, until its reply has ended. One that is dropped before that was given up by us.
#[derive(Debug)]
pub(super) struct Flight {
    request: InFlight,
    ended: bool,
}

impl Flight {
    /// `host` is asked.
    pub(super) fn begin(host: &Arc<Host>) -> Self {
        Self {
            request: host.begin(),
            ended: false,
        }
    }

    /// Nothing more is expected of the host.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The host gave it up, or the connection to it was lost.
    pub(super) fn lose(&mut self) {
        self.ended = true;
        self.host().count(|stats| stats.request_remote_reset.inc());
    }

    /// It took too long, and is given up.
    pub(super) fn time_out(&self) {
        self.host().count(|stats| stats.request_timeout.inc());
    }

    fn host(&self) -> &Host {
        self.request.host()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.ended {
            self.host().count(|stats| stats.request_local_reset.inc());
        }
    }
}
