//! The client's end: what a server must prove, and what we show it.

use std::{fmt, io, path::PathBuf, sync::Arc};

use futures::future::BoxFuture;
use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::ServerName,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::{
    config::TlsContext,
    material::{Material, invalid, system_roots},
    reload::Reloading,
    server::not_a_pair,
    settings::Settings,
    verify::Anyone,
};
use crate::{
    config::ConfigError,
    upstream::{Io, Protocol, Secure, Stream},
};

/// A connection under TLS, seen from the client.
pub type TlsStream<S> = tokio_rustls::client::TlsStream<S>;

/// Speaks TLS with the hosts of a cluster; clones share it.
#[derive(Clone)]
pub struct Connector(Arc<Inner>);

struct Inner {
    config: Reloading<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    offers: bool,
}

struct Plan {
    material: Material,
    settings: Settings,
    insecure_skip: bool,
    system: Option<Arc<RootCertStore>>,
}

impl Connector {
    /// The connector of a context; `None` if it is off. Paths that the working directory does not
    /// have are looked up in `folders`.
    ///
    /// # Errors
    /// Values that are not accepted, files that are missing, keys that belong to another
    /// certificate.
    pub fn new(context: &TlsContext, folders: &[PathBuf]) -> Result<Option<Self>, ConfigError> {
        if !context.status {
            return Ok(None);
        }
        let plan = Plan::of(context, folders)?;
        let server_name = match context.server_name.as_str() {
            "" => None,
            name => Some(parse(name).map_err(|error| ConfigError::new("server_name", error.to_string()))?),
        };
        let offers = !plan.settings.alpn.is_empty();
        let files: Vec<_> = plan.material.files().collect();
        let config = Reloading::new(files, Box::new(move || plan.read()))?;
        Ok(Some(Self(Arc::new(Inner {
            config,
            server_name,
            offers,
        }))))
    }

    /// Agrees with a server, which must prove the context's `server_name`, else `name`: a DNS name
    /// or an IP address. The caller bounds the time.
    ///
    /// # Errors
    /// `InvalidInput` for a bad name; else what ends the handshake.
    pub async fn connect<S>(&self, stream: S, name: &str) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = self.connector().await;
        connector.connect(self.name(name)?, stream).await
    }

    /// Like [`connect`](Self::connect), and offers `protocols` unless the context has `alpn`.
    ///
    /// # Errors
    /// As of [`connect`](Self::connect).
    pub async fn connect_for<S>(
        &self,
        stream: S,
        name: &str,
        protocols: &[Protocol],
    ) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.0.offers {
            return self.connect(stream, name).await;
        }
        let names = protocols
            .iter()
            .map(|protocol| alpn(*protocol).to_vec())
            .collect();
        let connector = self.connector().await;
        connector.with_alpn(names).connect(self.name(name)?, stream).await
    }

    async fn connector(&self) -> TlsConnector {
        TlsConnector::from(self.0.config.get().await)
    }

    fn name(&self, fallback: &str) -> io::Result<ServerName<'static>> {
        match &self.0.server_name {
            Some(name) => Ok(name.clone()),
            None => parse(fallback).map_err(invalid),
        }
    }
}

impl Secure for Connector {
    fn secure<'a>(
        &'a self,
        stream: Stream,
        server_name: &'a str,
        protocol: Protocol,
    ) -> BoxFuture<'a, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            let stream = self.connect_for(stream, server_name, &[protocol]).await?;
            match agreed(&stream) {
                Some(other) if other != protocol => {
                    let text = format!("the host speaks {other:?}, not {protocol:?}");
                    Err(io::Error::new(io::ErrorKind::InvalidData, text))
                }
                _ => Ok(Box::new(stream) as Box<dyn Io>),
            }
        })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("server_name", &self.0.server_name)
            .finish_non_exhaustive()
    }
}

/// What a connection agreed to speak; `None`: nothing was said, or nothing that is known.
pub fn agreed<S>(stream: &TlsStream<S>) -> Option<Protocol> {
    match stream.get_ref().1.alpn_protocol()? {
        b"h2" => Some(Protocol::Http2),
        b"http/1.1" => Some(Protocol::Http1),
        _ => None,
    }
}

fn alpn(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Http1 => b"http/1.1",
        Protocol::Http2 => b"h2",
    }
}

fn parse(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| format!("{name:?} is neither a DNS name nor an IP address"))
}

impl Plan {
    fn of(context: &TlsContext, folders: &[PathBuf]) -> Result<Self, ConfigError> {
        let material = Material::locate(context, folders)?;
        let insecure_skip = context.insecure_skip;
        if insecure_skip {
            tracing::warn!("insecure_skip is set: any certificate of a server is taken");
        }
        let system = match material.authorities.is_none() && !insecure_skip {
            true => Some(system_roots()?),
            false => None,
        };
        Ok(Self {
            material,
            settings: Settings::of(context)?,
            insecure_skip,
            system,
        })
    }

    fn read(&self) -> Result<ClientConfig, ConfigError> {
        let config = ClientConfig::builder_with_provider(self.settings.provider.clone())
            .with_protocol_versions(&self.settings.versions)
            .map_err(|error| ConfigError::new("cipher_suites", error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier()?);
        let mut config = match self.material.identity()? {
            Some((chain, key)) => config
                .with_client_auth_cert(chain, key)
                .map_err(|error| not_a_pair(&error))?,
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.settings.alpn);
        Ok(config)
    }

    fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, ConfigError> {
        if self.insecure_skip {
            return Ok(Arc::new(Anyone(self.settings.provider.clone())));
        }
        let roots = match &self.system {
            Some(roots) => roots.clone(),
            None => self
                .material
                .roots()?
                .unwrap_or_else(|| Arc::new(RootCertStore::empty())),
        };
        WebPkiServerVerifier::builder_with_provider(roots, self.settings.provider.clone())
            .build()
            .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
            .map_err(|error| ConfigError::new("ca_cert", error.to_string()))
    }
}

#[cfg(test)]
mod tests;
