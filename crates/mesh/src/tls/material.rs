//! Certificates and keys: PEM, in the configuration itself or in a file that it names.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::config::TlsContext;
use crate::{config::ConfigError, paths};

const PRIVATE_KEY: &str = "private_key";

/// Where a PEM text is. Not to be printed, as it may be a key.
#[derive(Clone)]
pub(super) enum Pem {
    Text(String),
    File(PathBuf),
}

/// What tells one state of a file from another: the target of a symbolic link, not the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    modified: (i64, i64),
    length: u64,
}

/// The certificates of one context, not read yet.
#[derive(Clone)]
pub(super) struct Material {
    pub(super) authorities: Option<Pem>,
    /// The chain and its key.
    pub(super) identity: Option<(Pem, Pem)>,
}

/// A certificate, its issuers, and its key.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Pem {
    /// The text, or the file of that name: as seen from the working directory if there is one,
    /// else from the first of `folders` that has it.
    fn locate(value: &str, folders: &[PathBuf]) -> Option<Self> {
        if value.is_empty() {
            return None;
        }
        if value.contains("-----BEGIN") {
            return Some(Self::Text(value.to_owned()));
        }
        Some(Self::File(paths::find(value, folders)))
    }

    pub(super) fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) => Some(path),
            Self::Text(_) => None,
        }
    }

    fn read(&self, key: &str) -> Result<Vec<u8>, ConfigError> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::File(path) => std::fs::read(path).map_err(|error| {
                let message = match key {
                    // What is no path may be the key itself, without its PEM armour.
                    PRIVATE_KEY => format!("is neither PEM text nor a file that can be read: {error}"),
                    _ => format!("the file {} cannot be read: {error}", path.display()),
                };
                ConfigError::new(key, message)
            }),
        }
    }

    fn certificates(&self, key: &str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let pem = self.read(key)?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            Ok(_) => Err(ConfigError::new(key, "there is no certificate in PEM form")),
            Err(error) => Err(ConfigError::new(key, format!("is no PEM text: {error}"))),
        }
    }
}

impl Stamp {
    /// The state of a file; `None`: there is none.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            file: (found.dev(), found.ino()),
            modified: (found.mtime(), found.mtime_nsec()),
            length: found.len(),
        })
    }
}

impl Material {
    pub(super) fn locate(context: &TlsContext, folders: &[PathBuf]) -> Result<Self, ConfigError> {
        let chain = Pem::locate(&context.cert_chain, folders);
        let key = Pem::locate(context.private_key.expose(), folders);
        let identity = match (chain, key) {
            (Some(chain), Some(key)) => Some((chain, key)),
            (None, None) => None,
            (Some(_), None) => return Err(ConfigError::new(PRIVATE_KEY, "is needed by cert_chain")),
            (None, Some(_)) => return Err(ConfigError::new("cert_chain", "is needed by private_key")),
        };
        let authorities = Pem::locate(&context.ca_cert, folders);
        Ok(Self {
            authorities,
            identity,
        })
    }

    /// The files among it.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let identity = self.identity.iter().flat_map(|(chain, key)| [chain, key]);
        identity.chain(&self.authorities).filter_map(Pem::file).cloned()
    }

    pub(super) fn identity(&self) -> Result<Option<Identity>, ConfigError> {
        let Some((chain, key)) = &self.identity else {
            return Ok(None);
        };
        let chain = chain.certificates("cert_chain")?;
        let key = PrivateKeyDer::from_pem_slice(&key.read(PRIVATE_KEY)?)
            .map_err(|_| ConfigError::new(PRIVATE_KEY, "there is no private key in PEM form"))?;
        Ok(Some((chain, key)))
    }

    pub(super) fn roots(&self) -> Result<Option<Arc<RootCertStore>>, ConfigError> {
        let Some(authorities) = &self.authorities else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        for certificate in authorities.certificates("ca_cert")? {
            roots
                .add(certificate)
                .map_err(|error| ConfigError::new("ca_cert", format!("is no authority: {error}")))?;
        }
        Ok(Some(Arc::new(roots)))
    }
}

/// The authorities that the system trusts.
pub(super) fn system_roots() -> Result<Arc<RootCertStore>, ConfigError> {
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match taken {
        0 => Err(ConfigError::new(
            "ca_cert",
            "is needed, as the system has no certificates of authorities",
        )),
        _ => Ok(Arc::new(roots)),
    }
}

/// An error of a peer's or of a name's, for whoever connects.
pub(super) fn invalid(error: impl Into<crate::BoxError>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}
