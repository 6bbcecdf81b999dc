//! What follows a change of protocols: bytes both ways, each way to its own end.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes},
    sync::oneshot,
    time::{sleep, timeout},
};

use super::reply::Guards;
use crate::{drain, exchange::Exchange, upstream::Upgraded};

/// Bytes on their way, per direction.
const BUFFER: usize = 8 * 1024;

/// How long the client's connection may take to become free of HTTP.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// Both ends.
#[derive(Debug)]
pub(super) struct Tunnel {
    client: OnUpgrade,
    upstream: Upgraded,
    exchange: Exchange,
    ended: oneshot::Sender<()>,
    _guards: Guards,
}

/// Bytes that passed.
#[derive(Debug, Default)]
struct Passed {
    received: AtomicU64,
    sent: AtomicU64,
}

/// The client's end, with its bytes counted.
struct Watched<S> {
    stream: S,
    passed: Arc<Passed>,
}

impl Tunnel {
    /// Notes itself in the exchange, which ends with it.
    pub(super) fn new(client: OnUpgrade, upstream: Upgraded, exchange: Exchange, guards: Guards) -> Self {
        let (ended, end) = oneshot::channel();
        exchange.facts().tunnel = Some(end);
        Self {
            client,
            upstream,
            exchange,
            ended,
            _guards: guards,
        }
    }

    /// Copies until both ways have ended, nothing passed for `idle`, or the drain begins.
    pub(super) async fn run(self, idle: Duration, drain: drain::Watch) {
        let passed = Arc::new(Passed::default());
        let Self {
            client,
            upstream,
            exchange,
            ended,
            _guards,
        } = self;
        tokio::select! {
            done = copy(client, upstream, passed.clone()) => if let Err(error) = done {
                tracing::debug!(%error, "upgraded connection failed");
            },
            () = silence(&passed, idle) => tracing::debug!("upgraded connection closed: it was idle"),
            () = drain.draining() => {}
        }
        let mut facts = exchange.facts();
        facts.bytes_received += passed.received.load(Relaxed);
        facts.bytes_sent += passed.sent.load(Relaxed);
        drop(facts);
        // Nobody may be waiting.
        ended.send(()).ok();
    }
}

impl Passed {
    fn all(&self) -> u64 {
        self.received.load(Relaxed) + self.sent.load(Relaxed)
    }
}

async fn copy(client: OnUpgrade, mut upstream: Upgraded, passed: Arc<Passed>) -> io::Result<()> {
    let client = timeout(TAKE_OVER, client).await?.map_err(io::Error::other)?;
    let stream = TokioIo::new(client);
    let mut client = Watched { stream, passed };
    client.write_all(&upstream.first).await?;
    copy_bidirectional_with_sizes(&mut client, &mut upstream.stream, BUFFER, BUFFER).await?;
    Ok(())
}

async fn silence(passed: &Passed, idle: Duration) {
    let mut before = None;
    loop {
        let now = passed.all();
        if before.replace(now) == Some(now) {
            return;
        }
        sleep(idle).await;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        self.passed.received.fetch_add(read as u64, Relaxed);
        done
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &done {
            self.passed.sent.fetch_add(*written as u64, Relaxed);
        }
        done
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
