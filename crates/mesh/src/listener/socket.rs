//! The listening socket of either family, and how a TCP one is bound.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixListener,
    },
};

use socket2::{Domain, Protocol, Type};

use super::{Config, error::Cause, unix::UnixSocket};
use crate::{Address, connection::Local};

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// A listening socket without its listener.
#[derive(Debug)]
pub enum StdSocket {
    /// A TCP socket.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Socket {
    pub(super) fn local(&self, configured: &Address) -> io::Result<Local> {
        match (self, configured.path()) {
            (Self::Unix(_), Some(path)) => Ok(Local::Unix(path.into())),
            (Self::Unix(_), None) => Err(io::ErrorKind::InvalidInput.into()),
            (Self::Tcp(socket), _) => socket.local_addr().map(Local::Tcp),
        }
    }

    pub(super) fn twin(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Unix(socket) => Self::Unix(socket.twin()?),
        })
    }

    pub(super) fn into_std(self) -> StdSocket {
        match self {
            Self::Tcp(socket) => StdSocket::Tcp(socket),
            Self::Unix(socket) => StdSocket::Unix(socket.into_std()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

pub(super) async fn bind_tcp(host: &str, port: u16, config: &Config) -> Result<Socket, Cause> {
    let mut last = Cause::Io(io::ErrorKind::AddrNotAvailable.into());
    for address in candidates(host, port).await? {
        match bind_address(address, config) {
            Ok(socket) => return Ok(Socket::Tcp(socket)),
            // A taken port must not be dodged by moving to the host's next address.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(Cause::InUse),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// The addresses to try, best first: IPv4 before IPv6 for names, as clients in Go do; the wildcard
/// of both families first for an empty host, with IPv4 for machines that have nothing else.
async fn candidates(host: &str, port: u16) -> Result<Vec<SocketAddr>, Cause> {
    if host.is_empty() {
        return Ok(vec![
            (Ipv6Addr::UNSPECIFIED, port).into(),
            (Ipv4Addr::UNSPECIFIED, port).into(),
        ]);
    }
    let found = tokio::net::lookup_host((host, port))
        .await
        .map_err(Cause::Unresolved)?;
    let mut addresses: Vec<_> = found.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    Ok(addresses)
}

fn bind_address(address: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Else a restart fails for as long as connections of the process before linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(config.backlog.into())?;
    Ok(socket.into())
}
