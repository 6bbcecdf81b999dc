//! The connection of a call: TCP or a Unix socket.

use std::{error::Error, path::PathBuf};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::Failure;

/// Connects to `host:port` or `unix:PATH`.
pub(super) async fn connect(address: &str) -> Result<Channel, Failure> {
    let channel = match address.strip_prefix("unix:") {
        Some(path) => unix(path).await,
        None => tcp(address).await?,
    };
    channel.map_err(|error| Failure {
        message: format!("UNAVAILABLE: cannot connect to {address}: {}", chain(&error)),
        code: 1,
    })
}

async fn tcp(address: &str) -> Result<Result<Channel, tonic::transport::Error>, Failure> {
    let bare = address.strip_prefix("http://").unwrap_or(address);
    let endpoint = Endpoint::from_shared(format!("http://{bare}"));
    let endpoint = endpoint.ok().filter(|endpoint| endpoint.uri().port().is_some());
    let Some(endpoint) = endpoint else {
        return Err(Failure::usage(format_args!(
            "found {address:?}, expected host:port or unix:PATH"
        )));
    };
    Ok(endpoint.connect().await)
}

async fn unix(path: &str) -> Result<Channel, tonic::transport::Error> {
    let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
    // The connector knows where to go; the URI only names the host for HTTP/2.
    let endpoint = Endpoint::from_static("http://localhost");
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await
}

/// The innermost cause of `error`: the outer ones say "transport error".
pub(super) fn chain(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
