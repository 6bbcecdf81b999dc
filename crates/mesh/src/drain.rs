//! Drain: end every listener and connection of a process without losing a request.
//!
//! [`Signal`] belongs to whoever ends the process; a [`Watch`] goes to every listener. Draining has
//! two steps: first connections finish what they began, then, past a limit, they are cut.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// How long tasks of cut connections get to unwind before [`Signal::drain_within`] gives up on them.
const UNWIND: Duration = Duration::from_secs(1);

/// Begins the drain and waits for its end. Dropping it begins the drain too, as nobody else can.
#[derive(Debug)]
#[must_use = "dropping the signal begins the drain"]
pub struct Signal {
    shared: Watch,
}

/// Tells listeners and connections that the drain began, and keeps it from ending before them.
#[derive(Debug, Clone)]
pub struct Watch {
    begun: CancellationToken,
    cut: CancellationToken,
    open: TaskTracker,
}

/// Keeps a drain from ending until it is dropped.
#[derive(Debug)]
pub struct Hold(#[allow(dead_code, reason = "held for its drop")] TaskTrackerToken);

/// A new drain, not begun.
pub fn channel() -> (Signal, Watch) {
    let watch = Watch {
        begun: CancellationToken::new(),
        cut: CancellationToken::new(),
        open: TaskTracker::new(),
    };
    (
        Signal {
            shared: watch.clone(),
        },
        watch,
    )
}

impl Signal {
    /// Begins the drain without waiting: listeners close, connections finish what they began.
    pub fn begin(&self) {
        self.shared.begun.cancel();
        self.shared.open.close();
    }

    /// Begins the drain and waits until no listener and no connection is left, however long that
    /// takes. Can be dropped and called again: the drain goes on.
    pub async fn drain(&self) {
        self.begin();
        self.shared.open.wait().await;
    }

    /// Like [`drain`](Self::drain), but cuts the connections that are left after `limit`, which
    /// cancels their requests. Returns whether the drain was clean, that is, nothing was cut.
    pub async fn drain_within(&self, limit: Duration) -> bool {
        if timeout(limit, self.drain()).await.is_ok() {
            return true;
        }
        self.shared.cut.cancel();
        if timeout(UNWIND, self.shared.open.wait()).await.is_err() {
            tracing::warn!(
                tasks = self.shared.open.len(),
                "requests do not end although their connections are cut"
            );
        }
        false
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        self.begin();
    }
}

impl Watch {
    /// Whether the drain began.
    pub fn is_draining(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Resolves when the drain begins.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + use<> {
        own(&self.begun)
    }

    /// Resolves when what is left is to be cut; never before [`draining`](Self::draining).
    pub fn cut(&self) -> impl Future<Output = ()> + Send + use<> {
        own(&self.cut)
    }

    /// Keeps the drain from ending until the returned value is dropped.
    pub fn hold(&self) -> Hold {
        Hold(self.open.token())
    }
}

/// Waits on a token of its own: a connection polls this each time it is woken, and on the shared
/// token all of them would meet at one lock.
fn own(token: &CancellationToken) -> WaitForCancellationFutureOwned {
    token.child_token().cancelled_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_open_ends_at_once() {
        let (signal, watch) = channel();
        assert!(!watch.is_draining());
        assert!(signal.drain_within(Duration::ZERO).await);
        assert!(watch.is_draining());
    }

    #[tokio::test]
    async fn waits_for_holds_and_survives_cancellation() {
        let (signal, watch) = channel();
        let hold = watch.hold();
        tokio::select! {
            biased;
            () = signal.drain() => panic!("ended before the hold"),
            () = watch.draining() => {}
        }
        drop(hold);
        signal.drain().await;
    }

    #[tokio::test(start_paused = true)]
    async fn cuts_what_outlives_the_limit() {
        let (signal, watch) = channel();
        let hold = watch.hold();
        let task = tokio::spawn(async move {
            watch.cut().await;
            drop(hold);
        });
        assert!(!signal.drain_within(Duration::from_secs(30)).await);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_dropped_signal_begins_the_drain() {
        let (signal, watch) = channel();
        drop(signal);
        watch.draining().await;
    }
}
