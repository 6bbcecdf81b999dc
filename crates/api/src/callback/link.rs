//! The channel to the application: one connection at a time, whose loss is noticed at once.

use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use layotto_proto::runtime::v1::app_callback_client::AppCallbackClient;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint, Uri};
use uuid::Uuid;

const CONNECT: Duration = Duration::from_secs(5);
/// Finds out about a host that vanished without a word.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Where the application listens.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    pub(super) fn new(host: &str, port: u16) -> Self {
        let host = host.trim().trim_start_matches('[').trim_end_matches(']');
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        Self {
            host: host.to_owned(),
            port,
        }
    }

    pub(super) async fn dial(&self) -> io::Result<TcpStream> {
        TcpStream::connect((self.host.as_str(), self.port)).await
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One connection to the application.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: AppCallbackClient<Channel>,
    pub(super) channel: Channel,
    /// Cancelled when the connection is gone, also when nothing was sent.
    pub(super) lost: CancellationToken,
}

/// Connects once. The channel never reconnects by itself: each connection begins with the question
/// for the application's subscriptions.
pub(super) async fn connect(address: &Address) -> Result<Connection, tonic::transport::Error> {
    let lost = CancellationToken::new();
    let signal = lost.clone();
    let target = address.clone();
    let is_used = Arc::new(AtomicBool::new(false));
    let connector = tower::service_fn(move |_: Uri| {
        let (target, signal, is_first) = (
            target.clone(),
            signal.clone(),
            !is_used.swap(true, Ordering::Relaxed),
        );
        async move {
            if !is_first {
                signal.cancel();
                return Err(io::Error::new(
                    io::ErrorKind::NotConnected,
                    "the connection is gone",
                ));
            }
            let stream = target.dial().await?;
            stream.set_nodelay(true)?;
            let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
            SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
            Ok(TokioIo::new(Watched {
                stream,
                _lost: signal.drop_guard(),
            }))
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .unwrap_or_else(|_| Endpoint::from_static("http://localhost"))
        .connect_timeout(CONNECT);
    let channel = endpoint.connect_with_connector(connector).await?;
    Ok(Connection {
        client: AppCallbackClient::new(channel.clone()),
        channel,
        lost,
    })
}

/// Whether a call failed before any of it reached the application.
pub(super) fn is_unsent(status: &tonic::Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A socket that tells when it is closed.
struct Watched {
    stream: TcpStream,
    _lost: DropGuard,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What deliveries need to know of the application.
#[derive(Default)]
struct State {
    connection: Option<Connection>,
    is_well: bool,
}

/// The way to the application, which comes and goes.
pub(super) struct Link {
    state: watch::Sender<State>,
    shutdown: CancellationToken,
}

impl Link {
    /// A link without a connection; `is_well` unless a probe has to say so first.
    pub(super) fn new(shutdown: CancellationToken, is_well: bool) -> Self {
        Self {
            state: watch::Sender::new(State {
                connection: None,
                is_well,
            }),
            shutdown,
        }
    }

    pub(super) fn set(&self, connection: Option<Connection>) {
        self.state.send_modify(|state| state.connection = connection);
    }

    pub(super) fn set_well(&self, is_well: bool) {
        self.state.send_modify(|state| state.is_well = is_well);
    }

    /// The connection there is now, whether the application is well or not.
    pub(super) fn current(&self) -> Option<Connection> {
        self.state.borrow().connection.clone()
    }

    /// Waits until the application is connected and well; `None` at shutdown.
    pub(super) async fn connection(&self) -> Option<Connection> {
        let mut state = self.state.subscribe();
        let usable =
            |state: &State| state.is_well && state.connection.as_ref().is_some_and(Connection::is_up);
        let found = self.shutdown.run_until_cancelled(state.wait_for(usable)).await;
        found?.ok()?.connection.clone()
    }

    /// Cancelled when the process drains.
    pub(super) fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }
}

impl Connection {
    fn is_up(&self) -> bool {
        !self.lost.is_cancelled()
    }
}

/// Growing pauses from 100 ms to 5 s, each cut by up to a half at random so that many sidecars do
/// not call at once.
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Self::FIRST)
    }
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(5);

    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LAST);
        let (_, random) = Uuid::new_v4().as_u64_pair();
        pause.mul_f64(1.0 - (random % 1000) as f64 / 2000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = std::iter::repeat_with(|| backoff.next()).take(20).collect();
        assert!(pauses[0] <= Backoff::FIRST && pauses[0] >= Backoff::FIRST / 2);
        assert!(pauses[19] <= Backoff::LAST && pauses[19] >= Backoff::LAST / 2);
    }

    #[test]
    fn an_address_of_ipv6_is_bracketed() {
        assert_eq!(Address::new("::1", 7).to_string(), "[::1]:7");
        assert_eq!(Address::new("[::1]", 7).host, "::1");
        assert_eq!(Address::new("", 7).to_string(), "127.0.0.1:7");
    }
}
