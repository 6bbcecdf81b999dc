//! TLS to the servers, which the library has where it is built with aws-lc-rs.

use layotto_core::{Context, Error, Result};
use rustls::pki_types::ServerName;
use zookeeper_client::{Client, Connector};
#[cfg(feature = "zookeeper-tls")]
use {
    std::sync::Arc,
    tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        task::spawn_blocking,
    },
    tokio_rustls::TlsConnector,
    zookeeper_client::{Error as Cause, TlsOptions},
};

use super::{Failure, Given};
#[cfg(feature = "zookeeper-tls")]
use crate::client::tls;
use crate::client::tls::{Tls, server_name};

/// TLS where the settings ask for it.
pub(super) fn tls(given: &Given<'_>, cx: &Context) -> Result<Option<Tls>> {
    let texts = [given.ca_cert, given.client_cert, given.client_key.expose()];
    if !given.enable_tls && texts.iter().all(|text| text.is_empty()) {
        return Ok(None);
    }
    usable(given, cx).map(Some)
}

/// The name that a server's certificate must have.
pub(super) fn name(server: &str) -> Result<ServerName<'static>> {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    server_name(host.trim_start_matches('[').trim_end_matches(']'))
}

#[cfg(not(feature = "zookeeper-tls"))]
fn usable(_: &Given<'_>, _: &Context) -> Result<Tls> {
    Err(missing())
}

#[cfg(not(feature = "zookeeper-tls"))]
fn missing() -> Error {
    Error::invalid(
        "this build has no TLS for ZooKeeper: build it with `--features zookeeper-tls`, which needs a C compiler",
    )
}

#[cfg(not(feature = "zookeeper-tls"))]
pub(super) async fn connect(_: &Tls, _: Connector, _: &str) -> Result<Client, Failure> {
    Err(missing().into())
}

#[cfg(feature = "zookeeper-tls")]
fn usable(given: &Given<'_>, cx: &Context) -> Result<Tls> {
    let settings = tls::Given {
        authorities: given.ca_cert,
        certificate: given.client_cert,
        key: given.client_key,
        skip_verify: false,
    };
    Tls::new(&tls::KEYS, &settings, cx)
}

/// Opens a session, with the files as they are now; connections that the library makes anew for it
/// have the same.
#[cfg(feature = "zookeeper-tls")]
pub(super) async fn connect(tls: &Tls, connector: Connector, servers: &str) -> Result<Client, Failure> {
    let connector = connector.with_tls(options(tls).await?);
    match connector.secure_connect(servers).await {
        Err(Cause::NoHosts) => Err(match obstacle(tls, servers).await {
            Some(obstacle) => obstacle.into(),
            None => Cause::NoHosts.into(),
        }),
        session => Ok(session?),
    }
}

#[cfg(feature = "zookeeper-tls")]
async fn options(tls: &Tls) -> Result<TlsOptions, Failure> {
    let texts = read(tls, Tls::read).await?;
    let options = TlsOptions::new().with_pem_ca(&texts.authorities)?;
    match &texts.identity {
        Some((certificate, key)) => Ok(options.with_pem_identity(certificate, key.expose())?),
        None => Ok(options),
    }
}

/// Reads files, and perhaps every certificate that the system trusts.
#[cfg(feature = "zookeeper-tls")]
async fn read<T: Send + 'static>(tls: &Tls, read: fn(&Tls) -> Result<T>) -> Result<T> {
    let tls = tls.clone();
    let unusable = |reason: &str| Error::unavailable(format!("zookeeper: {reason}"));
    match spawn_blocking(move || read(&tls)).await {
        Ok(read) => read.map_err(|error| unusable(error.message()).with_source(error)),
        Err(error) => Err(unusable("TLS cannot be set up").with_source(error)),
    }
}

/// What is wrong with TLS at a server that can be reached, which the library does not tell: whether
/// one takes the client's certificate shows when it answers.
#[cfg(feature = "zookeeper-tls")]
async fn obstacle(tls: &Tls, servers: &str) -> Option<Error> {
    let connector = TlsConnector::from(Arc::new(read(tls, Tls::config).await.ok()?));
    for server in servers.split(',') {
        let Ok(stream) = TcpStream::connect(server).await else {
            continue;
        };
        let name = name(server).ok()?;
        let asked = async {
            let mut stream = connector.connect(name, stream).await?;
            stream.write_all(b"srvr").await?;
            stream.read_u8().await
        };
        if let Err(error) = asked.await {
            return Some(Error::unavailable(format!(
                "zookeeper: no TLS with {server}: {error}"
            )));
        }
    }
    None
}
