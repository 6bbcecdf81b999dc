//! One question to a host, over a connection of its own.

use std::{fmt, io, net::SocketAddr};

use futures::future::{Either, select};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either as Io;

use super::{grpc, http1, tcp};
use crate::cluster::{Endpoint, Host};

/// What is asked.
#[derive(Debug)]
pub(super) enum Probe {
    /// Whether a connection can be made.
    Tcp,
    /// A path.
    Http(http1::Check),
    /// `grpc.health.v1.Health/Check`.
    Grpc(grpc::Check),
}

/// Why a host did not say that it is well.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no reply.
    Network(String),
    /// It said something else.
    Reply(String),
}

/// A connection to a host.
pub(super) type Stream = TokioIo<Io<TcpStream, UnixStream>>;

impl Probe {
    pub(super) async fn ask(&self, host: &Host) -> Result<(), Failure> {
        match self {
            Self::Tcp => tcp::ask(host).await,
            Self::Http(check) => check.ask(host).await,
            Self::Grpc(check) => check.ask(host).await,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Network(text) | Self::Reply(text)) = self;
        f.write_str(text)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Network(error.to_string())
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        Self::Network(error.to_string())
    }
}

/// Connects to `host`, at another port if there is one.
pub(super) async fn connect(host: &Host, port: Option<u16>) -> io::Result<Stream> {
    let stream = match host.resolve().await? {
        Endpoint::Unix(path) => Io::Right(UnixStream::connect(path).await?),
        Endpoint::Tcp(addresses) => {
            let at = |address: &SocketAddr| SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
            let addresses: Vec<_> = addresses.iter().map(at).collect();
            Io::Left(TcpStream::connect(addresses.as_slice()).await?)
        }
    };
    Ok(TokioIo::new(stream))
}

/// Waits for `reply` while `connection` does its work.
pub(super) async fn drive<T>(connection: impl Future, reply: impl Future<Output = T>) -> T {
    let (connection, reply) = (std::pin::pin!(connection), std::pin::pin!(reply));
    match select(reply, connection).await {
        Either::Left((reply, _)) => reply,
        // A connection that has ended has passed on the reply, or why there is none.
        Either::Right((_, reply)) => reply.await,
    }
}

/// What a host is called in `Host` or `:authority`.
pub(super) fn authority(host: &Host) -> String {
    match (&host.hostname, &host.address) {
        (Some(name), _) => name.to_string(),
        (None, crate::Address::Unix(_)) => "localhost".into(),
        (None, address) => address.to_string(),
    }
}
