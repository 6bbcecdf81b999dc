//! ZooKeeper: the session that all components with the same servers, session time-out, login and
//! settings of TLS share.
//!
//! The shared session holds nothing (no ephemeral node, no watch), so that one whose connection
//! broke is given up at once and another is opened, at a [pace](Pace): waiting for the library to
//! reconnect would take longer, and requests made meanwhile would be carried out late.

mod access;
mod failure;
mod node;
pub(crate) mod settings;
mod tls;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{TryFutureExt, future::select_ok};
use layotto_core::{Context, Error, ErrorKind, Result};
use tokio::{
    net::TcpStream,
    sync::{Notify, Semaphore, oneshot},
    task::AbortHandle,
    time::timeout,
};
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, SessionState};

pub(crate) use self::{
    access::{Access, Given},
    failure::Failure,
    node::node,
    settings::{Seconds, Unused},
};
use super::pace::Pace;

/// How long opening a session may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one server of several may say nothing, so that there is time for another one.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// Room for requests that are not answered, in KiB; more callers wait for a place.
const ROOM: u32 = 64 * 1024;
/// What a request takes of the room besides its data.
const OVERHEAD: u32 = 16;
/// The port of a server that is given without one.
const PORT: u16 = 2181;

/// Permits everything to everybody, as Go Layotto does.
pub(crate) const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
/// The same for a node that ends with its session.
pub(crate) const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());

/// A group of servers, and the shared session with it.
pub(crate) struct Ensemble {
    inner: Arc<Inner>,
    room: Arc<Semaphore>,
}

struct Inner {
    /// `host:port`, with commas in between.
    servers: String,
    session_timeout: Duration,
    access: Access,
    state: Mutex<State>,
    /// A try to open a session ended.
    changed: Notify,
}

#[derive(Default)]
struct State {
    session: Option<Client>,
    /// The try to open a session that is under way.
    attempt: Option<AbortHandle>,
    pace: Pace,
    /// Why the last try failed.
    refusal: Option<(ErrorKind, String)>,
    /// A component called the servers.
    is_used: bool,
}

