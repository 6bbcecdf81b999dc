//! A server to talk to, and clients that do.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    body::{Body, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use layotto_mesh::{
    Address, BoxError, Listener,
    connection::{Connections, Local},
    drain,
    listener::Config,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};
use tower::Service;

/// A listener that serves, with the signal that ends it.
pub struct Server {
    pub local: Local,
    pub connections: Connections,
    pub signal: drain::Signal,
    pub accepting: JoinHandle<()>,
}

impl Server {
    pub async fn start<S, B>(config: &Config, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let listener = Listener::bind(config).await.unwrap();
        let (local, connections) = (listener.local_addr().clone(), listener.connections());
        let (signal, watch) = drain::channel();
        let accepting = tokio::spawn(listener.serve(service, watch));
        Self {
            local,
            connections,
            signal,
            accepting,
        }
    }

    pub fn tcp(&self) -> SocketAddr {
        self.local.tcp().unwrap()
    }

    pub async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.tcp()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }
}

pub fn loopback() -> Config {
    Config::new("test", "127.0.0.1:0".parse::<Address>().unwrap())
}

pub async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("hello")))
}

pub fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path)
        .header("host", "test")
        .body(Empty::new())
        .unwrap()
}

pub fn grpc(path: &str) -> Request<Empty<Bytes>> {
    let uri = format!("http://test{path}");
    Request::post(uri)
        .header("content-type", "application/grpc")
        .body(Empty::new())
        .unwrap()
}

/// An HTTP/1 client, and the task that ends with its connection.
pub async fn http1<I, B>(io: I) -> (http1::SendRequest<B>, JoinHandle<hyper::Result<()>>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    let (client, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
    (client, tokio::spawn(connection))
}

/// An HTTP/2 client, and the task that ends with its connection.
pub async fn http2<I, B>(io: I) -> (http2::SendRequest<B>, JoinHandle<hyper::Result<()>>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .unwrap();
    (client, tokio::spawn(connection))
}

pub async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

/// Reads until the server closes; a reset counts as that.
pub async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.ok();
    read
}
