//! A service behind the data plane: HTTP/1.1, HTTP/2 and gRPC on one port. What a request's header
//! `x-do` says is done; otherwise the request is echoed as JSON, or over gRPC as it came.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;
use tonic::{
    Status, Streaming,
    server::{ClientStreamingService, ServerStreamingService, StreamingService, UnaryService},
};

use crate::raw::Raw;

/// A running service; dropping it closes its port and its connections.
pub struct Peer {
    state: Arc<State>,
    addr: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct State {
    name: String,
    /// Status of every HTTP reply; 0: as it comes.
    status: AtomicU16,
    requests: AtomicUsize,
    connections: AtomicUsize,
    failures: Mutex<HashMap<String, usize>>,
    seen: Mutex<Vec<HeaderMap>>,
}

impl Peer {
    /// Starts one.
    pub async fn start(name: &str) -> Self {
        Self::at(name, "127.0.0.1:0".parse().unwrap(), None).await
    }

    /// Starts one that speaks TLS.
    pub async fn secure(name: &str, tls: TlsAcceptor) -> Self {
        Self::at(name, "127.0.0.1:0".parse().unwrap(), Some(tls)).await
    }

    /// Starts one at an address.
    pub async fn at(name: &str, addr: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State {
            name: name.to_owned(),
            ..State::default()
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state), tls));
        Self {
            state,
            addr,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers every HTTP request with `status` from now on; 0: as it comes.
    pub fn always(&self, status: u16) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The headers of the requests that came.
    pub fn seen(&self) -> Vec<HeaderMap> {
        self.state.seen.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                state.connections.fetch_add(1, Ordering::SeqCst);
                let (state, tls) = (Arc::clone(&state), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, state).await,
                        Some(tls) => if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, state).await;
                        }
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, state: Arc<State>) {
    let service = hyper::service::service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { state.answer(request).await }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    // A client that goes away is none of this service's business.
    drop(builder.serve_connection(TokioIo::new(stream), service).await);
}

type Reply = Response<tonic::body::Body>;

impl State {
    /// An error closes the connection.
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Reply, std::io::Error> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.seen.lock().unwrap().push(request.headers().clone());
        let is_grpc = request
            .headers()
            .get("content-type")
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if is_grpc {
            return Ok(grpc(request).await);
        }
        let told = request
            .headers()
            .get("x-do")
            .map(|value| value.to_str().unwrap().to_owned());
        let (what, number) = told
            .as_deref()
            .and_then(|told| told.split_once('='))
            .unwrap_or_default();
        let number: u64 = number.parse().unwrap_or_default();
        let forced = self.status.load(Ordering::SeqCst);
        match what {
            _ if forced != 0 => return Ok(self.status_reply(forced)),
            "status" => return Ok(self.status_reply(u16::try_from(number).unwrap())),
            "slow" => tokio::time::sleep(Duration::from_millis(number)).await,
            "fail-first" if self.fails(request.uri().path(), number) => return Ok(self.status_reply(503)),
            "cut" => return Err(std::io::Error::other("cut")),
            _ => {}
        }
        Ok(self.echo(request).await)
    }

    fn fails(&self, path: &str, times: u64) -> bool {
        let mut failures = self.failures.lock().unwrap();
        let count = failures.entry(path.to_owned()).or_default();
        *count += 1;
        *count as u64 <= times
    }

    fn status_reply(&self, status: u16) -> Reply {
        let mut reply = Response::new(full(format!("st {status}")));
        *reply.status_mut() = StatusCode::from_u16(status).unwrap();
        reply.headers_mut().insert("x-peer", self.name.parse().unwrap());
        reply
    }

    async fn echo(&self, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return self.status_reply(400),
        };
        let headers: serde_json::Map<String, Value> = head
            .headers
            .keys()
            .map(|name| {
                let values = head.headers.get_all(name).iter();
                let values: Vec<_> = values
                    .map(|value| String::from_utf8_lossy(value.as_bytes()))
                    .collect();
                (name.to_string(), json!(values.join(",")))
            })
            .collect();
        let host = head.uri.authority().map(ToString::to_string);
        let echo = json!({
            "peer": self.name,
            "method": head.method.as_str(),
            "path": head.uri.path_and_query().map_or("/", |path| path.as_str()),
            "host": host.or_else(|| Some(headers.get("host")?.as_str()?.to_owned())),
            "version": format!("{:?}", head.version),
            "headers": headers,
            "body": String::from_utf8_lossy(&body),
        });
        let mut reply = Response::new(full(echo.to_string()));
        let headers = reply.headers_mut();
        headers.insert("content-type", "application/json".parse().unwrap());
        headers.insert("x-peer", self.name.parse().unwrap());
        headers.insert("x-removed", "peer".parse().unwrap());
        reply
    }
}

fn full(text: String) -> tonic::body::Body {
    tonic::body::Body::new(Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}))
}

/// The gRPC service `test.Echo`: the last segment of the path is the kind of call.
async fn grpc(request: Request<Incoming>) -> Reply {
    let method = request
        .uri()
        .path()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let mut server = tonic::server::Grpc::new(Raw);
    match method.as_str() {
        "Unary" => server.unary(Echo, request).await,
        "Client" => server.client_streaming(Echo, request).await,
        "Server" => server.server_streaming(Echo, request).await,
        "Bidi" => server.streaming(Echo, request).await,
        _ => Status::unimplemented("no such method").into_http(),
    }
}

struct Echo;

type Replies = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
type Later<T> = Pin<Box<dyn Future<Output = Result<tonic::Response<T>, Status>> + Send>>;

/// Answers with the message.
impl UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = Later<Bytes>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let pause = request
            .metadata()
            .get("x-slow")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        Box::pin(async move {
            if let Some(pause) = pause {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            Ok(tonic::Response::new(request.into_inner()))
        })
    }
}

/// Answers with all messages in one.
impl ClientStreamingService<Bytes> for Echo {
    type Response = Bytes;
    type Future = Later<Bytes>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(async move {
            let mut messages = request.into_inner();
            let mut all = Vec::new();
            while let Some(message) = messages.message().await? {
                all.extend_from_slice(&message);
            }
            Ok(tonic::Response::new(Bytes::from(all)))
        })
    }
}

/// Answers with the message, three times.
impl ServerStreamingService<Bytes> for Echo {
    type Response = Bytes;
    type ResponseStream = Replies;
    type Future = Later<Replies>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let replies = futures::stream::iter(vec![Ok(request.into_inner()); 3]);
        Box::pin(async move { Ok(tonic::Response::new(replies.boxed() as Replies)) })
    }
}

/// Answers each message with itself.
impl StreamingService<Bytes> for Echo {
    type Response = Bytes;
    type ResponseStream = Replies;
    type Future = Later<Replies>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let replies = request.into_inner().boxed() as Replies;
        Box::pin(async move { Ok(tonic::Response::new(replies)) })
    }
}
