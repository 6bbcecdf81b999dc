//! What balancers that hash go by. Agrees with upstream, so that both send a key to the same host.

mod sip;

use std::net::IpAddr;

use http::{HeaderName, request};

use super::{config, from_text};
use crate::{config::ConfigError, exchange::Exchange, variable};

/// Upstream's key.
const KEY: [u64; 2] = [0xbeef_cafe_babe_dead, 0];

/// What balancers that hash go by.
#[derive(Debug, Default)]
pub(super) enum Policy {
    #[default]
    Source,
    /// The name as in the configuration, which is hashed too.
    Header(HeaderName, Box<str>),
    Cookie(Box<str>),
}

impl Policy {
    /// The first of `policies`; the client's address if there is none.
    pub(super) fn new(policies: &[config::HashPolicy]) -> Result<Self, ConfigError> {
        let Some(policy) = policies.first() else {
            return Ok(Self::Source);
        };
        if let Some(header) = &policy.header {
            let name = from_text(&header.key, "hash_policy[0].header.key", "a header's name")?;
            return Ok(Self::Header(name, header.key.as_str().into()));
        }
        match &policy.cookie {
            Some(cookie) if cookie.name.is_empty() => {
                Err(ConfigError::new("hash_policy[0].cookie.name", "is missing"))
            }
            Some(cookie) => Ok(Self::Cookie(cookie.name.as_str().into())),
            None => Ok(Self::Source),
        }
    }

    /// The hash of a request; 0 where it lacks what is hashed.
    pub(super) fn hash(&self, head: &request::Parts, exchange: &Exchange) -> u64 {
        match self {
            Self::Source => exchange.source_ip().map_or(0, of_ip),
            Self::Header(name, key) => head.headers.get(name).map_or(0, |value| {
                sip::hash(KEY, &[key.as_bytes(), b":", value.as_bytes()].concat())
            }),
            Self::Cookie(name) => variable::cookie(head, name)
                .map_or(0, |value| sip::hash(KEY, format!("{name}={value}").as_bytes())),
        }
    }
}

/// An IPv4 address as a number, of an IPv6 address its last four bytes.
fn of_ip(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits() as u32 as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value is upstream's own, from a note in its tests.
    #[test]
    fn texts_hash_as_upstream_does() {
        assert_eq!(sip::hash(KEY, b"1"), 15_836_395_326_274_861_737);
    }

    #[test]
    fn addresses_are_numbers() {
        assert_eq!(of_ip("127.0.0.1".parse().unwrap()), 0x7f00_0001);
        assert_eq!(of_ip("fe80::1:2".parse().unwrap()), 0x0001_0002);
    }
}
