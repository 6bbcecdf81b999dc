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
    /// Is told when it has all it wants, and ends without that when it goes.
    There(oneshot::Receiver<()>),
    Left(Left),
}

/// How a caller left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// With all it wanted.
    Served,
    /// Before that.
    Gone,
}

impl Caller {
    /// One that is there while the other end of `alive` is; it is served when that sends.
    pub(crate) fn of(alive: oneshot::Receiver<()>) -> Self {
        Self(Presence::There(alive))
    }

    /// Waits until it leaves. Losing the future loses nothing.
    pub(crate) async fn left(&mut self) -> Left {
        let left = match &mut self.0 {
            Presence::Unknown => pending().await,
            Presence::There(alive) => alive.await.map_or(Left::Gone, |()| Left::Served),
            Presence::Left(left) => *left,
        };
        self.0 = Presence::Left(left);
        left
    }

    /// Waits until it is gone; one that was served never is. Losing the future loses nothing.
    pub(crate) async fn gone(&mut self) {
        if self.left().await == Left::Served {
            pending().await
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
        assert_eq!(caller.left().await, Left::Gone);
        assert!(Caller::default().gone().now_or_never().is_none());
    }

    #[tokio::test]
    async fn one_that_was_served_is_not_gone() {
        let (other, alive) = oneshot::channel();
        let mut caller = Caller::of(alive);
        other.send(()).unwrap();
        for _ in 0..2 {
            assert!(caller.gone().now_or_never().is_none());
            assert_eq!(caller.left().await, Left::Served);
        }
    }
}
