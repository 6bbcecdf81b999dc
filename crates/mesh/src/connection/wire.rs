//! What a protocol reads and writes: a connection's clear text, counted and tapped.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Info, Open, Stream};
use crate::{listener::Config, tap::ConnectionTap};

/// An accepted connection, in clear text. What goes through is counted for its listener, and what
/// is read is shown to the listener's taps.
#[derive(Debug)]
pub struct Wire {
    first: Bytes,
    stream: Stream,
    info: Info,
    config: Arc<Config>,
    open: Arc<Open>,
    taps: Vec<Box<dyn ConnectionTap>>,
}

impl Wire {
    /// `first` are bytes that were read from `stream` already.
    pub(super) fn new(
        first: Bytes,
        stream: Stream,
        info: Info,
        config: Arc<Config>,
        open: Arc<Open>,
    ) -> Self {
        let taps = config.taps.iter().filter_map(|tap| tap.open(&info)).collect();
        Self {
            taps,
            first,
            stream,
            info,
            config,
            open,
        }
    }

    /// What is known of the connection.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// How long the listener lets a connection be idle.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.config.idle_timeout
    }

    /// Whether what it carries is no longer HTTP.
    pub(super) fn has_left_http(&self) -> bool {
        self.open.has_left_http()
    }

    fn seen(&mut self, bytes: &[u8]) {
        self.open.counts().read(bytes.len());
        for tap in &mut self.taps {
            tap.read(bytes);
        }
    }

    fn count_written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(length)) = written {
            self.open.counts().written(length);
        }
        written
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.first.is_empty() {
            std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        } else {
            let length = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..length]);
            self.first.advance(length);
        }
        if let Some(bytes) = buf.filled().get(before..).filter(|bytes| !bytes.is_empty()) {
            self.seen(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count_written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count_written(written)
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
