//! Connections to upstream hosts: made when needed, kept while they are good, pooled per cluster
//! and host.
//!
//! A request first takes a [`Lease`] on a connection and then is sent over it. Over HTTP/1.1 the
//! task of the request polls the connection itself, and so does who reads the reply: nothing is
//! spawned and no other task is woken. Over HTTP/2 one task per connection reads and writes
//! frames; requests talk to it directly. Dropping a lease, the future that sends, or the body of a
//! reply cancels the request: an HTTP/1.1 connection is closed, an HTTP/2 stream is reset.

mod connect;
mod failure;
mod gate;
mod http1;
mod http2;
mod open;
mod reply;
mod stream;
mod sweep;
mod wait;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use http::Request;

pub(crate) use self::{
    connect::{dial, server_name},
    open::Open,
};
pub use self::{
    failure::{Failure, Fault},
    reply::{Reply, ReplyBody, Upgraded},
    stream::{Io, Secure, Stream},
};
use crate::{
    body::Body,
    cluster::{Cluster, Host},
    connection::Info,
};

/// What is spoken to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, by prior knowledge or ALPN.
    Http2,
}

/// The connections to one host of one cluster. Dropping it closes those that are idle; the others
/// when their last request is done.
#[derive(Debug, Default)]
pub struct Pool {
    http1: Arc<http1::Pool>,
    http2: Arc<http2::Pool>,
}

/// The right to send one request over a connection.
#[derive(Debug)]
pub struct Lease(Over);

#[derive(Debug)]
enum Over {
    Http1(http1::Lease),
    Http2(http2::Lease),
}

/// How far the body of a request has been read; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Pool {
    /// Takes a connection to `host`, which must be the pool's own: one that is free, else a new
    /// one, else, at the cluster's limit, waits for one, up to `max_pending_requests` at a time.
    /// `fresh` asks for one that carried no request yet.
    pub async fn lease(
        &self,
        protocol: Protocol,
        cluster: &Cluster,
        host: &Host,
        fresh: bool,
    ) -> Result<Lease, Failure> {
        match protocol {
            Protocol::Http1 => Ok(Lease(Over::Http1(self.http1.lease(cluster, host, fresh).await?))),
            Protocol::Http2 => Ok(Lease(Over::Http2(self.http2.lease(cluster, host, fresh).await?))),
        }
    }

    /// The connections that are open, idle ones included.
    pub fn open(&self) -> usize {
        self.http1.open() + self.http2.open()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.http1.close();
        self.http2.close();
    }
}

impl Lease {
    /// Whether the connection carried requests before.
    pub fn is_reused(&self) -> bool {
        match &self.0 {
            Over::Http1(lease) => lease.is_reused(),
            Over::Http2(lease) => lease.is_reused(),
        }
    }

    /// What is spoken over the connection.
    pub fn protocol(&self) -> Protocol {
        match &self.0 {
            Over::Http1(_) => Protocol::Http1,
            Over::Http2(_) => Protocol::Http2,
        }
    }

    /// Whether the connection is safe from others.
    pub fn is_secure(&self) -> bool {
        self.about().secure
    }

    /// Our end of the connection, over TCP.
    pub fn local(&self) -> Option<SocketAddr> {
        self.about().local
    }

    /// The connection's number, unique in the process.
    pub fn connection(&self) -> u64 {
        self.about().number
    }

    /// The same, on behalf of a client's connection: a request that it gives up counts as under way
    /// there until the host is told.
    #[must_use]
    pub fn on_behalf_of(mut self, client: Option<&Info>) -> Self {
        if let (Over::Http2(lease), Some(client)) = (&mut self.0, client) {
            lease.count_into(client.backlog().cloned());
        }
        self
    }

    /// Sends a request whose headers fit the connection's protocol, and waits for the head of the
    /// reply. `progress` belongs to the body; `None` if there is none.
    pub async fn send(self, request: Request<Body>, progress: Option<&Progress>) -> Result<Reply, Failure> {
        match self.0 {
            Over::Http1(lease) => lease.send(request, progress).await,
            Over::Http2(lease) => lease.send(request, progress).await,
        }
    }

    fn about(&self) -> About {
        match &self.0 {
            Over::Http1(lease) => lease.about(),
            Over::Http2(lease) => lease.about(),
        }
    }
}

impl Progress {
    const DONE: u64 = u64::MAX;

    /// One more frame was read.
    pub fn advance(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// The body was read to its end.
    pub fn finish(&self) {
        self.0.store(Self::DONE, Relaxed);
    }

    /// Whether the body was read to its end.
    pub fn is_done(&self) -> bool {
        self.frames() == Self::DONE
    }

    /// Changes whenever something was read.
    pub fn frames(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What stays the same all the life of a connection.
#[derive(Debug, Clone, Copy)]
struct About {
    number: u64,
    local: Option<SocketAddr>,
    secure: bool,
}

impl About {
    fn of(stream: &Stream) -> Self {
        Self {
            // Random keys make the number: 48 bits collide too seldom to mind in a log.
            number: RandomState::new().build_hasher().finish() >> 16,
            local: stream.local(),
            secure: matches!(stream, Stream::Over(..)),
        }
    }
}