impl Ensemble {
    /// The session with `servers`, shared with the other components that have the same servers,
    /// time-out and access. Nothing is connected yet.
    pub(crate) async fn shared<'a>(
        servers: impl IntoIterator<Item = &'a str>,
        session_timeout: Duration,
        access: Access,
        cx: &Context,
    ) -> Result<Arc<Self>> {
        let servers = servers
            .into_iter()
            .map(str::trim)
            .filter(|server| !server.is_empty());
        let servers: Vec<_> = servers.map(with_port).collect::<Result<_>>()?;
        if servers.is_empty() {
            return Err(Error::invalid("zookeeper: no server is given"));
        }
        if session_timeout.is_zero() || i32::try_from(session_timeout.as_millis()).is_err() {
            return Err(Error::invalid("zookeeper: the session time-out is invalid"));
        }
        access.check(&servers)?;
        let servers = servers.join(",");
        let target = format!("{servers} {session_timeout:?} {}", access.identity());
        let open = async || Ok(Self::new(servers, session_timeout, access));
        cx.shared.get_or_open(&target, open).await
    }

    fn new(servers: String, session_timeout: Duration, access: Access) -> Self {
        Self {
            inner: Arc::new(Inner {
                servers,
                session_timeout,
                access,
                state: Mutex::default(),
                changed: Notify::new(),
            }),
            room: Arc::new(Semaphore::new(ROOM as usize)),
        }
    }

    /// The servers, as one text.
    pub(crate) fn servers(&self) -> &str {
        &self.inner.servers
    }

    /// Makes a request of about `bytes` bytes on the shared session. Fails at once while the servers
    /// are known to be away. Whoever drops this may find the request carried out all the same.
    pub(crate) async fn call<T, F>(
        &self,
        bytes: usize,
        request: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, zookeeper_client::Error>> + Send + 'static,
    {
        let session = self.session().await?;
        self.bounded(bytes, request(session)).await
    }

    /// Waits for the answer of a request on any session; however the caller ends, the request takes
    /// its room until it is answered or its session broke.
    pub(crate) async fn bounded<T, F>(&self, bytes: usize, request: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, zookeeper_client::Error>> + Send + 'static,
    {
        let kibibytes = u32::try_from(bytes / 1024).unwrap_or(ROOM);
        let weight = kibibytes.saturating_add(OVERHEAD).min(ROOM);
        let closed = || Failure::Refused(Error::unavailable("zookeeper: the session is closed"));
        let room = Arc::clone(&self.room).acquire_many_owned(weight).await;
        let room = room.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        tokio::spawn(async move {
            let outcome = request.await;
            drop(room);
            // Whoever asked may be gone.
            drop(reply.send(outcome));
        });
        Ok(answer.await.map_err(|_| closed())??)
    }

    /// A session of its own, that ends `timeout` after its process does.
    pub(crate) async fn open(&self, timeout: Duration) -> Result<Client, Failure> {
        // The servers are there, or the caller learns at once that they are not.
        self.session().await?;
        self.inner.open(timeout).await
    }

    /// Asks whether the servers are there. Until a component calls them, that one accepts a
    /// connection is enough: a session costs memory, and the first one of the process a thread.
    pub(crate) async fn ping(&self) -> Result<()> {
        if self.inner.state().is_used {
            let stat = self.call(0, |session| async move { session.check_stat("/").await });
            return stat.await.map(drop).map_err(Into::into);
        }
        let dials = self.servers().split(',').map(|server| {
            let refused = move |error| Error::unavailable(format!("zookeeper: {error} ({server})"));
            Box::pin(TcpStream::connect(server).map_err(refused))
        });
        select_ok(dials).await.map(drop)
    }

    async fn session(&self) -> Result<Client> {
        loop {
            let changed = self.inner.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(session) = self.inner.take_or_try()? {
                return Ok(session);
            }
            changed.await;
        }
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        let (session, attempt) = (state.session.take(), state.attempt.take());
        drop(state);
        drop(session);
        if let Some(attempt) = attempt {
            attempt.abort();
        }
    }
}

fn with_port(server: &str) -> Result<String> {
    let wrong = || {
        Error::invalid(format!(
            "zookeeper: {server:?} is not a server such as \"host:{PORT}\""
        ))
    };
    let has_port = server
        .rsplit_once(':')
        .is_some_and(|(host, _)| !host.is_empty() && !server.ends_with(']'));
    if server.contains(['/', ' ']) || server.starts_with(':') {
        return Err(wrong());
    }
    if !has_port {
        return Ok(format!("{server}:{PORT}"));
    }
    let port = server
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse::<u16>().ok());
    port.filter(|port| *port > 0).ok_or_else(wrong)?;
    Ok(server.to_owned())
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session; without one sees to it that another is opened, or says why none is.
    fn take_or_try(self: &Arc<Self>) -> Result<Option<Client>> {
        let mut state = self.state();
        state.is_used = true;
        if let Some(session) = &state.session {
            if session.state() == SessionState::SyncConnected {
                return Ok(Some(session.clone()));
            }
            state.session = None;
        }
        if state.attempt.is_some() {
            return Ok(None);
        }
        if state.pace.is_due() {
            state.attempt = Some(Attempt::start(Arc::clone(self)));
            return Ok(None);
        }
        let (kind, message) = match &state.refusal {
            Some((kind, message)) => (*kind, message.as_str()),
            None => (ErrorKind::Unavailable, "zookeeper: not connected"),
        };
        Err(Error::new(kind, message))
    }

    async fn open(&self, session_timeout: Duration) -> Result<Client, Failure> {
        let connector = Client::connector()
            .with_session_timeout(session_timeout)
            .with_connection_timeout(self.connection_timeout())
            .with_fail_eagerly();
        let session = self.access.connect(connector, &self.servers);
        match timeout(CONNECT_TIMEOUT, session).await {
            Ok(session) => session,
            Err(_) => Err(zookeeper_client::Error::Timeout.into()),
        }
    }

    /// How long a server may say nothing, pings included, before another one is tried. Zero, which is
    /// two fifths of the session's time-out, where there is no other: a session as long as a lock's
    /// lease would wait for one silent server until it is too late for the next.
    fn connection_timeout(&self) -> Duration {
        match self.servers.contains(',') {
            true => SERVER_TIMEOUT,
            false => Duration::ZERO,
        }
    }

    fn attempted(&self, outcome: Result<Client, Failure>) {
        let mut state = self.state();
        state.attempt = None;
        match outcome {
            Ok(session) => {
                state.pace.succeeded();
                state.refusal = None;
                state.session = Some(session);
            }
            Err(failure) => {
                state.pace.failed();
                let error = Error::from(failure);
                let message = format!("{} ({})", error.message(), self.servers);
                state.refusal = Some((error.kind(), message));
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

/// A try to open the shared session; however it ends, those who wait are told.
struct Attempt {
    inner: Arc<Inner>,
    outcome: Option<Result<Client, Failure>>,
}

impl Attempt {
    fn start(inner: Arc<Inner>) -> AbortHandle {
        let attempt = Self { inner, outcome: None };
        tokio::spawn(attempt.run()).abort_handle()
    }

    async fn run(mut self) {
        self.outcome = Some(self.inner.open(self.inner.session_timeout).await);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let ended_early = || Err(Error::unavailable("zookeeper: connecting ended early").into());
        let outcome = self.outcome.take();
        self.inner.attempted(outcome.unwrap_or_else(ended_early));
    }
}

#[cfg(test)]
mod tests;
