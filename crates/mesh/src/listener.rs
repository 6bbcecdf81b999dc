//! A listener: one bound socket, the accept loop over it, and the settings of its connections.

mod accept;
mod config;
mod error;
mod socket;
mod unix;

use std::{
    convert::Infallible,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tower::Service;

pub use self::{
    config::{Config, Http2, Protocol, Window},
    error::BindError,
    socket::StdSocket,
};
use self::{error::Cause, socket::Socket};
use crate::{
    Address, BoxError,
    connection::{self, Connections, Local},
    drain,
};

/// A bound socket that does not accept yet: clients that connect wait in its queue.
#[derive(Debug)]
pub struct Listener {
    name: Arc<str>,
    settings: SettingsSlot,
    socket: Socket,
    local: Local,
    connections: Connections,
}

/// The socket of a listener once more: another listener can take its place without a moment in
/// which nobody listens. It keeps the socket open.
#[derive(Debug)]
pub struct Spare {
    socket: Socket,
    local: Local,
}

impl Spare {
    /// A listener over the same socket, whose address and backlog stay.
    ///
    /// # Errors
    /// The process has too many files open.
    pub fn listener(&self, config: &Config) -> io::Result<Listener> {
        Ok(Listener::new(config, self.socket.twin()?, self.local.clone()))
    }
}

impl Listener {
    fn new(config: &Config, socket: Socket, local: Local) -> Self {
        tracing::info!(listener = config.name, address = %local, "listening");
        Self {
            name: config.name.as_str().into(),
            settings: SettingsSlot(Arc::new(ArcSwap::from_pointee(config.clone()))),
            socket,
            local,
            connections: Connections::default(),
        }
    }

    /// Its socket once more.
    ///
    /// # Errors
    /// The process has too many files open.
    pub fn spare(&self) -> io::Result<Spare> {
        Ok(Spare {
            socket: self.socket.twin()?,
            local: self.local.clone(),
        })
    }

    /// Binds and listens, so that a taken address is an error now and not at the first request.
    ///
    /// A Unix socket gets [`Config::socket_mode`] before anyone can connect. A socket file that
    /// nobody answers is replaced; anything else at its path is left alone and is an error.
    pub async fn bind(config: &Config) -> Result<Self, BindError> {
        let bound = match &config.address {
            Address::Tcp { host, port } => socket::bind_tcp(host, *port, config).await,
            Address::Unix(path) => unix::bind(path, config).await.map(Socket::Unix),
        };
        let local = |socket: Socket| Ok((socket.local(&config.address)?, socket));
        let (local, socket) = bound
            .and_then(|socket| local(socket).map_err(Cause::Io))
            .map_err(|cause| BindError::new(config, cause))?;
        Ok(Self::new(config, socket, local))
    }

    /// The listener's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The place of its settings, which can be changed while [`serve`](Self::serve) runs.
    pub fn settings(&self) -> SettingsSlot {
        self.settings.clone()
    }

    /// The address that was really bound: with the port that the system chose for port 0.
    pub fn local_addr(&self) -> &Local {
        &self.local
    }

    /// The count of open connections; stays readable while [`serve`](Self::serve) runs.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// The socket alone, listening and non-blocking, to hand to another owner. The file of a Unix
    /// socket stays where it is.
    pub fn into_std(self) -> StdSocket {
        self.socket.into_std()
    }

    /// Accepts connections and serves their requests with clones of `service` until the drain
    /// begins, then closes the socket and returns. Connections are tasks of their own, which the
    /// drain waits for, as it does for this future; dropping it only stops accepting.
    pub fn serve<S, B>(self, service: S, drain: drain::Watch) -> impl Future<Output = ()> + Send
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        // Taken now, as a drain may end before this future is first polled.
        let hold = drain.hold();
        accept::run(
            self,
            move |accepted| connection::serve(accepted, service.clone()),
            drain,
            hold,
        )
    }

    /// Like [`serve`](Self::serve), but hands whole connections to `service`, after TLS if the
    /// listener speaks it. A drain waits for them as it does for requests.
    pub fn serve_raw<S>(self, service: Arc<S>, drain: drain::Watch) -> impl Future<Output = ()> + Send
    where
        S: connection::RawService,
    {
        let hold = drain.hold();
        accept::run(
            self,
            move |accepted| connection::serve_raw(accepted, service.clone()),
            drain,
            hold,
        )
    }
}

/// The place of a listener's settings. Clones are the same place.
#[derive(Debug, Clone)]
pub struct SettingsSlot(Arc<ArcSwap<Config>>);

impl SettingsSlot {
    /// Uses `config` for the connections that are accepted from now on. Name, address, backlog and
    /// the number of connections stay as they were.
    pub fn swap(&self, config: Config) {
        self.0.store(Arc::new(config));
    }

    /// The settings that hold now.
    pub(crate) fn get(&self) -> Arc<Config> {
        self.0.load_full()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
