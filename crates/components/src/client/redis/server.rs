//! One server: the connection that all calls share, and some for those that wait for replicas.

use std::{sync::Arc, time::Duration};

use layotto_core::{Error, Result};
use redis::{Cmd, Pipeline, Value};
use tokio::time::{Instant, timeout_at};

use super::{
    failure::{self, Failure},
    link::{Leased, Link, Place, Reached, Spacing},
    settings::Connection,
    strong::WAIT,
    transport::Opened,
    turns::{self, Turn, Turns},
};

/// Which of a server's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// The one that all calls share.
    Shared,
    /// One of those whose commands may wait, and which one caller has at a time; it can be had until
    /// then.
    Waiting(Instant),
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
    /// No connection could be had in time, so that nothing was sent.
    NoTurn(Error),
    /// The connection was lost: what was sent may have been carried out.
    Lost(Error),
}

impl Trouble {
    fn copy(&self) -> Self {
        let copy = |error: &Error| Error::new(error.kind(), error.message());
        match self {
            Self::Unsent(error) => Self::Unsent(copy(error)),
            Self::NoTurn(error) => Self::NoTurn(copy(error)),
            Self::Lost(error) => Self::Lost(copy(error)),
        }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unsent(error) | Trouble::NoTurn(error) | Trouble::Lost(error) => error,
        }
    }
}

/// A connection, and the caller's turn on it where others must wait for theirs.
pub(super) struct Held {
    leased: Leased,
    turn: Option<Turn>,
}

impl Held {
    /// Sends `batch` over this very connection.
    pub(super) async fn send(&mut self, batch: Batch<'_>) -> Result<Vec<Value>> {
        if let Some(turn) = &mut self.turn {
            turn.asks(&self.leased);
        }
        let wire = &mut self.leased.wire;
        let sent = match batch {
            Batch::One(command) => wire.run(command).await.map(|reply| vec![reply]),
            Batch::Many(commands) => wire.run_all(commands).await,
        };
        if let Some(turn) = &mut self.turn {
            turn.is_answered();
        }
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
    waiting: Turns,
}

impl Server {
    pub(super) fn new(place: Place, settings: &Arc<Connection>, spacing: &Arc<Spacing>) -> Self {
        let place = Arc::new(place);
        let reached = Arc::<Reached>::default();
        let link = |block| {
            let (place, settings) = (Arc::clone(&place), Arc::clone(settings));
            Link::new(place, settings, Arc::clone(spacing), Arc::clone(&reached), block)
        };
        Self {
            shared: link(Duration::ZERO),
            waiting: Turns::new(|| link(WAIT)),
            settings: Arc::clone(settings),
            place,
        }
    }

    /// Where it is.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    fn link<'a>(&'a self, turn: &'a Option<Turn>) -> &'a Link {
        turn.as_ref().map_or(&self.shared, |turn| &turn.link)
    }

    /// Sends `batch` and takes the replies, which may be errors of the server; they come with the
    /// connection that they came over.
    pub(super) async fn exchange(&self, lane: Lane, batch: Batch<'_>) -> Result<(Vec<Value>, Held), Trouble> {
        let (leased, turn) = match lane {
            Lane::Shared => (self.shared.lease().await, None),
            Lane::Waiting(until) => {
                let turn = self.waiting.take(until).await.map_err(Trouble::NoTurn)?;
                let leased = timeout_at(until, turn.link.lease()).await;
                let late = |_| Trouble::NoTurn(turns::not_written("redis does not answer"));
                (leased.map_err(late)?, Some(turn))
            }
        };
        let leased = leased.map_err(Trouble::Unsent)?;
        let mut held = Held { leased, turn };
        let replies = held.send(batch).await.map_err(Trouble::Lost)?;
        if replies.iter().any(is_read_only) {
            self.link(&held.turn).renew(&held.leased);
        }
        Ok((replies, held))
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
