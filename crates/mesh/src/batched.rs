//! Writes together what is ready together: an HTTP/2 connection is polled after the tasks that have
//! something for it, not between them, and what it writes meanwhile leaves in one piece. What it
//! reads in one poll can be bounded, so that no peer's bytes hold up all others.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes wait for the end of a poll; more are written at once.
const MOST: usize = 32 * 1024;

pin_project! {
    /// A connection over a [`Corked`] stream. Lets all that is ready run before it polls the
    /// connection: whoever sends on a stream wakes it, and the runtime would run it next, so that
    /// every message would be a write of its own.
    pub(crate) struct Batched<C, S> {
        #[pin]
        connection: C,
        stream: Corked<S>,
        yielded: bool,
        clear: bool,
    }
}

/// A stream that holds back what a [`Batched`] connection writes until its poll ends. HTTP/2 frames
/// of more than 256 bytes are flushed one by one otherwise. Clones are the same stream.
pub(crate) struct Corked<S>(Arc<Mutex<State<S>>>);

struct State<S> {
    stream: S,
    held: bool,
    waiting: Vec<u8>,
    /// How many of the waiting bytes are written.
    written: usize,
    /// Whether the stream took less than it was given since the poll began.
    blocked: bool,
    failed: Option<io::ErrorKind>,
    /// How many bytes a poll may read, and how many of them this one still may.
    readable: usize,
    left: usize,
}

impl<C, S> Batched<C, S> {
    /// Wraps a connection over `stream`.
    pub(crate) fn new(connection: C, stream: Corked<S>) -> Self {
        Self {
            connection,
            stream,
            yielded: false,
            clear: false,
        }
    }

    /// Whether the last poll let the connection write, and the stream took all that it wrote: what
    /// was handed to the connection before that poll is on its way.
    pub(crate) fn is_clear(&self) -> bool {
        self.clear
    }

    /// The connection.
    pub(crate) fn inner(self: Pin<&mut Self>) -> Pin<&mut C> {
        self.project().connection
    }
}

impl<C: Future, S: AsyncWrite + Unpin> Future for Batched<C, S> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.project();
        *this.yielded = !*this.yielded;
        *this.clear = false;
        if *this.yielded {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.stream.state().hold();
        let polled = this.connection.poll(cx);
        let mut state = this.stream.state();
        state.held = false;
        if let Poll::Ready(Err(error)) = state.send(cx) {
            state.failed = Some(error.kind());
            state.waiting = Vec::new();
            // The connection learns of it when it next reads or writes.
            cx.waker().wake_by_ref();
        }
        *this.clear = state.is_clear();
        polled
    }
}

impl<S> Corked<S> {
    /// Wraps a stream.
    pub(crate) fn new(stream: S) -> Self {
        Self::reading(stream, usize::MAX)
    }

