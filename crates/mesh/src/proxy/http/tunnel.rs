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
    time::{sleep, timeout},
};

use super::reply::Guards;
use crate::{drain, upstream::Upgraded};

/// Bytes on their way, per direction.
const BUFFER: usize = 8 * 1024;

/// How long the client's connection may take to become free of HTTP.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// Both ends.
#[derive(Debug)]
pub(super) struct Tunnel {
    client: OnUpgrade,
    upstream: Upgraded,
    _guards: Guards,
}

/// Counts how often something passed.
struct Watched<S> {
    stream: S,
    passed: Arc<AtomicU64>,
}

impl Tunnel {
    pub(super) fn new(client: OnUpgrade, upstream: Upgraded, guards: Guards) -> Self {
        Self {
            client,
            upstream,
            _guards: guards,
        }
    }

    /// Copies until both ways have ended, nothing passed for `idle`, or the drain begins.
    pub(super) async fn run(self, idle: Duration, drain: drain::Watch) {
        let passed = Arc::new(AtomicU64::new(0));
        tokio::select! {
            done = self.copy(passed.clone()) => if let Err(error) = done {
                tracing::debug!(%error, "upgraded connection failed");
            },
            () = silence(&passed, idle) => tracing::debug!("upgraded connection closed: it was idle"),
            () = drain.draining() => {}
        }
    }

    async fn copy(self, passed: Arc<AtomicU64>) -> io::Result<()> {
        let client = timeout(TAKE_OVER, self.client).await?.map_err(io::Error::other)?;
        let stream = TokioIo::new(client);
        let mut client = Watched { stream, passed };
        let mut upstream = self.upstream;
        client.write_all(&upstream.first).await?;
        copy_bidirectional_with_sizes(&mut client, &mut upstream.stream, BUFFER, BUFFER).await?;
        Ok(())
    }
}

async fn silence(passed: &AtomicU64, idle: Duration) {
    let mut before = None;
    loop {
        let now = passed.load(Relaxed);
        if before.replace(now) == Some(now) {
            return;
        }
        sleep(idle).await;
    }
}

impl<S> Watched<S> {
    fn note<T>(&self, done: Poll<T>) -> Poll<T> {
        if done.is_ready() {
            self.passed.fetch_add(1, Relaxed);
        }
        done
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.note(done)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
