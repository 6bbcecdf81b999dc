//! A TCP proxy on loopback that puts faults between a client and a server while both run.
//!
//! Bytes wait in it as they do in a network: what a stopped direction holds back arrives once it
//! is healed, however late that is.

mod accept;
mod relay;

use std::{io, net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch};
use tokio_util::task::AbortOnDropHandle;

use crate::process::free_address;

/// What becomes of a connection that a client makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Door {
    /// It is connected to the server.
    #[default]
    Open,
    /// Nothing listens: the system refuses it.
    Shut,
    /// It is accepted and reset at once.
    Slams,
}

/// How the bytes of one direction go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// How much later a byte arrives.
    pub delay: Duration,
    /// The most bytes that a connection forwards in a second.
    pub bytes_per_second: Option<NonZeroU32>,
    /// How many bytes a connection still forwards before it stops; counted from when the fault is
    /// put in place, or from when a later connection is made.
    pub stops_after: Option<u64>,
}

/// What is wrong with the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// With new ones.
    pub door: Door,
    /// With what the client sends.
    pub to_server: Flow,
    /// With what the server sends.
    pub to_client: Flow,
}

impl Faults {
    fn both(flow: Flow) -> Self {
        Self {
            door: Door::Open,
            to_server: flow,
            to_client: flow,
        }
    }

    /// New connections meet this door; those that are there are well.
    pub fn door(door: Door) -> Self {
        Self {
            door,
            ..Self::default()
        }
    }

    /// Connections are made and nothing gets through, in either direction.
    pub fn blackhole() -> Self {
        Self::both(Flow {
            stops_after: Some(0),
            ..Flow::default()
        })
    }

    /// Each connection forwards so many bytes per second, in each direction.
    pub fn slow(bytes_per_second: NonZeroU32) -> Self {
        Self::both(Flow {
            bytes_per_second: Some(bytes_per_second),
            ..Flow::default()
        })
    }

    /// Every byte arrives so much later, in each direction.
    pub fn delay(delay: Duration) -> Self {
        Self::both(Flow {
            delay,
            ..Flow::default()
        })
    }
}

/// One of the two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// What went through the proxy so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections forwarded now.
    pub live: u64,
    /// Connections ever forwarded.
    pub total: u64,
    /// Connections accepted and reset at once: the door slams, or the server is not there.
    pub turned_away: u64,
    /// Bytes forwarded to the server.
    pub to_server: u64,
    /// Bytes forwarded to the client.
    pub to_client: u64,
    /// Faults put in place, resets and half-closes.
    pub faults: u64,
}

/// How often live connections were cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Cuts {
    resets: u64,
    to_server: u64,
    to_client: u64,
}

/// What the proxy, its door and its connections share.
#[derive(Debug)]
struct Shared {
    server: watch::Sender<SocketAddr>,
    faults: watch::Sender<Faults>,
    cuts: watch::Sender<Cuts>,
    counts: watch::Sender<Counts>,
    /// The door as it is now: it follows the faults.
    door: watch::Sender<Door>,
}

/// A running proxy; dropping it closes its port and its connections.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

impl FaultProxy {
    /// Starts a proxy on a free port in front of `server`, without any fault.
    ///
    /// # Errors
    /// Where loopback cannot be listened on.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        // Not a port of the system's choice: another socket could get it while the door is shut.
        let listener = TcpListener::bind(free_address()).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server: watch::Sender::new(server),
            faults: watch::Sender::default(),
            cuts: watch::Sender::default(),
            counts: watch::Sender::default(),
            door: watch::Sender::default(),
        });
        let accepting = tokio::spawn(accept::run(listener, shared.clone()));
        Ok(Self {
            address,
            shared,
            _accepting: AbortOnDropHandle::new(accepting),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects later clients to another server.
    pub fn redirect(&self, server: SocketAddr) {
        self.shared.server.send_replace(server);
    }

    /// Puts faults in place of those before; done when the door is as wanted. The other faults
    /// hold for connections that are there, too.
    pub async fn set(&self, faults: Faults) {
        self.count_fault(faults != Faults::default());
        self.shared.faults.send_replace(faults);
        let mut door = self.shared.door.subscribe();
        let stands = door.wait_for(|door| *door == faults.door).await;
        stands.expect("invariant: the proxy itself keeps the sender");
    }

    /// Takes all faults away.
    pub async fn heal(&self) {
        self.set(Faults::default()).await;
    }

    /// Resets every live connection, towards both ends.
    pub fn reset(&self) {
        self.count_fault(true);
        self.shared.cuts.send_modify(|cuts| cuts.resets += 1);
    }

    /// Ends one direction of every live connection: whoever receives there reads the end, and the
    /// other direction goes on. What is sent afterwards is discarded.
    pub fn half_close(&self, direction: Direction) {
        self.count_fault(true);
        self.shared.cuts.send_modify(|cuts| match direction {
            Direction::ToServer => cuts.to_server += 1,
            Direction::ToClient => cuts.to_client += 1,
        });
    }

    /// What went through so far.
    pub fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }

    /// Waits until the counts are as wanted.
    pub async fn wait_for(&self, wanted: impl FnMut(&Counts) -> bool) -> Counts {
        let mut counts = self.shared.counts.subscribe();
        let wanted = counts.wait_for(wanted).await;
        *wanted.expect("invariant: the proxy itself keeps the sender")
    }

    fn count_fault(&self, is_one: bool) {
        self.shared.count(|counts| counts.faults += u64::from(is_one));
    }
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }
}

#[cfg(test)]
mod tests;
