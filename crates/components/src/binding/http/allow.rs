//! Which hosts a request may go to; names are checked again by the addresses they resolve to.

use std::{
    error, fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use layotto_core::{Error, ErrorKind, Result};
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

use crate::network::Network;

/// Host names, addresses and networks. A name may also go to the networks, but not to a single
/// address: that stands for URLs that hold it.
#[derive(Debug, Default)]
pub(super) struct Allow {
    hosts: Vec<String>,
    addresses: Vec<IpAddr>,
    networks: Vec<Network>,
}

impl Allow {
    /// Only `host`, whatever it resolves to.
    pub(super) fn host(host: &str) -> Self {
        Self::parse(&[host.to_owned()]).unwrap_or_default()
    }

    /// The hosts and networks of a list.
    pub(super) fn parse(entries: &[String]) -> Result<Self> {
        let mut allow = Self::default();
        for entry in entries {
            if let Ok(address) = bare(entry).parse::<IpAddr>() {
                allow.addresses.push(address.to_canonical());
            } else if entry.contains('/') {
                allow.networks.push(entry.parse()?);
            } else if entry.contains(':') {
                return Err(Error::invalid(format!(
                    "allow: {entry:?} is not a host name; ports are not part of it"
                )));
            } else {
                allow.hosts.push(entry.trim_end_matches('.').to_owned());
            }
        }
        Ok(allow)
    }

    /// Refuses a URL whose host cannot be allowed, before anything is sent or resolved.
    pub(super) fn check(&self, url: &Url) -> Result<()> {
        let host = url.host_str().unwrap_or_default();
        let allowed = matches!(url.scheme(), "http" | "https")
            && match bare(host).parse::<IpAddr>() {
                Ok(address) => self.addresses.contains(&address.to_canonical()) || self.in_network(address),
                Err(_) => self.has_host(host) || !self.networks.is_empty(),
            };
        if allowed { Ok(()) } else { Err(refused(host)) }
    }

    fn has_host(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        self.hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(host))
    }

    fn in_network(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The error for a host that is not on the list.
pub(super) fn refused(host: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, format!("host {host} is not allowed"))
}

/// Resolves names to the addresses that are allowed: what is checked is what is connected to, so
/// a name cannot point elsewhere in between.
pub(super) struct Filtered(Arc<Allow>);

impl Filtered {
    pub(super) fn new(allow: Arc<Allow>) -> Self {
        Self(allow)
    }
}

/// A name none of whose addresses is allowed.
#[derive(Debug)]
pub(super) struct NotAllowed(pub(super) String);

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {} is not allowed", self.0)
    }
}

impl error::Error for NotAllowed {}

impl Resolve for Filtered {
    fn resolve(&self, name: Name) -> Resolving {
        let allow = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let by_name = allow.has_host(&host);
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let admitted: Vec<SocketAddr> = found
                .filter(|found| by_name || allow.in_network(found.ip()))
                .collect();
            if admitted.is_empty() {
                return Err(NotAllowed(host).into());
            }
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(entries: &[&str], url: &str) -> bool {
        let entries: Vec<_> = entries.iter().map(|&entry| entry.to_owned()).collect();
        Allow::parse(&entries)
            .unwrap()
            .check(&Url::parse(url).unwrap())
            .is_ok()
    }

    #[test]
    fn hosts_match_by_name_and_addresses_by_network() {
        assert!(allows(&["Example.com"], "https://example.COM./x"));
        assert!(!allows(&["example.com"], "http://evil.example.com/"));
        assert!(!allows(&["example.com"], "ftp://example.com/"));
        assert!(allows(&["127.0.0.1"], "http://127.0.0.1:99/"));
        assert!(!allows(&["127.0.0.1"], "http://127.0.0.2/"));
        assert!(allows(&["10.0.0.0/8"], "http://10.1.2.3/"));
        assert!(!allows(&["10.0.0.0/8"], "http://169.254.169.254/"));
        assert!(allows(&["::1"], "http://[::1]:80/"));
        assert!(!allows(&["127.0.0.1"], "http://[::ffff:10.0.0.1]/"));
    }

    #[test]
    fn other_spellings_of_an_address_are_the_address() {
        for url in [
            "http://0x7f.1/",
            "http://2130706433/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(!allows(&["example.com"], url), "{url}");
            assert!(allows(&["127.0.0.1"], url), "{url}");
            assert!(allows(&["127.0.0.0/8"], url), "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_is_judged_by_what_it_resolves_to() {
        for (networks, allowed) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
            let allow = Allow::parse(&[networks.to_owned()]).unwrap();
            let name = "localhost".parse().unwrap();
            let found = Filtered::new(Arc::new(allow)).resolve(name).await;
            assert_eq!(found.is_ok(), allowed);
        }
    }

    #[test]
    fn entries_that_are_no_host_or_network_are_refused() {
        for entry in ["10.0.0.0/99", "http://example.com", "example.com:80"] {
            assert!(Allow::parse(&[entry.to_owned()]).is_err(), "{entry}");
        }
    }
}
