//! Clients of the data plane.

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Method, Request, StatusCode, uri::PathAndQuery};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::{raw::Raw, sidecar::PATIENCE};

/// The kinds of calls there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Unary,
    Client,
    Server,
    Bidi,
    Http1,
    Http2,
}

impl Call {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Unary,
        Self::Client,
        Self::Server,
        Self::Bidi,
        Self::Http1,
        Self::Http2,
    ];

    /// The path of the echo service.
    pub fn path(self) -> &'static str {
        match self {
            Self::Unary => "/test.Echo/Unary",
            Self::Client => "/test.Echo/Client",
            Self::Server => "/test.Echo/Server",
            Self::Bidi => "/test.Echo/Bidi",
            Self::Http1 => "/http1",
            Self::Http2 => "/http2",
        }
    }

    /// Makes one call that carries `body`.
    pub async fn make(self, port: u16, headers: &[(&str, &str)], body: &str) -> Outcome {
        match self {
            Self::Http1 | Self::Http2 => {
                let reply = Ask::new("POST", self.path()).headers(headers).body(body);
                let reply = match self {
                    Self::Http1 => reply.http1(port).await,
                    _ => reply.http2(port).await,
                };
                Outcome::Http(reply)
            }
            _ => Outcome::Grpc(grpc(&channel(port).await, self, headers, body).await),
        }
    }
}

/// How a call ended.
#[derive(Debug)]
pub enum Outcome {
    Http(Reply),
    Grpc(Result<Vec<Bytes>, Status>),
}

impl Outcome {
    /// Whether the service answered.
    pub fn is_ok(&self) -> bool {
        match self {
            Self::Http(reply) => reply.status == StatusCode::OK,
            Self::Grpc(outcome) => outcome.is_ok(),
        }
    }

    /// Whether it was refused so, with `text` in the answer.
    pub fn is_refused(&self, status: u16, code: Code, text: &str) -> bool {
        match self {
            Self::Http(reply) => reply.status == status && reply.text().contains(text),
            Self::Grpc(Err(refusal)) => refusal.code() == code && refusal.message().contains(text),
            Self::Grpc(Ok(_)) => false,
        }
    }
}

/// Calls the echo service.
pub async fn grpc(
    channel: &Channel,
    call: Call,
    metadata: &[(&str, &str)],
    body: &str,
) -> Result<Vec<Bytes>, Status> {
    grpc_at(channel, call, call.path(), metadata, body).await
}

/// Calls any method.
pub async fn grpc_at(
    channel: &Channel,
    call: Call,
    path: &str,
    metadata: &[(&str, &str)],
    body: &str,
) -> Result<Vec<Bytes>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client
        .ready()
        .await
        .map_err(|error| Status::internal(error.to_string()))?;
    let path: PathAndQuery = path.parse().unwrap();
    let message = Bytes::from(body.to_owned());
    let two = futures::stream::iter([message.clone(), message.clone()]);
    let exchange = async {
        match call {
            Call::Unary => client.unary(with(message, metadata), path, Raw).await.map(one),
            Call::Client => client
                .client_streaming(with(two, metadata), path, Raw)
                .await
                .map(one),
            Call::Server => {
                let replies = client
                    .server_streaming(with(message, metadata), path, Raw)
                    .await?;
                all(replies.into_inner()).await
            }
            _ => {
                let replies = client.streaming(with(two, metadata), path, Raw).await?;
                all(replies.into_inner()).await
            }
        }
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap()
}

fn with<T>(message: T, metadata: &[(&str, &str)]) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    for (name, value) in metadata {
        let name: tonic::metadata::AsciiMetadataKey = name.parse().unwrap();
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    request
}

fn one(reply: tonic::Response<Bytes>) -> Vec<Bytes> {
    vec![reply.into_inner()]
}

async fn all(mut replies: tonic::Streaming<Bytes>) -> Result<Vec<Bytes>, Status> {
    let mut messages = Vec::new();
    while let Some(message) = replies.next().await {
        messages.push(message?);
    }
    Ok(messages)
}

/// A gRPC connection.
pub async fn channel(port: u16) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// The answer to an HTTP request.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// The body.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, which an echo is.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Which service answered; empty: none.
    pub fn peer(&self) -> String {
        self.header("x-peer").to_owned()
    }

    /// A header; empty: absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// An HTTP request.
#[derive(Debug, Clone)]
pub struct Ask {
    method: Method,
    path: String,
    host: Option<String>,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Ask {
    /// A request without a body.
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.parse().unwrap(),
            path: path.to_owned(),
            host: None,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// A GET.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// The host that is asked for.
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// One more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// More headers.
    pub fn headers(self, headers: &[(&str, &str)]) -> Self {
        headers
            .iter()
            .fold(self, |ask, (name, value)| ask.header(name, value))
    }

    /// The body.
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = Bytes::from(body.into());
        self
    }

    fn request(&self, default_host: &str, is_http2: bool) -> Request<Full<Bytes>> {
        let host = self.host.as_deref().unwrap_or(default_host);
        let uri = if is_http2 {
            format!("http://{host}{}", self.path)
        } else {
            self.path.clone()
        };
        let mut request = Request::builder().method(self.method.clone()).uri(uri);
        if !is_http2 {
            request = request.header("host", host);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(self.body.clone())).unwrap()
    }

    /// Sends it over HTTP/1.1 on a connection of its own.
    pub async fn http1(&self, port: u16) -> Reply {
        Http1::connect(port).await.send(self).await.unwrap()
    }

    /// Sends it over HTTP/2 on a connection of its own.
    pub async fn http2(&self, port: u16) -> Reply {
        Http2::connect(port).await.send(self).await.unwrap()
    }
}

/// A GET over HTTP/1.1.
pub async fn get(port: u16, path: &str) -> Reply {
    Ask::get(path).http1(port).await
}

/// A connection over HTTP/1.1.
pub struct Http1 {
    sender: http1::SendRequest<Full<Bytes>>,
    _connection: AbortOnDropHandle<()>,
}

impl Http1 {
    /// Connects.
    pub async fn connect(port: u16) -> Self {
        Self::over(TcpStream::connect(("127.0.0.1", port)).await.unwrap()).await
    }

    /// Speaks it over a connection that is there.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        Self {
            sender,
            _connection: AbortOnDropHandle::new(connection),
        }
    }

    /// Sends one request.
    pub async fn send(&mut self, ask: &Ask) -> hyper::Result<Reply> {
        self.sender.ready().await?;
        received(self.sender.send_request(ask.request("localhost", false))).await
    }
}

/// A connection over HTTP/2.
#[derive(Clone)]
pub struct Http2 {
    sender: http2::SendRequest<Full<Bytes>>,
}

impl Http2 {
    /// Connects.
    pub async fn connect(port: u16) -> Self {
        Self::over(TcpStream::connect(("127.0.0.1", port)).await.unwrap()).await
    }

    /// Speaks it over a connection that is there. The connection ends with its last sender.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(async move { drop(connection.await) });
        Self { sender }
    }

    /// Sends one request.
    pub async fn send(&self, ask: &Ask) -> hyper::Result<Reply> {
        let mut sender = self.sender.clone();
        sender.ready().await?;
        received(sender.send_request(ask.request("localhost", true))).await
    }
}

async fn received(
    reply: impl Future<Output = hyper::Result<http::Response<hyper::body::Incoming>>>,
) -> hyper::Result<Reply> {
    let read = async {
        let (head, body) = reply.await?.into_parts();
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap()
}
