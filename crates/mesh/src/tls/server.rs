//! The server's end: which certificate a client gets, and whether it must show one itself.

mod choice;

use std::{fmt, io, path::PathBuf, sync::Arc};

use arc_swap::ArcSwapOption;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::CertificateDer,
    server::{Acceptor as HelloReader, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;

use self::choice::{Choice, Context};
use super::{config::TlsContext, material::Material, reload::Reloading, settings::Settings, verify::Anyone};
use crate::{config::ConfigError, listener::Protocol};

/// A connection under TLS, seen from the server.
pub type TlsStream<S> = tokio_rustls::server::TlsStream<S>;

/// How the contexts of a listener are used.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether clients may speak plain text too, told by their first byte. Default false.
    pub inspector: bool,
    /// What the listener speaks, which is what contexts without `alpn` offer.
    pub protocol: Protocol,
    /// Whether the listener serves bytes, not requests: contexts without `alpn` offer none then.
    pub raw: bool,
    /// Where paths are looked up that the working directory does not have.
    pub folders: Vec<PathBuf>,
}

/// Speaks TLS with the clients of a listener.
pub struct Acceptor {
    choice: Reloading<Choice>,
    inspector: bool,
}

/// The place of a listener's [`Acceptor`], which a new configuration fills anew; clones share it.
/// Connections that are open keep what they agreed on.
#[derive(Clone, Default)]
pub struct Slot(Arc<ArcSwapOption<Acceptor>>);

/// What a client said in its handshake.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The name of the server it wants, in lower case.
    pub server_name: Option<Box<str>>,
    /// Its certificate in DER form, if it was verified.
    pub certificate: Option<CertificateDer<'static>>,
    /// The protocol agreed on.
    pub alpn: Option<Box<[u8]>>,
}

/// A context, all but its files checked.
struct Plan {
    material: Material,
    settings: Settings,
    server_name: String,
    verify_client: bool,
    require_client_cert: bool,
    label: String,
}

impl Peer {
    fn of<S>(stream: &TlsStream<S>, verified: bool) -> Self {
        let connection = stream.get_ref().1;
        let certificate = connection.peer_certificates().and_then(|chain| chain.first());
        Self {
            server_name: connection.server_name().map(Box::from),
            certificate: certificate
                .filter(|_| verified)
                .map(|certificate| certificate.clone().into_owned()),
            alpn: connection.alpn_protocol().map(Box::from),
        }
    }
}

impl Acceptor {
    /// The acceptor of `contexts`, the first of which serves clients that name none; `None` if no
    /// context is on.
    ///
    /// # Errors
    /// Values that are not accepted, files that are missing, keys that belong to another
    /// certificate.
    pub fn build(contexts: &[TlsContext], options: &Options) -> Result<Option<Self>, ConfigError> {
        let label = |at: usize| match contexts.len() {
            1 => String::new(),
            _ => format!("[{at}]"),
        };
        let mut plans = Vec::new();
        for (at, context) in contexts.iter().enumerate().filter(|(_, context)| context.status) {
            let label = label(at);
            let plan = Plan::of(context, options, &label).map_err(|error| error.under(&label))?;
            plans.push(plan);
        }
        if plans.is_empty() {
            return Ok(None);
        }
        let files: Vec<_> = plans.iter().flat_map(|plan| plan.material.files()).collect();
        let build = move || {
            plans
                .iter()
                .map(Plan::context)
                .collect::<Result<_, _>>()
                .map(Choice)
        };
        Ok(Some(Self {
            choice: Reloading::new(files, Box::new(build))?,
            inspector: options.inspector,
        }))
    }

    /// Whether clients may speak plain text too.
    pub fn inspects(&self) -> bool {
        self.inspector
    }

    /// Agrees with a client, and tells what it said of itself. The caller bounds the time.
    ///
    /// # Errors
    /// What ends the handshake; the client was told already.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Peer)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let hello = LazyConfigAcceptor::new(HelloReader::default(), stream).await?;
        let (config, verifies) = self.choice.get().await.choose(&hello.client_hello());
        let stream = hello.into_stream(config).await?;
        let peer = Peer::of(&stream, verifies);
        Ok((stream, peer))
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("inspector", &self.inspector)
            .finish_non_exhaustive()
    }
}

