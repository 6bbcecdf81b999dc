//! The accept loop.

use std::{io, pin::pin, sync::Arc, time::Duration};

use futures::FutureExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time::sleep,
};

use super::{Config, Listener, socket::Socket, unix::SocketFile};
use crate::{
    connection::{Accepted, Info, Local, Open, Remote, Socket as Connected},
    drain,
};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What the system takes; it refuses all else, which would end every connection at once.
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);

/// A socket that accepts.
enum Acceptor {
    Tcp(TcpListener),
    Unix {
        // Dropped first, see `UnixSocket`.
        _file: Arc<SocketFile>,
        socket: UnixListener,
        local: Local,
    },
}

impl Acceptor {
    fn new(socket: Socket, local: Local) -> io::Result<Self> {
        match socket {
            Socket::Tcp(socket) => TcpListener::from_std(socket).map(Self::Tcp),
            Socket::Unix(socket) => {
                let (file, socket) = socket.into_parts();
                let socket = UnixListener::from_std(socket)?;
                Ok(Self::Unix {
                    _file: file,
                    socket,
                    local,
                })
            }
        }
    }

    async fn accept(&self, config: &Config) -> io::Result<(Connected, Remote, Local)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, remote) = socket.accept().await?;
                stream.set_nodelay(true)?;
                if let Some(time) = config.tcp_keepalive {
                    let time = time.clamp(KEEPALIVE_MIN, KEEPALIVE_MAX);
                    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(time))?;
                }
                let local = Local::Tcp(stream.local_addr()?);
                Ok((Connected::Tcp(stream), Remote::Tcp(remote), local))
            }
            Self::Unix { socket, local, .. } => {
                let (stream, _) = socket.accept().await?;
                let peer = stream.peer_cred()?;
                let remote = Remote::Unix {
                    uid: peer.uid(),
                    pid: peer.pid(),
                };
                Ok((Connected::Unix(stream), remote, local.clone()))
            }
        }
    }
}

/// Runs `serve` as a task for every connection, until the drain begins.
pub(super) async fn run<F>(
    listener: Listener,
    serve: impl Fn(Accepted) -> F + Send,
    drain: drain::Watch,
    _hold: drain::Hold,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let Listener {
        name,
        settings,
        socket,
        local,
        connections,
    } = listener;
    let places = settings.get().max_connections;
    let slots = Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)));
    let mut draining = pin!(drain.draining());
    let mut giving_back = pin!(connections.give_memory_back().fuse());
    let mut pause = Pause::default();

    let acceptor = match Acceptor::new(socket, local) {
        Ok(acceptor) => acceptor,
        Err(error) => return tracing::error!(listener = &*name, %error, "cannot accept"),
    };
    loop {
        // The place is taken first: what there is no place for stays in the system's queue.
        let accept = async {
            let place = slots
                .clone()
                .acquire_owned()
                .await
                .expect("invariant: never closed");
            (place, acceptor.accept(&settings.get()).await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = &mut draining => break,
            accepted = accept => accepted,
            () = &mut giving_back => continue,
        };
        match accepted {
            Ok((socket, remote, local)) => {
                pause = Pause::default();
                // Counted first: numbers are from 1.
                let open = Open::new(place, connections.add(), drain.hold());
                let info = Info::numbered(remote, local, name.clone(), connections.accepted());
                tokio::spawn(serve(Accepted {
                    socket,
                    info: info.counted(open.backlog()),
                    open,
                    config: settings.get(),
                    drain: drain.clone(),
                }));
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => tokio::select! {
                biased;
                () = &mut draining => break,
                () = pause.after(&error, &name) => {}
            },
        }
    }
    tracing::info!(listener = &*name, "no longer listening");
}

/// Whether only the connection at hand failed, before it was accepted or right after.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, InvalidInput, NotConnected,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | InvalidInput | NotConnected
    )
}

/// The growing pause after accepts that failed for want of something, such as file descriptors:
/// the queue stays readable, so the loop would spin.
#[derive(Default)]
struct Pause(Option<Duration>);

impl Pause {
    async fn after(&mut self, error: &io::Error, listener: &str) {
        let next = match self.0 {
            Some(last) => (last * 2).min(LONGEST_PAUSE),
            None => {
                tracing::warn!(listener, %error, "cannot accept, trying again");
                FIRST_PAUSE
            }
        };
        self.0 = Some(next);
        sleep(next).await;
    }
}
