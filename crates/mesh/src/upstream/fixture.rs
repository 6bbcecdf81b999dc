//! What tests of upstreams and proxies need: small servers in this process, and clusters of them.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, Stream as _, future::BoxFuture, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    task::JoinSet,
};

use super::Protocol;
use crate::{
    BoxError,
    body::Body,
    cluster::{
        Cluster, Clusters, Host,
        config::{ClusterConfig, ClusterManager, HostConfig, Thresholds},
    },
};

type Handler = Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// A server; dropped, it is gone with its connections.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

/// What a server saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) accepted: AtomicUsize,
    pub(crate) open: AtomicUsize,
    pub(crate) most: AtomicUsize,
    pub(crate) requests: AtomicUsize,
    /// Requests whose handler was dropped before its reply.
    pub(crate) cancelled: AtomicUsize,
    pub(crate) closed: Notify,
    /// Ends connections gracefully.
    pub(crate) farewell: Notify,
}

/// Settings of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) protocol: Protocol,
    pub(crate) max_streams: Option<u32>,
}

struct Cancelled(Option<Arc<Seen>>);

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let Some(seen) = &self.0 {
            seen.cancelled.fetch_add(1, SeqCst);
            seen.closed.notify_one();
        }
    }
}

impl Seen {
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

impl Server {
    pub(crate) async fn start<F>(
        protocol: Protocol,
        handler: impl Fn(Request<Body>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let setup = Setup {
            protocol,
            max_streams: None,
        };
        Self::with(setup, handler).await
    }

    pub(crate) async fn with<F>(
        setup: Setup,
        handler: impl Fn(Request<Body>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| handler(request).boxed());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, setup, handler, seen.clone()));
        Self {
            address,
            seen,
            _tasks: tasks,
        }
    }

    /// Serves each connection by `script`, byte by byte.
    pub(crate) async fn raw<F>(script: impl Fn(TcpStream, usize) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        let counts = seen.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = counts.accepted.fetch_add(1, SeqCst);
                let (done, counts) = (script(stream, number), counts.clone());
                connections.spawn(async move {
                    done.await;
                    counts.closed.notify_one();
                });
            }
        });
        Self {
            address,
            seen,
            _tasks: tasks,
        }
    }
}

async fn accept(listener: TcpListener, setup: Setup, handler: Handler, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        seen.accepted.fetch_add(1, SeqCst);
        seen.most.fetch_max(seen.open.fetch_add(1, SeqCst) + 1, SeqCst);
        let (handler, seen) = (handler.clone(), seen.clone());
        connections.spawn(async move {
            serve(stream, setup, handler, &seen).await;
            seen.open.fetch_sub(1, SeqCst);
            seen.closed.notify_one();
        });
    }
}

async fn serve(stream: TcpStream, setup: Setup, handler: Handler, seen: &Arc<Seen>) {
    let counts = seen.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        counts.requests.fetch_add(1, SeqCst);
        let (handler, counts) = (handler.clone(), counts.clone());
        async move {
            let mut cancelled = Cancelled(Some(counts));
            let reply = handler(request.map(Body::from)).await;
            cancelled.0 = None;
            Ok::<_, Infallible>(reply)
        }
    });
    let io = TokioIo::new(stream);
    match setup.protocol {
        Protocol::Http1 => {
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
            drop(connection.with_upgrades().await);
        }
        Protocol::Http2 => {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            if let Some(max) = setup.max_streams {
                builder.max_concurrent_streams(max);
            }
            let mut connection = std::pin::pin!(builder.serve_connection(io, service));
            tokio::select! {
                done = &mut connection => return drop(done),
                () = seen.farewell.notified() => connection.as_mut().graceful_shutdown(),
            }
            drop(connection.await);
        }
    }
}

/// The cluster `test` of these servers: a request goes to the first of them, a retry to the next.
pub(crate) fn cluster(addresses: &[SocketAddr], config: ClusterConfig) -> Arc<Cluster> {
    let hosts = addresses.iter().map(|address| host(address.to_string()));
    built(ClusterConfig {
        hosts: hosts.collect(),
        ..config
    })
}

/// A host at `address`.
pub(crate) fn host(address: String) -> HostConfig {
    HostConfig {
        address,
        ..HostConfig::default()
    }
}

/// The cluster of a configuration, which need not say its name and balancer.
pub(crate) fn built(config: ClusterConfig) -> Arc<Cluster> {
    let clusters = clusters(vec![config]);
    clusters.iter().next().unwrap().clone()
}

/// Clusters as those of [`built`].
pub(crate) fn clusters(mut configs: Vec<ClusterConfig>) -> Clusters {
    for config in &mut configs {
        if config.name.is_empty() {
            config.name = "test".into();
        }
        if config.lb_type == ClusterConfig::default().lb_type {
            config.lb_type = "LB_REQUEST_ROUNDROBIN".into();
        }
    }
    let manager = ClusterManager {
        clusters: configs,
        ..ClusterManager::default()
    };
    Clusters::build(&manager, None).unwrap()
}

/// The first host of a cluster.
pub(crate) fn first(cluster: &Cluster) -> Arc<Host> {
    cluster.hosts()[0].clone()
}

/// A cluster's limits: connections, pending, requests, retries.
pub(crate) fn limits(
    [max_connections, max_pending_requests, max_requests, max_retries]: [u32; 4],
) -> ClusterConfig {
    let limits = Thresholds {
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
    };
    ClusterConfig {
        circuit_breakers: vec![limits],
        ..ClusterConfig::default()
    }
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// A body that the test feeds.
pub(crate) fn fed() -> (mpsc::Sender<Result<Frame<Bytes>, BoxError>>, Body) {
    let (sender, mut receiver) = mpsc::channel(1);
    let frames = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (sender, Body::new(StreamBody::new(frames)))
}

/// A body that never ends, and counts the bytes that were taken of it.
pub(crate) fn endless() -> (Arc<AtomicUsize>, Body) {
    const CHUNK: &[u8] = &[0; 16 * 1024];
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let frames = stream::repeat_with(move || {
        count.fetch_add(CHUNK.len(), SeqCst);
        Ok::<_, BoxError>(Frame::data(Bytes::from_static(CHUNK)))
    });
    assert!(frames.size_hint().1.is_none());
    (taken, Body::new(StreamBody::new(frames)))
}

/// Answers with the request's body, as it comes.
pub(crate) async fn echo(request: Request<Body>) -> Response<Body> {
    Response::new(request.into_body())
}

pub(crate) async fn text<B>(body: B) -> String
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Ends a test that hangs.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it takes too long")
}

/// Lets other tasks run until `done`.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    soon(async {
        while !done() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
