//! Writes together what is ready together: an HTTP/2 connection is polled after the tasks that have
//! something for it, not between them, and what it writes meanwhile leaves in one piece.

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
    failed: Option<io::ErrorKind>,
}

impl<C, S> Batched<C, S> {
    /// Wraps a connection over `stream`.
    pub(crate) fn new(connection: C, stream: Corked<S>) -> Self {
        Self {
            connection,
            stream,
            yielded: false,
        }
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
        if *this.yielded {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.stream.state().held = true;
        let polled = this.connection.poll(cx);
        let mut state = this.stream.state();
        state.held = false;
        if let Poll::Ready(Err(error)) = state.send(cx) {
            state.failed = Some(error.kind());
            state.waiting = Vec::new();
            // The connection learns of it when it next reads or writes.
            cx.waker().wake_by_ref();
        }
        polled
    }
}

impl<S> Corked<S> {
    /// Wraps a stream.
    pub(crate) fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(State {
            stream,
            held: false,
            waiting: Vec::new(),
            written: 0,
            failed: None,
        })))
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
            ready!(self.send(cx))?;
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
        Pin::new(&mut self.state().stream).poll_read(cx, buf)
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
}
