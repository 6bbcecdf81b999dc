//! From the address of a host to what can be connected to.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::{Instant, timeout};

use crate::Address;

/// How long the answer to a name is used.
const FRESH: Duration = Duration::from_secs(15);

/// How long the answer to a name may take.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

/// What can be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// TCP, at the first of these addresses that takes the connection; at least one.
    Tcp(Arc<[SocketAddr]>),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Looks names up.
#[derive(Clone)]
pub(super) struct Lookup(Arc<Ask>);

type Ask = dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// An address that is looked up when it is needed, and not again for 15 s.
#[derive(Debug)]
pub(super) struct Resolver {
    source: Source,
    lookup: Lookup,
}

#[derive(Debug)]
enum Source {
    Known(Endpoint),
    Name {
        host: String,
        port: u16,
        last: Mutex<Option<(Instant, Arc<[SocketAddr]>)>>,
    },
}

impl Lookup {
    /// The system's resolver.
    pub(super) fn system() -> Self {
        Self::new(|host, port| {
            Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
        })
    }

    pub(super) fn new(
        ask: impl Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(ask))
    }

    /// The addresses of `host`, at least one.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = literal(host, port) {
            return Ok(vec![address]);
        }
        let found = timeout(LOOKUP_LIMIT, (self.0)(host.to_owned(), port)).await??;
        match found.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
            false => Ok(found),
        }
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}

impl Resolver {
    pub(super) fn new(address: &Address, lookup: Lookup) -> Self {
        let source = match address {
            Address::Unix(path) => Source::Known(Endpoint::Unix(path.clone())),
            Address::Tcp { host, port } => match literal(host, *port) {
                Some(address) => Source::Known(Endpoint::Tcp(Arc::new([address]))),
                None => Source::Name {
                    host: host.clone(),
                    port: *port,
                    last: Mutex::new(None),
                },
            },
        };
        Self { source, lookup }
    }

    /// Where to connect now. If a name cannot be looked up, its last answer counts on.
    pub(super) async fn resolve(&self) -> io::Result<Endpoint> {
        let (host, port, last) = match &self.source {
            Source::Known(endpoint) => return Ok(endpoint.clone()),
            Source::Name { host, port, last } => (host, *port, last),
        };
        let known = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, addresses)) = &known
            && at.elapsed() < FRESH
        {
            return Ok(Endpoint::Tcp(addresses.clone()));
        }
        let addresses: Arc<[SocketAddr]> = match (self.lookup.addresses(host, port).await, known) {
            (Ok(found), _) => found.into(),
            // Kept for another while, or every connection would wait for a resolver that is down.
            (Err(_), Some((_, addresses))) => addresses,
            (Err(error), None) => return Err(error),
        };
        let fresh = Some((Instant::now(), addresses.clone()));
        *last.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(Endpoint::Tcp(addresses))
    }
}

fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    let ip: IpAddr = host.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn tcp(text: &str) -> Endpoint {
        Endpoint::Tcp(Arc::new([text.parse().unwrap()]))
    }

    /// Answers 10.0.0.1, 10.0.0.2 and so on; every third answer is an error.
    fn counting() -> Lookup {
        let asked = AtomicU8::new(0);
        Lookup::new(move |_, port| {
            let n = asked.fetch_add(1, Relaxed) + 1;
            Box::pin(async move {
                match n % 3 {
                    0 => Err(io::Error::other("no answer")),
                    _ => Ok(vec![SocketAddr::from(([10, 0, 0, n], port))]),
                }
            })
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_used_for_fifteen_seconds_and_longer_if_there_is_no_other() {
        let resolver = Resolver::new(&address("svc:80"), counting());
        assert_eq!(resolver.resolve().await.unwrap(), tcp("10.0.0.1:80"));
        tokio::time::advance(Duration::from_secs(14)).await;
        assert_eq!(resolver.resolve().await.unwrap(), tcp("10.0.0.1:80"));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(resolver.resolve().await.unwrap(), tcp("10.0.0.2:80"));
        tokio::time::advance(FRESH).await;
        assert_eq!(
            resolver.resolve().await.unwrap(),
            tcp("10.0.0.2:80"),
            "the third fails"
        );
        tokio::time::advance(FRESH).await;
        assert_eq!(resolver.resolve().await.unwrap(), tcp("10.0.0.4:80"));
    }

    #[tokio::test]
    async fn addresses_and_sockets_are_not_looked_up() {
        let never = Lookup::new(|_, _| panic!("looked up"));
        for (text, endpoint) in [
            ("127.0.0.1:80", tcp("127.0.0.1:80")),
            ("[::1]:80", tcp("[::1]:80")),
            ("unix:/run/s", Endpoint::Unix("/run/s".into())),
        ] {
            let resolver = Resolver::new(&address(text), never.clone());
            assert_eq!(resolver.resolve().await.unwrap(), endpoint);
        }
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_an_error() {
        let resolver = Resolver::new(
            &address("svc:80"),
            Lookup::new(|_, _| Box::pin(async { Ok(vec![]) })),
        );
        assert_eq!(
            resolver.resolve().await.unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[tokio::test]
    async fn the_system_knows_localhost() {
        let found = Lookup::system().addresses("localhost", 7).await.unwrap();
        assert!(
            found
                .iter()
                .all(|address| address.ip().is_loopback() && address.port() == 7)
        );
    }
}
