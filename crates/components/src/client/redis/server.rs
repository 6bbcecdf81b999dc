//! One server: the connection that all calls share, and a few for those that wait for replicas.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use layotto_core::{Error, Result};
use redis::{Cmd, Pipeline, Value};

use super::{
    failure::{self, Failure},
    link::{Leased, Link, Place, Spacing},
    settings::Connection,
    transport::Opened,
};

/// Connections for calls that wait for replicas: a wait holds up what comes after it on the same
/// connection.
const WAITING: usize = 4;

/// Which of a server's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// The one that all calls share.
    Shared,
    /// One of those whose commands may wait.
    Waiting,
}

/// What is sent at once, over one connection.
#[derive(Clone, Copy)]
pub(super) enum Batch<'a> {
    One(&'a Cmd),
    Many(&'a Pipeline),
}

/// Why there are no replies.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no connection, so that nothing was sent.
    Unsent(Error),
    /// The connection was lost: what was sent may have been carried out.
    Lost(Error),
}

impl Trouble {
    fn copy(&self) -> Self {
        let copy = |error: &Error| Error::new(error.kind(), error.message());
        match self {
            Self::Unsent(error) => Self::Unsent(copy(error)),
            Self::Lost(error) => Self::Lost(copy(error)),
        }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unsent(error) | Trouble::Lost(error) => error,
        }
    }
}

impl Leased {
    /// Sends `batch` over this very connection.
    pub(super) async fn send(&mut self, batch: Batch<'_>) -> Result<Vec<Value>> {
        let sent = match batch {
            Batch::One(command) => self.wire.run(command).await.map(|reply| vec![reply]),
            Batch::Many(commands) => self.wire.run_all(commands).await,
        };
        sent.map_err(|error| failure::of(&error))
    }
}

/// Whether a server that was the primary says that it is one no more.
fn is_read_only(reply: &Value) -> bool {
    let Value::ServerError(error) = reply else {
        return false;
    };
    failure::code(&error.clone().into()) == Some("READONLY")
}

/// A server of the product.
pub(super) struct Server {
    place: Arc<Place>,
    settings: Arc<Connection>,
    shared: Link,
    waiting: [Link; WAITING],
    turn: AtomicUsize,
}

impl Server {
    pub(super) fn new(place: Place, settings: &Arc<Connection>, spacing: &Arc<Spacing>) -> Self {
        let place = Arc::new(place);
        let link = || Link::new(Arc::clone(&place), Arc::clone(settings), Arc::clone(spacing));
        Self {
            shared: link(),
            waiting: std::array::from_fn(|_| link()),
            turn: AtomicUsize::new(0),
            settings: Arc::clone(settings),
            place,
        }
    }

    /// Where it is.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    fn link(&self, lane: Lane) -> &Link {
        match lane {
            Lane::Shared => &self.shared,
            Lane::Waiting => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                self.waiting.get(turn % WAITING).unwrap_or(&self.shared)
            }
        }
    }

    /// Sends `batch` and takes the replies, which may be errors of the server; they come with the
    /// connection that they came over.
    pub(super) async fn exchange(
        &self,
        lane: Lane,
        batch: Batch<'_>,
    ) -> Result<(Vec<Value>, Leased), Trouble> {
        let link = self.link(lane);
        let mut leased = link.lease().await.map_err(Trouble::Unsent)?;
        let replies = leased.send(batch).await.map_err(Trouble::Lost)?;
        if replies.iter().any(is_read_only) {
            link.renew(&leased);
        }
        Ok((replies, leased))
    }

    /// Sends many batches in one round trip; each has its own replies.
    pub(super) async fn exchange_each(&self, batches: Vec<Vec<Cmd>>) -> Vec<Result<Vec<Value>, Trouble>> {
        let sizes: Vec<_> = batches.iter().map(Vec::len).collect();
        let mut pipeline = Pipeline::with_capacity(sizes.iter().sum());
        for command in batches.into_iter().flatten() {
            pipeline.add_command(command);
        }
        match self.exchange(Lane::Shared, Batch::Many(&pipeline)).await {
            Ok((replies, _)) => {
                let mut replies = replies.into_iter();
                sizes
                    .iter()
                    .map(|size| Ok(replies.by_ref().take(*size).collect()))
                    .collect()
            }
            Err(trouble) => sizes.iter().map(|_| Err(trouble.copy())).collect(),
        }
    }

    /// Opens a connection of the caller's own, for commands that keep the server waiting for `block`.
    pub(super) async fn open(&self, block: Duration) -> Result<Opened> {
        let patience = self.settings.read_timeout.map(|time| time + block);
        let opened = self.place.open(&self.settings, patience).await;
        opened.map_err(Failure::into)
    }
}