impl Slot {
    /// A slot with `acceptor` in it; `None`: the listener speaks plain text.
    pub fn new(acceptor: Option<Acceptor>) -> Self {
        let slot = Self::default();
        slot.set(acceptor);
        slot
    }

    /// Replaces the acceptor for connections to come.
    pub fn set(&self, acceptor: Option<Acceptor>) {
        self.0.store(acceptor.map(Arc::new));
    }

    /// The acceptor.
    pub fn get(&self) -> Option<Arc<Acceptor>> {
        self.0.load_full()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.0.load()).finish()
    }
}

impl Plan {
    fn of(context: &TlsContext, options: &Options, label: &str) -> Result<Self, ConfigError> {
        let material = Material::locate(context, &options.folders)?;
        if material.identity.is_none() {
            return Err(ConfigError::new(
                "cert_chain",
                "a listener needs a certificate: PEM text or a file",
            ));
        }
        if context.verify_client && material.authorities.is_none() {
            return Err(ConfigError::new(
                "ca_cert",
                "is needed by verify_client: PEM text or a file",
            ));
        }
        if context.require_client_cert && !context.verify_client {
            tracing::warn!("require_client_cert without verify_client checks nothing; set both");
        }
        let mut settings = Settings::of(context)?;
        if settings.alpn.is_empty() && !options.raw {
            settings.alpn = spoken(options.protocol);
        }
        Ok(Self {
            material,
            settings,
            server_name: context.server_name.clone(),
            verify_client: context.verify_client,
            require_client_cert: context.require_client_cert,
            label: label.to_owned(),
        })
    }

    fn context(&self) -> Result<Context, ConfigError> {
        self.read().map_err(|error| error.under(&self.label))
    }

    fn read(&self) -> Result<Context, ConfigError> {
        let (chain, key) = self
            .material
            .identity()?
            .expect("invariant: a server's plan has a certificate");
        let names = choice::names(&chain, &self.server_name);
        let mut config = ServerConfig::builder_with_provider(self.settings.provider.clone())
            .with_protocol_versions(&self.settings.versions)
            .map_err(|error| ConfigError::new("cipher_suites", error.to_string()))?
            .with_client_cert_verifier(self.verifier()?)
            .with_single_cert(chain, key)
            .map_err(|error| not_a_pair(&error))?;
        config.alpn_protocols.clone_from(&self.settings.alpn);
        Ok(Context {
            names,
            config: Arc::new(config),
            verifies: self.verify_client,
        })
    }

    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
        if !self.verify_client {
            return Ok(match self.require_client_cert {
                true => Arc::new(Anyone(self.settings.provider.clone())),
                false => WebPkiClientVerifier::no_client_auth(),
            });
        }
        let roots = self
            .material
            .roots()?
            .unwrap_or_else(|| Arc::new(RootCertStore::empty()));
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, self.settings.provider.clone());
        let verifier = match self.require_client_cert {
            true => verifier,
            false => verifier.allow_unauthenticated(),
        };
        verifier
            .build()
            .map_err(|error| ConfigError::new("ca_cert", error.to_string()))
    }
}

/// What a listener's protocol is called in ALPN (RFC 7301).
fn spoken(protocol: Protocol) -> Vec<Vec<u8>> {
    let names: &[&[u8]] = match protocol {
        Protocol::Auto => &[b"h2", b"http/1.1"],
        Protocol::Http1 => &[b"http/1.1"],
        Protocol::Http2 => &[b"h2"],
    };
    names.iter().map(|name| name.to_vec()).collect()
}

/// A certificate and a key that cannot be used together.
pub(super) fn not_a_pair(error: &rustls::Error) -> ConfigError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            ConfigError::new("private_key", "does not belong to the certificate in cert_chain")
        }
        error => ConfigError::new("cert_chain", error.to_string()),
    }
}

#[cfg(test)]
mod tests;
