//! Connections that are served as bytes, not as requests.

use std::{pin::pin, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::timeout;

use super::{Accepted, Stream, Wire};

/// A service that gets whole connections.
pub trait RawService: Send + Sync + 'static {
    /// Serves one connection to its end. A drain waits for it as long as it waits for requests;
    /// past that, the future is dropped.
    fn serve(self: Arc<Self>, connection: Wire) -> BoxFuture<'static, ()>;
}

/// The service that is there when a connection arrives, and stays with it.
impl<S: RawService> RawService for ArcSwap<S> {
    fn serve(self: Arc<Self>, connection: Wire) -> BoxFuture<'static, ()> {
        self.load_full().serve(connection)
    }
}

pub(crate) async fn serve_raw<S: RawService>(accepted: Accepted, service: Arc<S>) {
    let Accepted {
        socket,
        info,
        open,
        config,
        drain,
    } = accepted;
    let tls = config.tls.get();
    let stream = tokio::select! {
        biased;
        stream = timeout(config.header_timeout, Stream::open(socket, tls.as_deref())) => stream,
        () = drain.draining() => return,
    };
    let (stream, peer) = match stream {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(remote = %info.remote(), %error, "no TLS agreed on"),
        Err(_) => return tracing::debug!(remote = %info.remote(), "closed, as the client says nothing"),
    };
    let info = info.with(peer);
    let wire = Wire::new(Bytes::new(), stream, info, config, open);
    let mut cut = pin!(drain.cut());
    tokio::select! {
        biased;
        () = &mut cut => {}
        () = service.serve(wire) => {}
    }
}
