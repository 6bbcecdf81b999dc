//! Makes connections to hosts.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{Failure, Fault, Protocol, Stream};
use crate::{
    Address,
    cluster::{Cluster, Endpoint, Host},
};

/// How long a connection may be silent before the system asks whether the host is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How long sent bytes may stay without an acknowledgement before the connection counts as lost:
/// requests to a host that vanished must not hang for as long as the system would try.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Connects, and does what `then` asks for, within the cluster's time-out.
pub(super) async fn connect<T>(
    cluster: &Cluster,
    host: &Host,
    protocol: Protocol,
    then: impl AsyncFnOnce(Stream) -> io::Result<T>,
) -> Result<T, Failure> {
    let connected = async { then(open(cluster, host, protocol).await?).await };
    let connected = match timeout(cluster.connect_timeout(), connected).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it took too long")),
    };
    connected.map_err(|error| {
        host.count(|stats| stats.connection_con_fail.inc());
        Failure::new(Fault::Connect, error)
    })
}

async fn open(cluster: &Cluster, host: &Host, protocol: Protocol) -> io::Result<Stream> {
    let stream = dial(host).await?;
    let Some(tls) = cluster.tls(host) else {
        return Ok(stream);
    };
    let local = stream.local();
    let secured = tls.secure(stream, server_name(host), protocol).await?;
    Ok(Stream::Over(secured, local))
}

/// Connects to a host, in clear text.
pub(crate) async fn dial(host: &Host) -> io::Result<Stream> {
    Ok(match host.resolve().await? {
        Endpoint::Tcp(addresses) => Stream::Tcp(tcp(&addresses).await?),
        Endpoint::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
    })
}

async fn tcp(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addresses).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(stream)
}

/// What a host proves to be, over TLS.
pub(crate) fn server_name(host: &Host) -> &str {
    match (&host.hostname, &host.address) {
        (Some(name), _) => name,
        (None, Address::Tcp { host, .. }) => host,
        (None, Address::Unix(_)) => "localhost",
    }
}
