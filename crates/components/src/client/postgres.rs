//! PostgreSQL: the connections that all components with the same connection string share.
//!
//! The library's own pool is not used: it lets each waiting caller try to connect, and hands on a
//! connection whose last call was given up. Here one try is under way at a time, tries have a
//! [pace](Pace), a caller learns at once that the server was just found away, and a connection is
//! used again only after a call that ended in order.

mod connect;
mod conninfo;
mod failure;
mod table;

use std::{
    num::NonZeroU16,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use layotto_core::{Context, Error, ErrorKind, Result, Secret};
use ring::digest;
use schemars::JsonSchema;
use serde::Deserialize;
use sqlx::{Connection, postgres::PgConnection};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::{Instant, timeout},
};

use self::conninfo::ConnInfo;
pub(crate) use self::{
    failure::Failure,
    table::{Layout, Sweep, Table},
};
use super::pace::Pace;

/// A connection that was used this recently is taken for alive.
const FRESH: Duration = Duration::from_secs(1);
/// How long the server may take to show that a connection is alive.
const PROOF: Duration = Duration::from_secs(2);
/// How long a connection may lie unused.
const IDLE: Duration = Duration::from_secs(300);
/// How old a connection may get: the server behind a name may have changed.
const LIFE: Duration = Duration::from_secs(1800);
/// Where every connection is in use, an answer this recent shows that the server is there.
const RECENT: Duration = Duration::from_secs(5);

/// How many connections to a server may be in use at once.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct MaxConns(pub NonZeroU16);

impl Default for MaxConns {
    fn default() -> Self {
        Self(NonZeroU16::new(10).expect("invariant: ten is not zero"))
    }
}

/// The settings that components of all kinds have.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Settings {
    /// The server, the database and the login, as libpq writes them: `host=db user=app password=…
    /// dbname=orders sslmode=verify-full`, or `postgres://app:…@db/orders?sslmode=verify-full`.
    pub connection_string: Secret,
    /// Connections in use at most. Components with the same connection string and the same bound
    /// share them. Default 10.
    #[serde(default)]
    pub max_conns: MaxConns,
}

/// Fails for a text that PostgreSQL cannot hold; `what` is what it is.
pub(crate) fn storable(what: &str, text: &str) -> Result<()> {
    match text.contains('\0') {
        true => Err(Error::invalid(format!(
            "postgresql cannot store a {what} with U+0000"
        ))),
        false => Ok(()),
    }
}

/// Connections to one server, as many as are needed up to a bound.
pub(crate) struct Pool {
    inner: Arc<Inner>,
    /// One for each connection that may be in use at once.
    places: Arc<Semaphore>,
}

struct Inner {
    info: ConnInfo,
    most: usize,
    state: Mutex<State>,
    /// A connection came back or went, or a try to connect ended.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Connections without a user; the last was used last.
    idle: Vec<Open>,
    /// How many have a user.
    leased: usize,
    /// Rises when a connection broke: then those that were idle are given up too.
    generation: u64,
    /// The try to connect that is under way.
    attempt: Option<AbortHandle>,
    pace: Pace,
    /// Why the last try failed.
    refusal: Option<Refusal>,
    /// When the server last answered a call.
    answered: Option<Instant>,
}

struct Refusal {
    kind: ErrorKind,
    message: String,
    /// The server has no room for another connection.
    is_full: bool,
}

struct Open {
    connection: PgConnection,
    generation: u64,
    made: Instant,
    used: Instant,
}

impl Pool {
    /// The connections for `settings`, shared with the other components that have the same.
    /// Nothing is connected yet.
    pub(crate) async fn shared(settings: &Settings, cx: &Context) -> Result<Arc<Self>> {
        let Settings {
            connection_string,
            max_conns,
        } = settings;
        let text = connection_string.expose();
        let info = ConnInfo::parse(text, cx)?;
        // The text holds the password, and keys may be shown.
        let target = digest::digest(&digest::SHA256, format!("{max_conns:?} {text}").as_bytes());
        let open = async || Ok(Self::new(info, max_conns.0.get().into()));
        cx.shared.get_or_open(&format!("{target:?}"), open).await
    }

