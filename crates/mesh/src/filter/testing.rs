//! Runs one filter over a service that is a closure.

use std::sync::Mutex;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, header::CONTENT_TYPE};
use http_body_util::BodyExt;

use super::{Filter, Next, Request, Response, Terminal};
use crate::{
    body::Body,
    connection::{Info, Local, Remote},
    exchange::{Exchange, Flags},
};

/// A service that answers what a closure does.
pub struct Service<F>(F);

impl<F> Service<F> {
    /// The service that answers what `answer` does.
    pub fn new(answer: F) -> Self {
        Self(answer)
    }
}

impl<F, A> Terminal for Service<F>
where
    F: Fn(Request) -> A + Send + Sync,
    A: Future<Output = Response> + Send + 'static,
{
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin((self.0)(request))
    }
}

/// What came out of a filter, with all of its body.
#[derive(Debug)]
pub struct Outcome {
    pub status: u16,
    pub headers: http::HeaderMap,
    /// What could be read of the body.
    pub body: Bytes,
    pub trailers: Option<http::HeaderMap>,
    /// Why the body broke off.
    pub broken: Option<String>,
    pub flags: Flags,
}

impl Outcome {
    /// The gRPC status, of the headers or the trailers, with its message as it is on the wire.
    pub fn grpc(&self) -> Option<(&str, &str)> {
        let headers = [Some(&self.headers), self.trailers.as_ref()];
        let ended = headers
            .into_iter()
            .flatten()
            .find(|h| h.contains_key("grpc-status"))?;
        let text = |name| ended.get(name).map_or("", |value| value.to_str().unwrap());
        Some((text("grpc-status"), text("grpc-message")))
    }
}

/// A GET from 127.0.0.1 over HTTP/1.
pub fn http(uri: &str) -> Request {
    request_from(tcp("127.0.0.1:4000"), uri)
}

/// A gRPC call from 127.0.0.1.
pub fn grpc(method: &str) -> Request {
    let mut request = http(method);
    *request.method_mut() = Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    request
        .headers_mut()
        .insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
    request
}

/// A TCP client.
pub fn tcp(address: &str) -> Remote {
    Remote::Tcp(address.parse().unwrap())
}

/// A GET from `remote`.
pub fn request_from(remote: Remote, uri: &str) -> Request {
    let local = Local::Tcp("127.0.0.1:80".parse().unwrap());
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = uri.parse().unwrap();
    let exchange = Exchange::begin("test".into(), Some(Info::new(remote, local, "test")));
    request.extensions_mut().insert(exchange);
    request
}

/// Runs `filter` over a service that answers "passed" at once.
pub async fn run(filter: &dyn Filter, request: Request) -> Outcome {
    run_over(filter, request, async |_| Response::new("passed".into())).await
}

/// Runs `filter` over `service` and reads the reply to its end.
pub async fn run_over<F, A>(filter: &dyn Filter, request: Request, service: F) -> Outcome
where
    F: Fn(Request) -> A + Send + Sync,
    A: Future<Output = Response> + Send + 'static,
{
    let exchange = Exchange::of(request.extensions()).cloned();
    let response = filter.call(request, Next::new(&[], &Service(service))).await;
    let (head, mut body) = response.into_parts();
    let (mut read, mut trailers, mut broken) = (Vec::new(), None, None);
    while let Some(frame) = body.frame().await {
        match frame.map(|frame| frame.into_data()) {
            Ok(Ok(data)) => read.extend_from_slice(&data),
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            Err(error) => {
                broken = Some(error.to_string());
                break;
            }
        }
    }
    Outcome {
        status: head.status.as_u16(),
        headers: head.headers,
        body: read.into(),
        trailers,
        broken,
        flags: exchange
            .map(|exchange| exchange.facts().flags)
            .unwrap_or_default(),
    }
}

/// A body that is sent chunk by chunk, of no known length.
pub fn chunks(chunks: impl IntoIterator<Item = &'static str, IntoIter: Send + 'static>) -> Body {
    let chunks = chunks
        .into_iter()
        .map(|chunk| Ok::<_, crate::BoxError>(http_body::Frame::data(Bytes::from_static(chunk.as_bytes()))));
    Body::new(http_body_util::StreamBody::new(futures::stream::iter(chunks)))
}

/// A source of numbers that a test has written down; the last one is repeated.
pub fn written(numbers: &[f64]) -> impl Fn() -> f64 + Send + Sync + 'static {
    let numbers = Mutex::new(numbers.to_vec());
    move || {
        let mut numbers = numbers.lock().unwrap();
        match numbers.len() {
            1 => numbers[0],
            _ => numbers.remove(0),
        }
    }
}
