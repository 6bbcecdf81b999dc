//! Looks after idle connections from time to time, as long as there are any.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, time::sleep};

/// How often.
pub(super) const EVERY: Duration = Duration::from_secs(5);

/// A pool with idle connections.
pub(super) trait Sweep: Send + Sync + 'static {
    /// Closes idle connections that are dead or too old; whether there are others left.
    fn sweep(&self) -> bool;
}

/// Begins; ends with the pool, or once nothing is idle. Outside a runtime nothing begins: whoever
/// drops a reply there is ending the process.
pub(super) fn begin<P: Sweep>(pool: &Arc<P>) -> bool {
    let pool = Arc::downgrade(pool);
    Handle::try_current().is_ok_and(|runtime| {
        runtime.spawn(sweep(pool));
        true
    })
}

async fn sweep<P: Sweep>(pool: Weak<P>) {
    loop {
        sleep(EVERY).await;
        match pool.upgrade() {
            Some(pool) if pool.sweep() => {}
            _ => return,
        }
    }
}
