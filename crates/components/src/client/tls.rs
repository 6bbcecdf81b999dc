//! TLS towards products: what a product must prove, and what is shown to it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use layotto_core::{Context, Error, Result, Secret};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

/// The names of a product's settings, for errors.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) authorities: &'static str,
    pub(crate) certificate: &'static str,
    pub(crate) key: &'static str,
}

/// The names that most products use.
pub(crate) const KEYS: Keys = Keys {
    authorities: "caCert",
    certificate: "clientCert",
    key: "clientKey",
};

/// The values of these settings, empty where there is none: PEM texts, or files with such.
pub(crate) struct Given<'a> {
    pub(crate) authorities: &'a str,
    pub(crate) certificate: &'a str,
    pub(crate) key: &'a Secret,
    pub(crate) skip_verify: bool,
}

/// The settings as PEM texts, for a library that reads these itself.
#[cfg(feature = "zookeeper-tls")]
pub(crate) struct Texts {
    pub(crate) authorities: String,
    /// The certificate and its key.
    pub(crate) identity: Option<(String, Secret)>,
}

/// The settings of TLS. Files are read anew for each connection, so that renewed ones count.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    keys: &'static Keys,
    authorities: Option<Pem>,
    identity: Option<(Pem, Pem)>,
    skip_verify: bool,
}

/// A PEM text, or the file that holds it.
#[derive(Debug, Clone)]
pub(crate) enum Pem {
    Text(Secret),
    File(PathBuf),
}

impl Pem {
    /// What a setting names; `None` where it is empty. A file is looked for in the working directory
    /// and then beside the configuration, without a word in the log: a text that is taken for a path
    /// may be a key that lost its armour.
    pub(crate) fn locate(value: &str, cx: &Context) -> Option<Self> {
        let beside_config = cx.config_dir.join(value);
        match value {
            "" => None,
            text if text.contains("-----BEGIN") => Some(Self::Text(Secret::new(text.to_owned()))),
            path if !Path::new(path).exists() && beside_config.exists() => Some(Self::File(beside_config)),
            path => Some(Self::File(path.into())),
        }
    }

    /// The text; `key` is the setting's name.
    pub(crate) fn read(&self, key: &str) -> Result<String> {
        match self {
            Self::Text(text) => Ok(text.expose().clone()),
            Self::File(path) => fs::read_to_string(path).map_err(|error| {
                Error::invalid(format!("{key}: neither PEM nor a file that can be read")).with_source(error)
            }),
        }
    }

    fn certificates(&self, key: &str) -> Result<Vec<CertificateDer<'static>>> {
        let text = self.read(key)?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            _ => Err(Error::invalid(format!("{key}: no certificate in PEM form"))),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Text(text) => text.expose().clone(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

impl Tls {
    /// Fails for settings that cannot be used, now: what has come to the files later is found at
    /// each connection.
    pub(crate) fn new(keys: &'static Keys, given: &Given<'_>, cx: &Context) -> Result<Self> {
        let certificate = Pem::locate(given.certificate, cx);
        let identity = match (certificate, Pem::locate(given.key.expose(), cx)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                let text = format!("{}: needed by {}", keys.key, keys.certificate);
                return Err(Error::invalid(text));
            }
            (None, Some(_)) => {
                let text = format!("{}: needed by {}", keys.certificate, keys.key);
                return Err(Error::invalid(text));
            }
        };
        let tls = Self {
            keys,
            authorities: Pem::locate(given.authorities, cx),
            identity,
            skip_verify: given.skip_verify,
        };
        tls.config()?;
        Ok(tls)
    }

    /// What tells one from another; holds the key where it is given as PEM.
    pub(crate) fn parts(&self) -> Vec<String> {
        let mut parts: Vec<_> = self.pems().map(Pem::name).collect();
        parts.push(format!("{} {}", self.identity.is_some(), self.skip_verify));
        parts
    }

    /// The PEM texts among the settings, which are not printed.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.pems().filter_map(|pem| match pem {
            Pem::Text(text) => Some(text.expose().as_str()),
            Pem::File(_) => None,
        })
    }

    fn pems(&self) -> impl Iterator<Item = &Pem> {
        let identity = self.identity.iter();
        let identity = identity.flat_map(|(certificate, key)| [certificate, key]);
        identity.chain(&self.authorities)
    }

    /// The configuration of a connection, from files as they are now.
    pub(crate) fn config(&self) -> Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal("TLS cannot be set up").with_source(error))?;
        let builder = if self.skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let Some((certificate, key)) = &self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let invalid = |what: &str| Error::invalid(format!("{}: {what}", self.keys.key));
        let chain = certificate.certificates(self.keys.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key.read(self.keys.key)?.as_bytes())
            .map_err(|_| invalid("no private key in PEM form"))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| invalid("not the key of the certificate").with_source(error))
    }

    /// What [`config`](Self::config) reads, as it is now, found to be usable.
    #[cfg(feature = "zookeeper-tls")]
    pub(crate) fn read(&self) -> Result<Texts> {
        self.config()?;
        let authorities = match &self.authorities {
            Some(authorities) => authorities.read(self.keys.authorities)?,
            None => system_authorities(),
        };
        let read = |(certificate, key): &(Pem, Pem)| -> Result<_> {
            let certificate = certificate.read(self.keys.certificate)?;
            Ok((certificate, Secret::new(key.read(self.keys.key)?)))
        };
        let identity = self.identity.as_ref().map(read).transpose()?;
        Ok(Texts {
            authorities,
            identity,
        })
    }

    fn roots(&self) -> Result<RootCertStore> {
        let key = self.keys.authorities;
        let mut roots = RootCertStore::empty();
        let Some(authorities) = &self.authorities else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return match roots.is_empty() {
                true => Err(Error::invalid(format!(
                    "{key}: needed, as the system trusts nobody"
                ))),
                false => Ok(roots),
            };
        };
        for certificate in authorities.certificates(key)? {
            roots.add(certificate).map_err(|error| {
                Error::invalid(format!("{key}: not the certificate of an authority")).with_source(error)
            })?;
        }
        Ok(roots)
    }
}

#[cfg(feature = "zookeeper-tls")]
fn system_authorities() -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};

    let certificates = rustls_native_certs::load_native_certs().certs;
    let texts = certificates.iter().map(|certificate| {
        let text = STANDARD.encode(certificate);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    });
    texts.collect()
}

/// `host` as certificates name it.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(|error| {
        Error::invalid(format!("{host:?} is not a name that a certificate can have")).with_source(error)
    })
}

/// Takes any certificate whose key the other side has.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(all(test, feature = "zookeeper-tls"))]
mod tests {
    use super::*;

    #[test]
    fn the_authorities_of_the_system_are_written_as_pem() {
        let text = system_authorities();
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        assert_eq!(read.unwrap(), rustls_native_certs::load_native_certs().certs);
    }
}
