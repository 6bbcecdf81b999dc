//! The bytes of a connection, whatever carries them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::tls::server::{Acceptor, Peer, TlsStream};

/// The first byte of every TLS connection: a record with a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What the system carries.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection's bytes, in clear text.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Rewound<Socket>),
    Tls(Box<TlsStream<Rewound<Socket>>>),
}

/// A stream whose first bytes were read already and are read again.
#[derive(Debug)]
pub(crate) struct Rewound<S> {
    first: Bytes,
    stream: S,
}

impl Stream {
    /// Begins TLS, where the listener speaks it and, if it may choose, so does the client.
    pub(super) async fn open(socket: Socket, tls: Option<&Acceptor>) -> io::Result<(Self, Option<Peer>)> {
        let mut socket = Rewound::new(socket);
        let Some(tls) = tls else {
            return Ok((Self::Plain(socket), None));
        };
        if tls.inspects() {
            let first = socket.read_u8().await?;
            socket.first = Bytes::copy_from_slice(&[first]);
            if first != TLS_HANDSHAKE {
                return Ok((Self::Plain(socket), None));
            }
        }
        let (stream, peer) = tls.accept(socket).await?;
        Ok((Self::Tls(Box::new(stream)), Some(peer)))
    }
}

impl<S> Rewound<S> {
    fn new(stream: S) -> Self {
        Self {
            first: Bytes::new(),
            stream,
        }
    }
}

macro_rules! on {
    ($value:expr, $type:ident :: { $($variant:ident),+ }, $inner:ident => $call:expr) => {
        match $value {
            $($type::$variant($inner) => $call,)+
        }
    };
}

macro_rules! carry {
    ($type:ident :: { $($variant:ident),+ }) => {
        impl AsyncRead for $type {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                on!(self.get_mut(), $type::{$($variant),+}, it => Pin::new(it).poll_read(cx, buf))
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                on!(self.get_mut(), $type::{$($variant),+}, it => Pin::new(it).poll_write(cx, buf))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                on!(self.get_mut(), $type::{$($variant),+}, it => Pin::new(it).poll_write_vectored(cx, bufs))
            }

            fn is_write_vectored(&self) -> bool {
                on!(self, $type::{$($variant),+}, it => it.is_write_vectored())
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                on!(self.get_mut(), $type::{$($variant),+}, it => Pin::new(it).poll_flush(cx))
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                on!(self.get_mut(), $type::{$($variant),+}, it => Pin::new(it).poll_shutdown(cx))
            }
        }
    };
}

carry!(Socket::{Tcp, Unix});
carry!(Stream::{Plain, Tls});

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let length = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..length]);
        self.first.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
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
