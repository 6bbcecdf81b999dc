//! What a client has set going over one HTTP/2 connection and what is not over yet. A stream that the
//! client resets is closed for the protocol at once, and another may take its place; its task, and
//! its request at a host that must be told, are still there. Unless they count too, a client that
//! resets streams as fast as it opens them makes us hold any number of them (CVE-2023-44487).

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    task::{Context, Poll, ready},
};

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The work of one connection.
#[derive(Debug)]
pub(crate) struct Backlog {
    under_way: AtomicUsize,
    most: AtomicUsize,
    /// Whether nothing more is read at all.
    stopped: AtomicBool,
    reader: AtomicWaker,
}

/// A piece of work, until it is dropped.
#[derive(Debug)]
pub(crate) struct Work(Arc<Backlog>);

/// A stream that is read only while the backlog has room. Open streams never fill it up, so that
/// what they wait for is always read; what fills it ends without the client.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    backlog: Arc<Backlog>,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(usize::MAX),
            stopped: AtomicBool::new(false),
            reader: AtomicWaker::new(),
        }
    }
}

impl Backlog {
    /// Nothing more is read once more than `most` pieces of work are under way.
    pub(super) fn limit(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// Nothing more is read.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// Work begins; it lasts until the returned value is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Work {
        self.add();
        Work(self.clone())
    }

    /// Pieces of work under way.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Acquire)
    }

    pub(super) fn add(&self) {
        self.under_way.fetch_add(1, AcqRel);
    }

    pub(super) fn done(&self) {
        let left = self.under_way.fetch_sub(1, AcqRel) - 1;
        if left == self.most.load(Relaxed) {
            self.reader.wake();
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stopped.load(Relaxed) {
            return Poll::Pending;
        }
        let most = self.most.load(Relaxed);
        if self.under_way() <= most {
            return Poll::Ready(());
        }
        self.reader.register(cx.waker());
        match self.under_way() <= most {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.done();
    }
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, backlog: Arc<Backlog>) -> Self {
        Self { stream, backlog }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.backlog.poll_room(cx));
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn nothing_is_read_while_there_is_too_much_to_do() {
        let backlog = Arc::new(Backlog::default());
        backlog.limit(2);
        let (mut client, server) = tokio::io::duplex(16);
        client.write_all(b"ab").await.unwrap();
        let mut paced = Paced::new(server, backlog.clone());
        let mut work: Vec<_> = (0..2).map(|_| backlog.begin()).collect();
        assert_eq!(paced.read_u8().await.unwrap(), b'a');
        work.push(backlog.begin());
        let reading = tokio::spawn(async move { paced.read_u8().await.unwrap() });
        tokio::task::yield_now().await;
        assert!(!reading.is_finished());
        work.pop();
        assert_eq!(reading.await.unwrap(), b'b');
    }

    #[tokio::test]
    async fn without_a_limit_everything_is_read() {
        let backlog = Arc::new(Backlog::default());
        let _work: Vec<_> = (0..10_000).map(|_| backlog.begin()).collect();
        let mut paced = Paced::new(&b"a"[..], backlog);
        assert_eq!(paced.read_u8().now_or_never().unwrap().unwrap(), b'a');
    }
}
