//! The signals: the first that ends the process asks it to drain, the second ends it at once;
//! SIGHUP asks it to read its configuration again, SIGUSR1 to open its access logs anew.

use layotto_mesh::access_log::Files;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

/// SIGTERM, SIGINT, SIGHUP and SIGUSR1 of this process.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user: Signal,
}

impl Signals {
    /// Takes the signals over; from here on they do not kill the process.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits until the process is asked to end; returns the signal's name. SIGHUP asks for a look at
    /// the configuration, SIGUSR1 for new files of the access logs.
    pub async fn end(&mut self, reload: &Notify, logs: &Files) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => reload.notify_one(),
                // Not awaited: a disk that does not answer must not keep the process from ending.
                _ = self.user.recv() => {
                    let logs = logs.clone();
                    tokio::spawn(async move { logs.reopen().await });
                }
            }
        }
    }
}
