//! Guards an HTTP/1 connection: what could be read in two ways is refused, and so is who is slow.

mod framing;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

#[cfg(fuzzing)]
pub use self::framing::fuzzing;
use self::framing::{Framing, Phase};
use super::Wire;
use crate::{drain, listener::Config};

/// The first byte is allowed nowhere outside of a body: a parser that finds it refuses the request
/// with 400. It looks only at heads that have an end.
const POISON: &[u8] = b"\0\r\n\r\n";

/// A connection over HTTP/1 that checks what the client sends before the parser sees it.
///
/// The parser takes requests that others might take apart in another way, such as those with both
/// `Transfer-Encoding` and `Content-Length`. Here, the line that makes it so is replaced by what no
/// parser takes, and all behind it is dropped.
pub(super) struct Guarded {
    wire: Wire,
    framing: Framing,
    /// What is left of the poison, once a request is refused.
    poison: Option<&'static [u8]>,
    header_timeout: Duration,
    body_timeout: Option<Duration>,
    /// The head that `due` was set for, by number.
    head: u64,
    due: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Runs while the client takes nothing of what there is to write.
    untaken: Option<Pin<Box<Sleep>>>,
    drain: drain::Watch,
    /// The end of the drain, once what is carried is no longer HTTP: nobody else cuts it then.
    cut: Option<BoxFuture<'static, ()>>,
}

impl Guarded {
    pub(super) fn new(wire: Wire, config: &Config, drain: drain::Watch) -> Self {
        Self {
            wire,
            framing: Framing::new(config.http1_max_header_bytes()),
            poison: None,
            header_timeout: config.header_timeout,
            body_timeout: config.body_timeout,
            head: 0,
            due: None,
            timer: None,
            untaken: None,
            drain,
            cut: None,
        }
    }

    /// Sets the time by which more must come.
    fn expect_more(&mut self) {
        match self.framing.phase() {
            Phase::Between => (self.due, self.timer) = (None, None),
            // A head has its time as a whole, a body from piece to piece.
            Phase::Head(number) if self.due.is_some() && self.head == number => {}
            Phase::Head(number) => {
                self.head = number;
                self.due = Some(Instant::now() + self.header_timeout);
            }
            Phase::Body => self.due = self.body_timeout.map(|limit| Instant::now() + limit),
        }
    }

    /// Fails once the time is over.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(due) = self.due else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        // Moved only here, not with each piece that arrives.
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= due {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            timer.as_mut().reset(due);
        }
    }
}

impl Guarded {
    /// Reads what is no HTTP, until the drain ends.
    fn poll_tunnel(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let cut = self.cut.get_or_insert_with(|| Box::pin(self.drain.cut()));
        if cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.wire).poll_read(cx, buf)
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(poison) = &mut this.poison {
            let (now, later) = poison.split_at(poison.len().min(buf.remaining()));
            buf.put_slice(now);
            *poison = later;
            return Poll::Ready(Ok(()));
        }
        if this.wire.has_left_http() {
            return this.poll_tunnel(cx, buf);
        }
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut this.wire).poll_read(cx, buf) else {
            return this.poll_late(cx).map(Err);
        };
        read?;
        let (_, new) = buf.filled().split_at(before);
        if let Err(fault) = this.framing.check(new) {
            tracing::debug!(remote = %this.wire.info().remote(), reason = fault.reason, "request refused");
            buf.set_filled(before + fault.at);
            let (first, rest) = POISON.split_at(1);
            buf.put_slice(first);
            this.poison = Some(rest);
        }
        this.expect_more();
        Poll::Ready(Ok(()))
    }
}

impl Guarded {
    /// Passes on how a write went, and fails once the client has taken nothing for too long.
    fn poll_taken<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some(limit) = self.body_timeout.filter(|_| written.is_pending()) else {
            self.untaken = None;
            return written;
        };
        let timer = || Box::pin(sleep_until(Instant::now() + limit));
        ready!(self.untaken.get_or_insert_with(timer).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire).poll_write(cx, buf);
        self.poll_taken(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire).poll_write_vectored(cx, bufs);
        self.poll_taken(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.wire).poll_flush(cx);
        self.poll_taken(cx, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.wire).poll_shutdown(cx);
        self.poll_taken(cx, written)
    }
}