    fn new(info: ConnInfo, most: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                info,
                most,
                state: Mutex::default(),
                changed: Notify::new(),
            }),
            places: Arc::new(Semaphore::new(most)),
        }
    }

    /// A connection for one call. Waits while all are in use, and fails at once while the server is
    /// known to be away.
    pub(crate) async fn lease(&self) -> Result<Lease> {
        let closed = |_| Error::unavailable("postgresql: the connections are closed");
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(closed)?;
        loop {
            let mut lease = Lease {
                open: Some(self.inner.next().await?),
                inner: Arc::clone(&self.inner),
                place: None,
            };
            if lease.is_alive().await {
                lease.place = Some(place);
                return Ok(lease);
            }
            lease.give_up();
        }
    }

    /// Asks the server whether it is there.
    pub(crate) async fn ping(&self) -> Result<()> {
        let is_busy = self.places.available_permits() == 0;
        let answered = self.inner.state().answered;
        if is_busy && answered.is_some_and(|at| at.elapsed() < RECENT) {
            return Ok(());
        }
        let mut lease = self.lease().await?;
        let pong = lease.connection().ping().await;
        lease.settle(pong)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        let (idle, attempt) = (std::mem::take(&mut state.idle), state.attempt.take());
        drop(state);
        drop(idle);
        if let Some(attempt) = attempt {
            attempt.abort();
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection for one of those who have a place.
    async fn next(self: &Arc<Self>) -> Result<Open> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(open) = self.take_or_try()? {
                return Ok(open);
            }
            changed.await;
        }
    }

    /// An idle connection; without one sees to it that another comes, or says why none does.
    fn take_or_try(self: &Arc<Self>) -> Result<Option<Open>> {
        let mut state = self.state();
        if let Some(open) = state.idle.pop() {
            state.leased += 1;
            return Ok(Some(open));
        }
        if state.attempt.is_some() {
            return Ok(None);
        }
        if state.pace.is_due() {
            state.attempt = Some(Attempt::start(Arc::clone(self)));
            return Ok(None);
        }
        match &state.refusal {
            // One of those in use will come back.
            Some(refusal) if refusal.is_full && state.leased > 0 => Ok(None),
            Some(refusal) => Err(Error::new(refusal.kind, &refusal.message)),
            None => Err(Error::unavailable("postgresql: not connected")),
        }
    }

    fn attempted(&self, outcome: Result<PgConnection, Failure>) {
        let mut state = self.state();
        state.attempt = None;
        match outcome {
            Ok(connection) => {
                state.pace.succeeded();
                state.refusal = None;
                let now = Instant::now();
                let generation = state.generation;
                // Those that it was made for may be gone, and the places taken.
                if state.idle.len() + state.leased < self.most {
                    state.idle.push(Open {
                        connection,
                        generation,
                        made: now,
                        used: now,
                    });
                }
            }
            Err(failure) => {
                state.pace.failed();
                let is_full = failure.code() == Some("53300");
                let error = Error::from(failure);
                state.refusal = Some(Refusal {
                    kind: error.kind(),
                    message: format!("{} ({})", error.message(), self.info.peer()),
                    is_full,
                });
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

/// A try to connect; however it ends, those who wait are told.
struct Attempt {
    inner: Arc<Inner>,
    outcome: Option<Result<PgConnection, Failure>>,
}

impl Attempt {
    fn start(inner: Arc<Inner>) -> AbortHandle {
        let attempt = Self { inner, outcome: None };
        tokio::spawn(attempt.run()).abort_handle()
    }

    async fn run(mut self) {
        self.outcome = Some(self.inner.info.connect().await);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let ended_early = || Err(Error::unavailable("postgresql: connecting ended early").into());
        let outcome = self.outcome.take();
        self.inner.attempted(outcome.unwrap_or_else(ended_early));
    }
}

/// A connection in use by one call. Dropped before the call [settled](Self::settle), it is closed,
/// and the server stops what it does for it.
pub(crate) struct Lease {
    /// `None` once it is settled.
    open: Option<Open>,
    inner: Arc<Inner>,
    place: Option<OwnedSemaphorePermit>,
}

impl Lease {
    /// The connection.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        let open = self.open.as_mut();
        &mut open
            .expect("invariant: a lease that is not settled has a connection")
            .connection
    }

    /// Ends the call with what it came to, and keeps the connection if it is good for another.
    pub(crate) fn settle<T>(mut self, outcome: Result<T, impl Into<Failure>>) -> Result<T> {
        match outcome.map_err(Into::into) {
            Ok(value) => {
                self.give_back();
                Ok(value)
            }
            Err(failure) => {
                if failure.ends_connection() {
                    self.give_up();
                } else {
                    self.give_back();
                }
                Err(failure.into())
            }
        }
    }

    async fn is_alive(&mut self) -> bool {
        if self.open.as_ref().is_some_and(|open| open.used.elapsed() < FRESH) {
            return true;
        }
        matches!(timeout(PROOF, self.connection().ping()).await, Ok(Ok(())))
    }

    fn give_back(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        let now = Instant::now();
        open.used = now;
        open.connection.shrink_buffers();
        let mut state = self.inner.state();
        state.leased -= 1;
        state.answered = Some(now);
        if open.generation == state.generation && open.made.elapsed() < LIFE {
            state.idle.push(open);
        }
        state.idle.retain(|open| open.used.elapsed() < IDLE);
        drop(state);
        self.inner.changed.notify_waiters();
    }

    /// Closes the connection, and those that were idle while it broke.
    fn give_up(&mut self) {
        let Some(open) = &self.open else { return };
        let mut state = self.inner.state();
        if open.generation == state.generation {
            state.generation += 1;
            state.idle.clear();
        }
        drop(state);
        self.close();
    }

    fn close(&mut self) {
        if self.open.take().is_some() {
            self.inner.state().leased -= 1;
            self.inner.changed.notify_waiters();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.close();
        // Whoever waits for the place finds the connection counted out.
        self.place = None;
    }
}

#[cfg(test)]
mod tests;
