//! One connection to one server: TCP, TLS, the login, and proof that the server takes work.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, RedisResult, Value,
    aio::{AsyncPushSender, MultiplexedConnection},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::{
    failure::{self, Failure},
    settings::{Address, Connection, Login},
    tls::Tls,
    watched::Watched,
    wire::{Calls, Wire},
};

/// How long nothing may be said before the system asks whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long it waits for an answer to that, and how often it asks.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Commands that may wait to be sent; more callers wait for a place.
const QUEUE: usize = 1024;

/// An open connection. Its driver carries out what is sent over it, and ends when it is lost.
pub(super) struct Opened {
    pub(super) wire: Wire,
    pub(super) driver: BoxFuture<'static, ()>,
    /// What the server answered to the first command.
    pub(super) greeting: Value,
}

impl Opened {
    /// Runs a command before anything else does.
    pub(super) async fn run(&mut self, command: &Cmd) -> RedisResult<Value> {
        tokio::select! {
            biased;
            answered = self.wire.run(command) => answered?.extract_error(),
            () = &mut self.driver => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }

    /// Runs commands at once, before anything else does; a reply may be an error.
    pub(super) async fn run_all(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        tokio::select! {
            biased;
            answered = self.wire.run_all(commands) => answered,
            () = &mut self.driver => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }
}

/// Carries out what is sent over a connection. Lets all that is ready run before each turn: whoever
/// sends a command wakes it, and the runtime would run it next, so that each command would be a
/// write of its own.
struct Patient {
    driver: BoxFuture<'static, ()>,
    yielded: bool,
}

impl Future for Patient {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.yielded = !self.yielded;
        if self.yielded {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.driver.poll_unpin(cx)
    }
}

/// A task that ends with whoever holds this.
#[derive(Debug)]
pub(super) struct Task(Option<JoinHandle<()>>);

impl Task {
    pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Some(tokio::spawn(future)))
    }

    /// Lets it go on to its own end.
    pub(super) fn detach(mut self) {
        self.0 = None;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// A connection to open.
#[derive(Clone)]
pub(super) struct Dial<'a> {
    pub(super) address: &'a Address,
    pub(super) login: &'a Login,
    pub(super) database: u16,
    /// How long the server may owe an answer.
    pub(super) patience: Option<Duration>,
    /// What it must answer for the connection to count.
    pub(super) greeting: Cmd,
    /// Takes what the server says unasked, which takes a server that speaks RESP3.
    pub(super) pushes: Option<Arc<dyn AsyncPushSender>>,
}

impl<'a> Dial<'a> {
    /// A connection for commands.
    pub(super) fn new(address: &'a Address, settings: &'a Connection) -> Self {
        Self {
            address,
            login: &settings.login,
            database: settings.db,
            patience: settings.read_timeout,
            greeting: redis::cmd("PING"),
            pushes: None,
        }
    }

    /// Connects, within the time for a dial.
    pub(super) async fn open(self, settings: &Connection) -> Result<Opened, Failure> {
        let opening = self.connect(settings.tls.as_ref());
        match tokio::time::timeout(settings.dial_timeout, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Failure::dial(self.address, &io::ErrorKind::TimedOut.into())),
        }
    }

    async fn connect(&self, tls: Option<&Tls>) -> Result<Opened, Failure> {
        let dial = |error: io::Error| Failure::dial(self.address, &error);
        let host = self.address.host.as_str();
        let stream = TcpStream::connect((host, self.address.port))
            .await
            .map_err(dial)?;
        tune(&stream).map_err(dial)?;
        let Some(tls) = tls else {
            return self.greet(stream).await;
        };
        let (tls, host) = (tls.clone(), host.to_owned());
        // Reads files, and perhaps every certificate that the system trusts.
        let config = tokio::task::spawn_blocking(move || tls.for_host(&host)).await;
        let (config, name) = config.map_err(|error| Failure::unavailable(error.to_string()))??;
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| Failure::unavailable(format!("tls with {}: {error}", self.address)))?;
        self.greet(stream).await
    }

    async fn greet<S>(&self, stream: S) -> Result<Opened, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let refused = |error| Failure::greeting(self.address, &error);
        // Calls end with their callers, at deadlines of their own.
        let mut config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        let mut login = self.login.info(self.database);
        if let Some(pushes) = &self.pushes {
            config = config.set_push_sender(Arc::clone(pushes));
            login = login.set_protocol(ProtocolVersion::RESP3);
        }
        let calls = Calls::default();
        let stream = Watched::new(stream, self.patience, calls.clone());
        let opened = MultiplexedConnection::new_with_config(&login, stream, config).await;
        let (connection, driver) = opened.map_err(refused)?;
        let mut opened = Opened {
            wire: Wire { connection, calls },
            driver: Patient {
                driver: driver.boxed(),
                yielded: false,
            }
            .boxed(),
            greeting: Value::Nil,
        };
        match opened.run(&self.greeting).await {
            Ok(greeting) => opened.greeting = greeting,
            // Who may not ask finds the server there all the same.
            Err(error) if failure::code(&error) == Some("NOPERM") => {}
            Err(error) => return Err(refused(error)),
        }
        Ok(opened)
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(stream, true)?;
    rustix::net::sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    rustix::net::sockopt::set_tcp_keepintvl(stream, KEEPALIVE_EVERY)?;
    rustix::net::sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(())
}