    /// Wraps a stream of which one poll of the connection reads no more than about `bytes`.
    pub(crate) fn reading(stream: S, bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            stream,
            held: false,
            waiting: Vec::new(),
            written: 0,
            blocked: false,
            failed: None,
            readable: bytes,
            left: bytes,
        })))
    }

    /// Whether the stream took all that the connection wrote, to the end of a frame.
    pub(crate) fn is_clear(&self) -> bool {
        self.state().is_clear()
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Clone for Corked<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> State<S> {
    /// A poll of the connection begins.
    fn hold(&mut self) {
        self.held = true;
        self.blocked = false;
        self.left = self.readable;
    }

    fn is_clear(&self) -> bool {
        !self.blocked && self.waiting.is_empty() && self.failed.is_none()
    }
}

impl<S: AsyncWrite + Unpin> State<S> {
    /// Writes what waits. The room for it is given back: a quiet connection needs none.
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.waiting.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.waiting = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Keeps as much of `bufs` as there is room for.
    fn keep(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        if self.waiting.len() >= MOST {
            self.blocked = true;
            ready!(self.send(cx))?;
            self.blocked = false;
        }
        let mut kept = 0;
        for buf in bufs {
            let room = MOST - self.waiting.len();
            let part = buf.get(..room).unwrap_or(buf);
            self.waiting.extend_from_slice(part);
            kept += part.len();
        }
        Poll::Ready(Ok(kept))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.left == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut state.stream).poll_read(cx, buf))?;
        state.left = state.left.saturating_sub(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        if state.held || !state.waiting.is_empty() {
            return state.keep(cx, bufs);
        }
        Pin::new(&mut state.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if let Some(kind) = state.failed {
            return Poll::Ready(Err(kind.into()));
        }
        if state.held {
            return Poll::Ready(Ok(()));
        }
        ready!(state.send(cx))?;
        Pin::new(&mut state.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        ready!(state.send(cx))?;
        Pin::new(&mut state.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Counts the writes that reach it.
    struct Counting(tokio::io::DuplexStream, Arc<Mutex<usize>>);

    impl AsyncWrite for Counting {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            *self.1.lock().unwrap() += 1;
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    fn corked(capacity: usize) -> (Corked<Counting>, Arc<Mutex<usize>>, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(capacity);
        let writes = Arc::default();
        (Corked::new(Counting(near, Arc::clone(&writes))), writes, far)
    }

    #[tokio::test]
    async fn what_one_poll_writes_leaves_in_one_piece() {
        let (stream, writes, mut far) = corked(1024);
        let mut writer = stream.clone();
        let connection = async move {
            for text in ["a", "b", "c"] {
                writer.write_all(text.as_bytes()).await.unwrap();
                writer.flush().await.unwrap();
            }
        };
        Batched::new(connection, stream).await;
        assert_eq!(*writes.lock().unwrap(), 1);
        let mut text = [0; 3];
        far.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"abc");
    }

    #[tokio::test]
    async fn a_peer_that_reads_slowly_gets_everything_in_order() {
        let (stream, _, mut far) = corked(1000);
        let mut writer = stream.clone();
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let all = sent.clone();
        let connection = async move {
            for piece in all.chunks(7919) {
                writer.write_all(piece).await.unwrap();
                writer.flush().await.unwrap();
            }
            writer.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        tokio::join!(Batched::new(connection, stream), async {
            far.read_to_end(&mut received).await.unwrap();
        });
        assert!(received == sent);
    }

    #[tokio::test]
    async fn a_failed_write_is_told_to_the_connection() {
        let (stream, _, far) = corked(1000);
        drop(far);
        let mut writer = stream.clone();
        let connection = async move {
            loop {
                if let Err(error) = writer.write_all(b"x").await {
                    return error.kind();
                }
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(Batched::new(connection, stream).await, io::ErrorKind::BrokenPipe);
    }

    /// Polls a connection twice, as the first poll lets others run.
    async fn poll<C: Future<Output = ()>, S: AsyncWrite + Unpin>(mut connection: Pin<&mut Batched<C, S>>) {
        for _ in 0..2 {
            assert!(futures::poll!(connection.as_mut()).is_pending());
        }
    }

    #[tokio::test]
    async fn a_poll_reads_no_more_than_it_may_and_the_next_goes_on() {
        let (mut near, far) = tokio::io::duplex(1024);
        near.write_all(&[b'x'; 1024]).await.unwrap();
        let stream = Corked::reading(far, 100);
        let read = Arc::new(Mutex::new(0));
        let (mut reader, count) = (stream.clone(), Arc::clone(&read));
        let connection = async move {
            let mut piece = [0; 40];
            loop {
                *count.lock().unwrap() += reader.read(&mut piece).await.unwrap();
            }
        };
        let mut connection = std::pin::pin!(Batched::new(connection, stream));
        poll(connection.as_mut()).await;
        assert_eq!(*read.lock().unwrap(), 120);
        poll(connection.as_mut()).await;
        assert_eq!(*read.lock().unwrap(), 240);
    }

    #[tokio::test]
    async fn a_connection_is_clear_once_the_peer_took_what_it_wrote() {
        let (stream, _, mut far) = corked(1000);
        let mut writer = stream.clone();
        let connection = async move {
            writer.write_all(&[b'x'; 1500]).await.unwrap();
            std::future::pending::<()>().await;
        };
        let mut connection = std::pin::pin!(Batched::new(connection, stream));
        poll(connection.as_mut()).await;
        assert!(!connection.is_clear());
        far.read_exact(&mut [0; 1000]).await.unwrap();
        poll(connection.as_mut()).await;
        assert!(connection.is_clear());
        assert!(futures::poll!(connection.as_mut()).is_pending());
        assert!(!connection.is_clear(), "it only let others run");
    }
}
