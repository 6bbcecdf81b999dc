//! A connection: who is at its ends, how long it lives, and the protocol spoken over it.

mod allowance;
mod backlog;
mod farewell;
mod http1;
mod open;
mod raw;
mod serve;
mod sniff;
mod stream;
mod wire;

use std::{fmt, net::SocketAddr, path::Path, sync::Arc};

use crate::{drain, listener::Config, tls::server::Peer};

#[cfg(fuzzing)]
#[doc(hidden)]
pub use self::http1::fuzzing;
use self::stream::Stream;
pub(crate) use self::{
    backlog::{Backlog, Work},
    open::Open,
    raw::serve_raw,
    serve::serve,
    stream::Socket,
};
pub use self::{open::Connections, raw::RawService, wire::Wire};

/// The client's end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// A TCP client.
    Tcp(SocketAddr),
    /// A process of this machine, as it was when it connected.
    Unix {
        /// The user it ran as.
        uid: u32,
        /// Its id, where the system tells.
        pid: Option<i32>,
    },
}

/// The server's end of a connection, or the address of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a socket.
    Unix(Arc<Path>),
}

/// What is known of a connection; every request of a listener has it among its extensions.
#[derive(Debug, Clone)]
pub struct Info(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    remote: Remote,
    local: Local,
    listener: Arc<str>,
    number: u64,
    tls: Option<Peer>,
    backlog: Option<Arc<Backlog>>,
}

/// A connection as its listener accepted it.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket: Socket,
    pub(crate) info: Info,
    pub(crate) open: Arc<Open>,
    pub(crate) config: Arc<Config>,
    pub(crate) drain: drain::Watch,
}

impl Info {
    /// What is known of a connection that `listener` accepted.
    pub fn new(remote: Remote, local: Local, listener: impl Into<Arc<str>>) -> Self {
        Self::numbered(remote, local, listener, 0)
    }

    /// The same, of the connection that is the `number`-th of its listener.
    pub fn numbered(remote: Remote, local: Local, listener: impl Into<Arc<str>>, number: u64) -> Self {
        let listener = listener.into();
        Self(Arc::new(Parts {
            remote,
            local,
            listener,
            number,
            tls: None,
            backlog: None,
        }))
    }

    /// The same, of a connection whose `backlog` counts what its requests leave behind.
    pub(crate) fn counted(self, backlog: &Arc<Backlog>) -> Self {
        Self(Arc::new(Parts {
            backlog: Some(backlog.clone()),
            ..self.parts()
        }))
    }

    /// What its requests count into.
    pub(crate) fn backlog(&self) -> Option<&Arc<Backlog>> {
        self.0.backlog.as_ref()
    }

    /// The connection that a request came over, if a [`Listener`](crate::Listener) received it.
    pub fn of(extensions: &http::Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// The client's end.
    pub fn remote(&self) -> Remote {
        self.0.remote
    }

    /// The server's end.
    pub fn local(&self) -> &Local {
        &self.0.local
    }

    /// The name of the listener.
    pub fn listener(&self) -> &str {
        &self.0.listener
    }

    /// Which connection of its listener it is, from 1.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// What a client under TLS said of itself; `None`: the connection is plain text.
    pub fn tls(&self) -> Option<&Peer> {
        self.0.tls.as_ref()
    }

    /// The same, and what the client told under TLS.
    pub(crate) fn with(self, peer: Option<Peer>) -> Self {
        if peer.is_none() {
            return self;
        }
        Self(Arc::new(Parts {
            tls: peer,
            ..self.parts()
        }))
    }

    fn parts(&self) -> Parts {
        Parts {
            remote: self.0.remote,
            local: self.0.local.clone(),
            listener: self.0.listener.clone(),
            number: self.0.number,
            tls: None,
            backlog: self.0.backlog.clone(),
        }
    }
}

impl Remote {
    /// Whether the client is on this machine: over a loopback address or a Unix socket.
    pub fn is_local(self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix { .. } => true,
        }
    }
}

impl Local {
    /// The TCP address, if this is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { uid, pid: Some(pid) } => write!(f, "process {pid} of user {uid}"),
            Self::Unix { uid, pid: None } => write!(f, "a process of user {uid}"),
        }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}
