//! Versions, cipher suites, curves and protocols of a context.

use std::sync::Arc;

use rustls::{
    CipherSuite, NamedGroup, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    version::{TLS12, TLS13},
};

use super::config::TlsContext;
use crate::config::ConfigError;

const SUITES: &[(&str, CipherSuite)] = &[
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-ECDSA-WITH-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-RSA-WITH-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Suites that upstream knows and that are not safe.
const UNSAFE_SUITES: &[&str] = &[
    "ECDHE-RSA-AES256-CBC-SHA",
    "ECDHE-RSA-AES128-CBC-SHA",
    "ECDHE-ECDSA-AES256-CBC-SHA",
    "ECDHE-ECDSA-AES128-CBC-SHA",
    "RSA-AES256-CBC-SHA",
    "RSA-AES128-CBC-SHA",
    "ECDHE-RSA-3DES-EDE-CBC-SHA",
    "RSA-3DES-EDE-CBC-SHA",
];

const CURVES: &[(&str, NamedGroup)] = &[
    ("X25519", NamedGroup::X25519),
    ("P256", NamedGroup::secp256r1),
    ("P384", NamedGroup::secp384r1),
];

/// What a context says beside its certificates.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    pub(super) alpn: Vec<Vec<u8>>,
}

impl Settings {
    pub(super) fn of(context: &TlsContext) -> Result<Self, ConfigError> {
        let mut provider = ring::default_provider();
        if !context.cipher_suites.is_empty() {
            provider.cipher_suites = suites(&context.cipher_suites, &provider.cipher_suites)?;
        }
        if !context.ecdh_curves.is_empty() {
            let wanted = curves(&context.ecdh_curves)?;
            let all = std::mem::take(&mut provider.kx_groups);
            let of = |name: &NamedGroup| all.iter().find(|group| group.name() == *name).copied();
            provider.kx_groups = wanted.iter().filter_map(of).collect();
        }
        let settings = Self {
            provider: Arc::new(provider),
            versions: versions(&context.min_version, &context.max_version)?,
            alpn: protocols(&context.alpn)?,
        };
        settings.check_suites()?;
        Ok(settings)
    }

    /// Whether a suite is left for each version.
    fn check_suites(&self) -> Result<(), ConfigError> {
        let usable = |suite: &SupportedCipherSuite| self.versions.contains(&suite.version());
        match self.provider.cipher_suites.iter().any(usable) {
            true => Ok(()),
            false => Err(ConfigError::new("cipher_suites", "none of them is safe")),
        }
    }
}

fn versions(min: &str, max: &str) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
    let oldest = match min.to_ascii_lowercase().as_str() {
        "" | "tls_auto" | "tlsv1_2" => 2,
        "tlsv1_3" => 3,
        "tlsv1_0" | "tlsv1_1" => {
            tracing::warn!(
                min_version = min,
                "is raised to TLSv1_2, as older versions are not safe"
            );
            2
        }
        _ => return Err(unknown_version("min_version", min)),
    };
    let newest = match max.to_ascii_lowercase().as_str() {
        "" | "tls_auto" | "tlsv1_3" => 3,
        "tlsv1_2" => 2,
        _ => return Err(unknown_version("max_version", max)),
    };
    match (oldest, newest) {
        (2, 3) => Ok(vec![&TLS13, &TLS12]),
        (2, 2) => Ok(vec![&TLS12]),
        (3, 3) => Ok(vec![&TLS13]),
        _ => Err(ConfigError::new("min_version", "is newer than max_version")),
    }
}

fn unknown_version(key: &str, value: &str) -> ConfigError {
    ConfigError::new(key, format!("{value:?} is neither \"TLSv1_2\" nor \"TLSv1_3\""))
}

