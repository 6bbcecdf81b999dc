//! Certificates for tests.

use std::path::Path;

use layotto_core::Secret;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::TlsContext;

/// An authority that signs whatever it is asked to.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) pem: String,
}

/// A certificate and its key.
pub(crate) struct Certified {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub(crate) fn certify(&self, names: &[&str]) -> Certified {
        let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        Certified {
            chain: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// The context of a server with a certificate for `names`.
    pub(crate) fn server(&self, names: &[&str]) -> TlsContext {
        self.certify(names).context()
    }

    /// The context of a client that trusts this authority.
    pub(crate) fn client(&self) -> TlsContext {
        TlsContext {
            status: true,
            ca_cert: self.pem.clone(),
            ..TlsContext::default()
        }
    }
}

impl Certified {
    pub(crate) fn context(&self) -> TlsContext {
        TlsContext {
            status: true,
            cert_chain: self.chain.clone(),
            private_key: Secret::new(self.key.clone()),
            ..TlsContext::default()
        }
    }

    /// Writes `tls.crt` and `tls.key`.
    pub(crate) fn write(&self, folder: &Path) {
        std::fs::write(folder.join("tls.crt"), &self.chain).unwrap();
        std::fs::write(folder.join("tls.key"), &self.key).unwrap();
    }
}

/// The context of a server with the files that [`Certified::write`] writes.
pub(crate) fn from_files() -> TlsContext {
    TlsContext {
        status: true,
        cert_chain: "tls.crt".into(),
        private_key: Secret::new("tls.key".into()),
        ..TlsContext::default()
    }
}
