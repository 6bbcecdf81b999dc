//! One connection through the proxy.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, watch},
    time::Instant,
};

use super::{Counts, Cuts, Faults, Flow, Shared};

/// The most bytes read at once.
const CHUNK: usize = 16 << 10;
/// Chunks on their way in one direction: what delayed bytes wait in.
const QUEUED: usize = 64;
/// Slow bytes are written so many times per second.
const SLICES: u32 = 50;

/// Which part of what is shared belongs to a direction.
#[derive(Clone, Copy)]
struct Side {
    flow: fn(&Faults) -> Flow,
    cuts: fn(&Cuts) -> u64,
    bytes: fn(&mut Counts) -> &mut u64,
}

const TO_SERVER: Side = Side {
    flow: |faults| faults.to_server,
    cuts: |cuts| cuts.to_server,
    bytes: |counts| &mut counts.to_server,
};

const TO_CLIENT: Side = Side {
    flow: |faults| faults.to_client,
    cuts: |cuts| cuts.to_client,
    bytes: |counts| &mut counts.to_client,
};

/// Counts a connection as live.
struct Live<'s>(&'s Shared);

impl<'s> Live<'s> {
    fn new(shared: &'s Shared) -> Self {
        shared.count(|counts| {
            counts.live += 1;
            counts.total += 1;
        });
        Self(shared)
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.count(|counts| counts.live -= 1);
    }
}

/// Forwards until both directions have ended, or the connection is reset.
pub(super) async fn relay(mut client: TcpStream, mut server: TcpStream, shared: &Shared) {
    // Before it counts as live: who sees it may cut it.
    let cuts = *shared.cuts.borrow();
    let _live = Live::new(shared);
    for stream in [&client, &server] {
        stream.set_nodelay(true).ok();
    }
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = async {
            tokio::try_join!(
                forward(from_client, to_server, TO_SERVER, shared, cuts),
                forward(from_server, to_client, TO_CLIENT, shared, cuts),
            )
        };
        tokio::select! {
            ended = both => ended.is_ok(),
            () = cut(shared, cuts, |cuts| cuts.resets) => false,
        }
    };
    // An end that was reset is passed on as a reset.
    if !ended {
        for stream in [&client, &server] {
            stream.set_zero_linger().ok();
        }
    }
}

/// Waits until live connections are cut in the way that `of` counts.
async fn cut(shared: &Shared, before: Cuts, of: fn(&Cuts) -> u64) {
    let mut cuts = shared.cuts.subscribe();
    if cuts.wait_for(|cuts| of(cuts) != of(&before)).await.is_err() {
        std::future::pending().await
    }
}

/// Forwards one direction to its end.
async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    side: Side,
    shared: &Shared,
    cuts: Cuts,
) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Bytes)>(QUEUED);
    let reading = async move {
        loop {
            let mut part = BytesMut::with_capacity(CHUNK);
            if from.read_buf(&mut part).await? == 0 {
                return Ok(());
            }
            // After a half-close nobody takes it: what is sent is lost.
            drop(sender.send((Instant::now(), part.freeze())).await);
        }
    };
    let writing = async move {
        let mut gate = Gate::new(side, shared, cuts);
        let all = async {
            while let Some((arrived, part)) = receiver.recv().await {
                gate.pass(arrived, part, &mut to).await?;
            }
            Ok::<_, io::Error>(())
        };
        tokio::select! {
            done = all => done?,
            () = cut(shared, cuts, side.cuts) => {}
        }
        // The other end may be gone already.
        to.shutdown().await.ok();
        drop(receiver);
        Ok(())
    };
    tokio::try_join!(reading, writing).map(|_: ((), ())| ())
}

/// Lets bytes of one direction through as its faults have it.
struct Gate<'s> {
    side: Side,
    shared: &'s Shared,
    faults: watch::Receiver<Faults>,
    /// What had been cut when the connection was made.
    cuts: Cuts,
    flow: Flow,
}

impl<'s> Gate<'s> {
    fn new(side: Side, shared: &'s Shared, cuts: Cuts) -> Self {
        let mut faults = shared.faults.subscribe();
        let flow = (side.flow)(&faults.borrow_and_update());
        Self {
            side,
            shared,
            faults,
            cuts,
            flow,
        }
    }

    async fn pass(
        &mut self,
        arrived: Instant,
        mut part: Bytes,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        while !part.is_empty() {
            let most = self.opens(arrived).await;
            let piece = part.split_to(part.len().min(most));
            to.write_all(&piece).await?;
            let written = piece.len() as u64;
            if let Some(left) = &mut self.flow.stops_after {
                *left = left.saturating_sub(written);
            }
            self.shared.count(|counts| *(self.side.bytes)(counts) += written);
        }
        Ok(())
    }

    /// Waits until some of the bytes that arrived then may pass; how many.
    async fn opens(&mut self, arrived: Instant) -> usize {
        loop {
            if self.faults.has_changed().unwrap_or_default() {
                self.flow = (self.side.flow)(&self.faults.borrow_and_update());
                // What was held back when the connection was reset does not pass once that heals.
                if self.shared.cuts.borrow().resets != self.cuts.resets {
                    std::future::pending::<()>().await;
                }
            }
            let left = match self.flow.stops_after {
                Some(0) => {
                    self.changed().await;
                    continue;
                }
                Some(left) => usize::try_from(left).unwrap_or(usize::MAX),
                None => usize::MAX,
            };
            let due = arrived + self.flow.delay;
            if due > Instant::now() {
                self.wait_until(due).await;
                continue;
            }
            let Some(rate) = self.flow.bytes_per_second else {
                return left;
            };
            let slice = (rate.get() / SLICES).max(1);
            let pause = Duration::from_secs(1) * slice / rate.get();
            if self.wait_until(Instant::now() + pause).await {
                return left.min(usize::try_from(slice).unwrap_or(usize::MAX));
            }
        }
    }

    /// Waits until then, and no longer than the faults stay; whether they did.
    async fn wait_until(&mut self, then: Instant) -> bool {
        tokio::time::timeout_at(then, self.changed()).await.is_err()
    }

    async fn changed(&mut self) {
        if self.faults.changed().await.is_err() {
            std::future::pending().await
        }
        self.faults.mark_changed();
    }
}
