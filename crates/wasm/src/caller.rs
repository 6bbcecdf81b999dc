//! Whoever waits for a guest, and may go away.

use std::future::pending;

use tokio::sync::oneshot;

/// Whoever waits for a guest. Nobody can go of whom nothing is known, as of the default.
#[derive(Debug, Default)]
pub(crate) struct Caller(Presence);

#[derive(Debug, Default)]
enum Presence {
    #[default]
    Unknown,
    /// Ends when it goes.
    There(oneshot::Receiver<()>),
    Gone,
}

impl Caller {
    /// One that is there while the other end of `alive` is.
    pub(crate) fn of(alive: oneshot::Receiver<()>) -> Self {
        Self(Presence::There(alive))
    }

    /// Waits until it is gone. Losing the future loses nothing.
    pub(crate) async fn gone(&mut self) {
        match &mut self.0 {
            Presence::Unknown => pending().await,
            Presence::There(alive) => {
                // Nothing is ever sent.
                drop(alive.await);
                self.0 = Presence::Gone;
            }
            Presence::Gone => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_that_is_gone_stays_so() {
        let (other, alive) = oneshot::channel();
        let mut caller = Caller::of(alive);
        assert!(caller.gone().now_or_never().is_none());
        drop(other);
        caller.gone().await;
        caller.gone().await;
        assert!(Caller::default().gone().now_or_never().is_none());
    }
}
