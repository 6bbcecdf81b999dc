//! The door of the proxy.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};

use super::{Door, Shared, relay::relay};

/// Connections at once; further ones wait to be accepted.
const MOST: usize = 1024;
/// Between two tries to keep the port.
const PAUSE: Duration = Duration::from_millis(5);
/// How many of them there are.
const TRIES: usize = 1000;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// The place of the proxy.
enum Place {
    Open(TcpListener),
    /// Nothing listens, and nobody else gets the port meanwhile.
    Shut(TcpSocket),
}

/// Lets connections in, as the faults have it, until the future is dropped.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let mut faults = shared.faults.subscribe();
    let mut connections = JoinSet::new();
    let address = listener.local_addr();
    let address = address.expect("invariant: a bound socket has an address");
    let mut place = Place::Open(listener);
    loop {
        let door = faults.borrow_and_update().door;
        place = match place {
            Place::Open(listener) if door == Door::Shut => {
                drop(listener);
                Place::Shut(keep(address).await)
            }
            Place::Shut(socket) if door != Door::Shut => {
                let listener = socket.listen(BACKLOG);
                Place::Open(listener.expect("invariant: the port is ours"))
            }
            same => same,
        };
        shared.door.send_replace(door);
        tokio::select! {
            changed = faults.changed() => if changed.is_err() { return },
            stream = next(&place), if connections.len() < MOST => {
                connections.spawn(enter(stream, door, shared.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Keeps the port without listening there; it is free or will be in a moment.
async fn keep(address: SocketAddr) -> TcpSocket {
    let bound = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Connections of it may still be there.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        std::io::Result::Ok(socket)
    };
    for _ in 0..TRIES {
        if let Ok(socket) = bound() {
            return socket;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("{address} was taken when the door was shut")
}

/// The next connection; never where nothing listens.
async fn next(place: &Place) -> TcpStream {
    let Place::Open(listener) = place else {
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // Out of files, or the client was gone already.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn enter(client: TcpStream, door: Door, shared: Arc<Shared>) {
    let server = *shared.server.borrow();
    let server = match door {
        Door::Open => TcpStream::connect(server).await.ok(),
        Door::Shut | Door::Slams => None,
    };
    match server {
        Some(server) => relay(client, server, &shared).await,
        None => {
            shared.count(|counts| counts.turned_away += 1);
            // Without this the client would read an orderly end.
            client.set_zero_linger().ok();
        }
    }
}
