//! An exchange: one request and its reply, and what the data plane came to know of them. Filters
//! write it, routes and access logs read it.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    connection::{Info, Remote},
    router::Route,
};

/// What is known of one exchange; every request that passes a listener's filters has it among its
/// extensions. Clones share it.
#[derive(Debug, Clone)]
pub struct Exchange(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Option<Info>,
    listener: Arc<str>,
    begun: Instant,
    begun_at: SystemTime,
    facts: Mutex<Facts>,
}

/// What changes while an exchange goes on.
#[derive(Debug, Default)]
pub struct Facts {
    /// The route taken.
    pub route: Option<Arc<Route>>,
    /// The cluster chosen, once: a retry stays in it.
    pub cluster: Option<Arc<str>>,
    /// The upstream host that answered or was last tried, as in its configuration.
    pub upstream_host: Option<Arc<str>>,
    /// The same host, as its cluster has it.
    pub host: Option<Arc<crate::cluster::Host>>,
    /// The local end of the connection to it.
    pub upstream_local: Option<std::net::SocketAddr>,
    /// Number of the connection to it, unique in the process.
    pub upstream_connection: Option<u64>,
    /// Why the last attempt failed.
    pub upstream_failure: Option<Arc<str>>,
    /// How often the request was sent to an upstream.
    pub attempts: u32,
    /// What went wrong or was special.
    pub flags: Flags,
    /// Since the beginning: when the whole request had arrived.
    pub request_received: Option<Duration>,
    /// Since the beginning: when the head of the upstream's reply had arrived.
    pub response_received: Option<Duration>,
    /// Bytes of the request's body that were read.
    pub bytes_received: u64,
    /// Bytes of the reply's body that were written.
    pub bytes_sent: u64,
    /// Overrides the route's timeout.
    pub global_timeout: Option<Duration>,
    /// Overrides the route's timeout per try.
    pub try_timeout: Option<Duration>,
    /// Forbids retries.
    pub no_retry: bool,
    /// The trace it belongs to.
    pub trace_id: Option<Arc<str>>,
}

/// Response flags, with upstream's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u32);

#[allow(missing_docs, reason = "the names are upstream's")]
impl Flags {
    pub const NO_HEALTHY: Self = Self(0x2);
    pub const UPSTREAM_TIMEOUT: Self = Self(0x4);
    pub const UPSTREAM_LOCAL_RESET: Self = Self(0x8);
    pub const UPSTREAM_REMOTE_RESET: Self = Self(0x10);
    pub const CONNECTION_FAILURE: Self = Self(0x20);
    pub const CONNECTION_TERMINATION: Self = Self(0x40);
    pub const OVERFLOW: Self = Self(0x80);
    pub const NO_ROUTE: Self = Self(0x100);
    pub const DELAY: Self = Self(0x200);
    pub const FAULT: Self = Self(0x400);
    pub const RATE_LIMITED: Self = Self(0x800);
    pub const TOO_LARGE: Self = Self(0x1000);
    pub const DOWNSTREAM_TERMINATE: Self = Self(0x2000);

    /// Sets the bits of `other` too.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Exchange {
    /// An exchange that begins now, over `connection` or, inside the process, over none.
    pub fn begin(listener: Arc<str>, connection: Option<Info>) -> Self {
        Self(Arc::new(Inner {
            connection,
            listener,
            begun: Instant::now(),
            begun_at: SystemTime::now(),
            facts: Mutex::default(),
        }))
    }

    /// The exchange of a request that passed a listener's filters.
    pub fn of(extensions: &http::Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// The connection; `None` for a call from inside the process.
    pub fn connection(&self) -> Option<&Info> {
        self.0.connection.as_ref()
    }

    /// The name of the listener.
    pub fn listener(&self) -> &Arc<str> {
        &self.0.listener
    }

    /// The client's address, if it came over TCP.
    pub fn source_ip(&self) -> Option<IpAddr> {
        match self.connection()?.remote() {
            Remote::Tcp(address) => Some(address.ip().to_canonical()),
            Remote::Unix { .. } => None,
        }
    }

    /// How long ago it began.
    pub fn elapsed(&self) -> Duration {
        self.0.begun.elapsed()
    }

    /// When it began, by the wall clock.
    pub fn begun_at(&self) -> SystemTime {
        self.0.begun_at
    }

    /// What changes; hold it briefly, never over an await.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds response flags.
    pub fn flag(&self, flags: Flags) {
        self.facts().flags.insert(flags);
    }
}
