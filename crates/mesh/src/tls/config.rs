//! The TLS context of a configuration file: one struct for servers and for clients.

use layotto_core::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{
    Fate::{Ignored, Later},
    OtherKey,
};

/// Keys of upstream's that [`TlsContext`] does not take.
pub const OTHER_KEYS: &[OtherKey] = &[
    OtherKey {
        path: "fall_back",
        fate: Later,
        why: "a failed handshake never falls back to plain text",
    },
    OtherKey {
        path: "extend_verify",
        fate: Later,
        why: "settings of a verifier written in Go",
    },
    OtherKey {
        path: "callbacks",
        fate: Later,
        why: "names code written in Go",
    },
    OtherKey {
        path: "sds_source",
        fate: Later,
        why: "certificates come from files or from the configuration",
    },
    OtherKey {
        path: "type",
        fate: Ignored,
        why: "names an extension written in Go; there is one implementation here",
    },
];

/// TLS of a listener, or towards a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TlsContext {
    /// Whether TLS is spoken at all. Default false.
    pub status: bool,
    /// A listener: a name that the context serves beside those of its certificate. A cluster: the
    /// name that the server is asked for and must prove; default the host's name, else its address.
    pub server_name: String,
    /// The authorities that a peer's certificate must come from, as PEM text or as the path of a
    /// file. A listener needs it for `verify_client`; a cluster's default are the system's.
    pub ca_cert: String,
    /// The certificate, and those of its issuers behind it, as PEM text or as the path of a file.
    pub cert_chain: String,
    /// The key of the certificate, as PEM text or as the path of a file.
    pub private_key: Secret,
    /// Whether a client's certificate is verified, if it sends one. Default false.
    pub verify_client: bool,
    /// With `verify_client`: whether a client must send a certificate. Alone, it asks for one and
    /// checks nothing. Default false.
    pub require_client_cert: bool,
    /// A cluster: whether any certificate of the server is taken, which is no protection against
    /// whoever can redirect connections. Default false.
    pub insecure_skip: bool,
    /// Cipher suites of TLS 1.2, separated by `:`, such as
    /// `ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384`. Names of suites without
    /// forward secrecy or authenticated encryption are skipped with a warning. The suites of
    /// TLS 1.3 are always on. Default: all that are safe.
    pub cipher_suites: String,
    /// Curves for key exchange, best first, separated by `,`: `X25519`, `P256`, `P384`. Default
    /// all.
    pub ecdh_curves: String,
    /// The oldest version: `TLSv1_2` (default) or `TLSv1_3`; older names are raised to `TLSv1_2`
    /// with a warning.
    pub min_version: String,
    /// The newest version: `TLSv1_2` or `TLSv1_3` (default).
    pub max_version: String,
    /// Protocols to agree on, best first, separated by `,`: `h2`, `http/1.1`. Default of a
    /// listener: what it speaks; of a cluster: what its requests need.
    pub alpn: String,
}
