//! The settings of one listener.

use std::{sync::Arc, time::Duration};

use crate::{Address, tap::ReadTap, tls};

/// `connection_idle_timeout` of a proxy, unless configured.
const PROXY_IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// `max_header_size` of a proxy over HTTP/1, unless configured.
const PROXY_MAX_HEADER_BYTES: u32 = 8192;

/// The settings of one listener; [`Config::new`] has defaults for all but name and address.
#[derive(Debug, Clone)]
pub struct Config {
    /// Names the listener in errors, logs and metrics.
    pub name: String,
    /// Where to listen.
    pub address: Address,
    /// How many connections the system queues until they are accepted. Default 1024.
    pub backlog: u16,
    /// How many connections may be open; further ones wait in the queue. At least 1. Default 65536.
    pub max_connections: usize,
    /// Which protocols connections may speak. Default: HTTP/1.1 and HTTP/2, told by the first bytes.
    pub protocol: Protocol,
    /// How long the system waits on a silent TCP connection before it asks whether the peer is
    /// still there, from 1 s to 32767 s; `None` never asks. Default 15 s.
    pub tcp_keepalive: Option<Duration>,
    /// How long a client may take to agree on TLS and to say which protocol it speaks, and over
    /// HTTP/1 to send the head of a request, once it has begun. Default 30 s.
    pub header_timeout: Duration,
    /// How long a client may pause within the body of a request over HTTP/1, and within taking a
    /// reply that is there; `None` for ever. Streams of HTTP/2 may be as quiet as they like, as
    /// calls that stream are: their deadline or the pings of [`Http2`] end them. Default 60 s.
    pub body_timeout: Option<Duration>,
    /// How long a connection may be idle before it is closed: over HTTP/2 without an open stream,
    /// give or take a quarter; over HTTP/1 between requests, where `None` means `header_timeout`.
    /// Proxies have 90 s. Default `None`, for ever.
    pub idle_timeout: Option<Duration>,
    /// The longest head of a request, in bytes; longer ones are answered 431. Default 65536.
    pub max_header_bytes: u32,
    /// The same for HTTP/1 alone; proxies have 8192. Default `None`: `max_header_bytes`.
    pub http1_max_header_bytes: Option<u32>,
    /// Settings of HTTP/2.
    pub http2: Http2,
    /// The permissions of a Unix socket's file. Default 0660.
    pub socket_mode: u32,
    /// What looks at the bytes that clients send, in this order. Default none.
    pub taps: Vec<Arc<dyn ReadTap>>,
    /// TLS. Default: plain text.
    pub tls: tls::server::Slot,
}

/// Which protocols the connections of a listener may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/2, told by the first bytes.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only, without negotiation.
    Http2,
}

/// Settings of HTTP/2 connections.
#[derive(Debug, Clone)]
pub struct Http2 {
    /// How often to ping the peer, whether or not streams are open; `None` never. Default `None`.
    pub keep_alive_interval: Option<Duration>,
    /// How long to wait for the answer to a ping before the connection is closed. Default 20 s.
    pub keep_alive_timeout: Duration,
    /// How many streams a peer may have open on one connection. Default 1024.
    pub max_concurrent_streams: u32,
    /// Flow-control windows.
    pub window: Window,
    /// How much of a reply is held per stream until the peer takes it, in bytes, beside the piece
    /// that comes on top. Default 65536.
    pub max_send_buffer: usize,
    /// How many streams may be reset by the peer before they were looked at; more of them close
    /// the connection, as only an attack makes so many. Default 32.
    pub max_pending_accept_reset_streams: usize,
}

/// Flow-control windows of HTTP/2: how much a peer may send unasked, at most 2³¹ − 1 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Grows with the measured bandwidth and delay.
    Adaptive,
    /// Stays as it is.
    Fixed {
        /// Bytes per stream.
        stream: u32,
        /// Bytes per connection.
        connection: u32,
    },
}

impl Config {
    /// A listener called `name` at `address`, all else at its default.
    pub fn new(name: impl Into<String>, address: impl Into<Address>) -> Self {
        Self {
            name: name.into(),
            address: address.into(),
            backlog: 1024,
            max_connections: 65536,
            protocol: Protocol::default(),
            tcp_keepalive: Some(Duration::from_secs(15)),
            header_timeout: Duration::from_secs(30),
            body_timeout: Some(Duration::from_secs(60)),
            idle_timeout: None,
            max_header_bytes: 64 * 1024,
            http1_max_header_bytes: None,
            http2: Http2::default(),
            socket_mode: 0o660,
            taps: Vec::new(),
            tls: tls::server::Slot::default(),
        }
    }

    /// A listener before a proxy: clients of HTTP/1 keep connections for 90 s, and heads of theirs
    /// have at most 8192 bytes.
    pub fn of_proxy(name: impl Into<String>, address: impl Into<Address>) -> Self {
        Self {
            idle_timeout: Some(PROXY_IDLE_TIMEOUT),
            http1_max_header_bytes: Some(PROXY_MAX_HEADER_BYTES),
            ..Self::new(name, address)
        }
    }

    /// The longest head of a request over HTTP/1, in bytes.
    pub(crate) fn http1_max_header_bytes(&self) -> usize {
        let max = self.http1_max_header_bytes.unwrap_or(self.max_header_bytes);
        max.try_into().unwrap_or(usize::MAX)
    }
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            keep_alive_interval: None,
            keep_alive_timeout: Duration::from_secs(20),
            max_concurrent_streams: 1024,
            window: Window::default(),
            max_send_buffer: 64 * 1024,
            max_pending_accept_reset_streams: 32,
        }
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::Fixed {
            stream: 1 << 20,
            connection: 1 << 20,
        }
    }
}