fn items(list: &str, separator: char) -> impl Iterator<Item = &str> {
    list.split(separator)
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// The wanted suites of TLS 1.2, in the order of the wish, behind those of TLS 1.3.
fn suites(wanted: &str, all: &[SupportedCipherSuite]) -> Result<Vec<SupportedCipherSuite>, ConfigError> {
    let modern = |suite: &&SupportedCipherSuite| suite.version() == &TLS13;
    let mut chosen: Vec<_> = all.iter().filter(modern).copied().collect();
    for name in items(wanted, ':') {
        let known = SUITES.iter().find(|known| known.0.eq_ignore_ascii_case(name));
        match known {
            Some((_, id)) => chosen.extend(all.iter().filter(|suite| suite.suite() == *id)),
            None if UNSAFE_SUITES.iter().any(|it| it.eq_ignore_ascii_case(name)) => {
                tracing::warn!(cipher_suite = name, "is skipped, as it is not safe");
            }
            None => return Err(unknown("cipher_suites", name, SUITES.iter().map(|known| known.0))),
        }
    }
    Ok(chosen)
}

fn curves(wanted: &str) -> Result<Vec<NamedGroup>, ConfigError> {
    let mut chosen = Vec::new();
    for name in items(wanted, ',') {
        match CURVES.iter().find(|known| known.0.eq_ignore_ascii_case(name)) {
            Some((_, group)) => chosen.push(*group),
            None if name.eq_ignore_ascii_case("P521") => {
                tracing::warn!(ecdh_curve = name, "is skipped, as it is not built in");
            }
            None => return Err(unknown("ecdh_curves", name, CURVES.iter().map(|known| known.0))),
        }
    }
    match chosen.is_empty() {
        true => Err(ConfigError::new(
            "ecdh_curves",
            "none of them is built in: X25519, P256 or P384",
        )),
        false => Ok(chosen),
    }
}

fn protocols(list: &str) -> Result<Vec<Vec<u8>>, ConfigError> {
    let bytes = |name: &str| match name.len() {
        1..=255 => Ok(name.as_bytes().to_vec()),
        _ => Err(ConfigError::new("alpn", "a name has more than 255 bytes")),
    };
    items(list, ',').map(bytes).collect()
}

fn unknown(key: &str, name: &str, accepted: impl Iterator<Item = &'static str>) -> ConfigError {
    let accepted: Vec<_> = accepted.collect();
    ConfigError::new(key, format!("{name:?} is none of {}", accepted.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(change: impl FnOnce(&mut TlsContext)) -> Result<Settings, ConfigError> {
        let mut context = TlsContext::default();
        change(&mut context);
        Settings::of(&context)
    }

    // deviation: D058
    #[test]
    fn tls_1_2_is_the_oldest_version_whatever_is_asked_for() {
        for min in ["", "TLSv1_0", "TLSv1_1", "tlsv1_2", "TLS_AUTO"] {
            let settings = of(|context| context.min_version = min.into()).unwrap();
            assert_eq!(settings.versions, [&TLS13, &TLS12], "{min}");
        }
    }

    #[test]
    fn versions_that_cannot_be_met_are_errors() {
        for max in ["TLSv1_0", "TLSv1_1", "1.3"] {
            let error = of(|context| context.max_version = max.into()).unwrap_err();
            assert_eq!(error.path, "max_version", "{max}");
        }
        let crossed = of(|context| {
            context.min_version = "TLSv1_3".into();
            context.max_version = "TLSv1_2".into();
        });
        assert_eq!(crossed.unwrap_err().path, "min_version");
    }

    #[test]
    fn wanted_suites_are_the_only_ones_of_tls_1_2() {
        let list = "ECDHE-RSA-AES128-GCM-SHA256:RSA-AES128-CBC-SHA";
        let settings = of(|context| context.cipher_suites = list.into()).unwrap();
        let old = settings.provider.cipher_suites.iter();
        let old: Vec<_> = old
            .filter(|suite| suite.version() == &TLS12)
            .map(|suite| suite.suite())
            .collect();
        assert_eq!(old, [CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]);
    }

    #[test]
    fn lists_without_a_usable_name_are_errors() {
        assert_eq!(
            of(|it| it.cipher_suites = "NULL".into()).unwrap_err().path,
            "cipher_suites"
        );
        let unsafe_only = of(|it| {
            it.cipher_suites = "RSA-AES128-CBC-SHA".into();
            it.max_version = "TLSv1_2".into();
        });
        assert_eq!(unsafe_only.unwrap_err().path, "cipher_suites");
        assert_eq!(
            of(|it| it.ecdh_curves = "P521".into()).unwrap_err().path,
            "ecdh_curves"
        );
        assert_eq!(
            of(|it| it.ecdh_curves = "P999".into()).unwrap_err().path,
            "ecdh_curves"
        );
    }

    #[test]
    fn curves_keep_their_order() {
        let settings = of(|context| context.ecdh_curves = "P384, X25519".into()).unwrap();
        let names: Vec<_> = settings
            .provider
            .kx_groups
            .iter()
            .map(|group| group.name())
            .collect();
        assert_eq!(names, [NamedGroup::secp384r1, NamedGroup::X25519]);
    }
}
