//! The way to the nodes: one connection, made when it is needed and replaced when it is lost.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future::select_ok, stream::FuturesUnordered};
use layotto_core::{Context, Error, Result};
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    session::{Manner, Session},
    settings::{Endpoint, Target},
    wire::{StatusRequest, StatusResponse},
};
use crate::{client::pace::spread, os_text::os_text};

/// etcd speaks HTTP/2 alone.
const ALPN: &[u8] = b"h2";
/// A node that has not answered by then is not waited for alone.
const STAGGER: Duration = Duration::from_millis(300);
/// Nodes are tried no more often than this, on the whole.
const PACE: Duration = Duration::from_millis(100);
/// The longest pause between rounds, but for the pace.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long a call waits for a connection while the nodes are known to be away.
const PATIENCE: Duration = Duration::from_secs(1);

/// The way to the nodes; clones share it.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

struct Inner {
    target: Target,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Session>,
    /// Under way, with the outcome to come.
    round: Option<watch::Receiver<Outcome>>,
    /// The node to begin with.
    first: usize,
    /// The next round begins no earlier.
    not_before: Option<Instant>,
    /// Rounds that failed since the last one that did not, and why the last one did.
    failures: u32,
    reason: String,
    /// Connections made so far.
    made: u64,
}

/// Nothing yet, a connection, or why there is none.
type Outcome = Option<Result<Session, String>>;

impl Link {
    pub(super) fn new(target: Target, cx: &Context) -> Self {
        let first = fastrand::usize(..target.endpoints.len());
        Self(Arc::new(Inner {
            target,
            tasks: cx.tasks.clone(),
            shutdown: cx.shutdown.clone(),
            state: Mutex::new(State {
                first,
                ..State::default()
            }),
        }))
    }

    /// How many nodes there are.
    pub(super) fn nodes(&self) -> usize {
        self.0.target.endpoints.len()
    }

    /// Whether a connection was ever asked for.
    pub(super) fn is_used(&self) -> bool {
        let state = self.0.state();
        state.round.is_some() || state.current.is_some() || state.not_before.is_some()
    }

    /// The connection, made now where there is none. Fails at once while the nodes are known to be
    /// away.
    pub(super) async fn session(&self) -> Result<Session> {
        let (mut round, is_away) = {
            let mut state = self.0.state();
            if let Some(session) = state.current.clone() {
                if !session.is_closed() {
                    return Ok(session);
                }
                state.leave(&session, self.nodes());
            }
            let round = match &state.round {
                Some(round) => round.clone(),
                None => self.begin(&mut state)?,
            };
            (round, state.failures > 0)
        };
        let outcome = async {
            let outcome = round.wait_for(Option::is_some).await;
            outcome.ok().and_then(|outcome| outcome.clone())
        };
        let outcome = match is_away {
            true => timeout(PATIENCE, outcome).await.unwrap_or_default(),
            false => outcome.await,
        };
        match outcome {
            Some(Ok(session)) => Ok(session),
            Some(Err(reason)) => Err(self.0.away(&reason)),
            None => Err(self.0.away("no answer")),
        }
    }

    /// Gives up a connection: it broke, or its node does not do its work and another may. A node
    /// that was left is tried last.
    pub(super) fn leave(&self, session: &Session) {
        self.0.state().leave(session, self.nodes());
    }

    /// Whether something listens at a node, without a connection that stays.
    pub(super) async fn reach(&self) -> Result<()> {
        let attempts = self.0.target.endpoints.iter().map(|endpoint| {
            let dial = async move {
                let dialled = timeout(self.0.target.dial_timeout, dial(endpoint)).await;
                dialled.unwrap_or_else(|_| Err(format!("{endpoint}: no answer")))
            };
            Box::pin(dial)
        });
        let reached = select_ok(attempts).await;
        reached.map(drop).map_err(|reason| self.0.away(&reason))
    }

    /// How many connections were made.
    #[cfg(test)]
    pub(super) fn made(&self) -> u64 {
        self.0.state().made
    }

    /// Whether the connection there was is closed.
    #[cfg(test)]
    pub(super) fn is_lost(&self) -> bool {
        self.0.state().current.as_ref().is_none_or(Session::is_closed)
    }

    fn begin(&self, state: &mut State) -> Result<watch::Receiver<Outcome>> {
        let begin = state.not_before.filter(|begin| *begin > Instant::now());
        if begin.is_some() && state.failures > 0 {
            return Err(self.0.away(&state.reason));
        }
        let (tell, round) = watch::channel(None);
        state.round = Some(round.clone());
        let (inner, first) = (Arc::clone(&self.0), state.first);
        // A task of its own: a caller that goes away does not take with it what others wait for.
        self.0.tasks.spawn(async move {
            if let Some(begin) = begin {
                // The connection was lost as soon as it was made; the nodes are not known to be away.
                sleep_until(begin).await;
            }
            let (outcome, attempts) = inner.round(first).await;
            inner.state().end_round(&outcome, attempts);
            tell.send_replace(Some(outcome));
        });
        Ok(round)
    }
}

impl State {
    fn leave(&mut self, session: &Session, nodes: usize) {
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.number == session.number)
        {
            self.current = None;
            self.first = (session.node + 1) % nodes;
            "the connection was lost".clone_into(&mut self.reason);
        }
    }

    fn end_round(&mut self, outcome: &Result<Session, String>, attempts: u32) {
        let mut pause = PACE * attempts.max(1);
        match outcome {
            Ok(session) => {
                self.current = Some(session.clone());
                self.failures = 0;
            }
            Err(reason) => {
                self.failures = self.failures.saturating_add(1);
                self.reason.clone_from(reason);
                let grown = PACE * 2_u32.saturating_pow(self.failures.min(4));
                pause = pause.max(grown.min(LONGEST_PAUSE));
            }
        }
        self.not_before = Some(Instant::now() + spread(pause));
        self.round = None;
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn away(&self, reason: &str) -> Error {
        Error::unavailable(format!("etcd cannot be reached: {reason}"))
    }

    /// Tries all nodes, beginning with `first`, until one takes work. Returns how many were tried.
    async fn round(self: &Arc<Self>, first: usize) -> (Result<Session, String>, u32) {
        let nodes = self.target.endpoints.len();
        let mut waiting = (0..nodes).map(|step| (first + step) % nodes);
        let mut trying = FuturesUnordered::new();
        let (mut leaderless, mut reason, mut attempts) = (None, String::new(), 0);
        loop {
            if let Some(node) = waiting.next() {
                trying.push(self.attempt(node));
                attempts += 1;
            } else if trying.is_empty() {
                break;
            }
            let left = waiting.len();
            tokio::select! {
                Some(outcome) = trying.next() => match outcome {
                    Ok((session, true)) => return (Ok(session), attempts),
                    Ok((session, false)) => leaderless = leaderless.or(Some(session)),
                    Err(failed) => reason = failed,
                },
                () = sleep(STAGGER), if left > 0 => {}
                () = self.shutdown.cancelled() => return (Err("the process is shutting down".to_owned()), attempts),
            }
        }
        (leaderless.ok_or(reason), attempts)
    }

    /// A connection to one node, and whether the node knows a leader.
    async fn attempt(self: &Arc<Self>, node: usize) -> Result<(Session, bool), String> {
        let endpoint = &self.target.endpoints[node];
        let connected = timeout(self.target.dial_timeout, self.connect(node)).await;
        connected
            .unwrap_or_else(|_| Err("no answer".to_owned()))
            .map_err(|reason| format!("{endpoint}: {reason}"))
    }

    async fn connect(self: &Arc<Self>, node: usize) -> Result<(Session, bool), String> {
        let endpoint = &self.target.endpoints[node];
        let stream = dial(endpoint).await?;
        let session = match &self.target.tls {
            None => self.session(stream, node).await?,
            Some(tls) => {
                let tls = tls.clone();
                // Reads files, and perhaps every certificate that the system trusts.
                let config = spawn_blocking(move || tls.config()).await;
                let config = config.map_err(|error| error.to_string())?;
                let mut config = config.map_err(|error| error.to_string())?;
                config.alpn_protocols = vec![ALPN.to_vec()];
                let name = ServerName::try_from(endpoint.host.clone()).map_err(|error| error.to_string())?;
                let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
                self.session(stream.map_err(|error| error.to_string())?, node)
                    .await?
            }
        };
        // Whatever it answers, it does: one that is stopped, or is no etcd, does not.
        let path = "/etcdserverpb.Maintenance/Status";
        let status: Result<StatusResponse, _> =
            session.unary(path, StatusRequest {}, &Manner::default()).await;
        match status {
            Ok(status) => Ok((session, status.leader != 0)),
            Err(failure) if failure.is_transient() => Err(failure.into_error().message().to_owned()),
            Err(_) => Ok((session, true)),
        }
    }

    async fn session<T>(&self, io: T, node: usize) -> Result<Session, String>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let number = {
            let mut state = self.state();
            state.made += 1;
            state.made
        };
        let authority = self.target.endpoints[node].to_string();
        let opened = Session::new(io, &authority, node, number).await;
        let (session, driver) = opened.map_err(|error| error.to_string())?;
        let shutdown = self.shutdown.clone();
        // Ends when the connection does, or when nobody holds the session.
        self.tasks.spawn(async move {
            if let Some(Err(error)) = shutdown.run_until_cancelled(driver).await {
                tracing::debug!(
                    node = authority,
                    error = &error as &dyn std::error::Error,
                    "connection ended"
                );
            }
        });
        Ok(session)
    }
}

async fn dial(endpoint: &Endpoint) -> Result<TcpStream, String> {
    let dialled = async {
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(stream)
    };
    dialled.await.map_err(|error| os_text(&error))
}
