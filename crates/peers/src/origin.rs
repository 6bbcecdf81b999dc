//! A back end whose answers are known: HTTP/1.1 and HTTP/2 on one port.
//!
//! | path | answer |
//! |---|---|
//! | `/bytes/N` | N bytes, after the whole request was read |
//! | `/echo` | the body, as it comes in, and its trailers |
//! | `/count` | how many bytes the body had, as text |
//! | `/trailers` | `hello`, then the trailer `x-end: yes` |
//! | `/gzip` | [`GZIP`], said to be gzip |
//! | `/status/N` | status N, no body |
//! | `/header/N` | a header field `x-large` of N bytes |
//! | `/seen` | the fields of the request, a line each |
//! | `/wait/N` | `ok` after N milliseconds |
//! | `/grpc.health.v1.Health/Watch`, gRPC | whether it [serves](Origin::serves), and each change of it |
//! | `/grpc.health.v1.Health/Check`, gRPC | the first of these |
//! | any other, gRPC | the message that was sent, status 0 |

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// Stands for compressed bytes; nothing on the way should look into them.
pub const GZIP: &[u8] = b"\x1f\x8b\x08\x00not really compressed\x00\xff";

/// Most header bytes of a request.
const MOST_HEADERS: usize = 256 << 10;
const CHUNK: usize = 64 << 10;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// What arrived so far.
#[derive(Debug, Default)]
struct Seen {
    requests: AtomicU64,
    connections: AtomicU64,
    /// What those hear who ask for its health.
    serves: watch::Sender<bool>,
}

/// A running back end of this process; dropping it closes its port and its connections.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

impl Origin {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn start() -> Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts it at `address`.
    ///
    /// # Errors
    /// Where that cannot be listened on.
    pub async fn start_at(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&seen)));
        Ok(Self {
            address,
            seen,
            _tasks: tasks,
        })
    }

    /// Requests that arrived so far.
    pub fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::Relaxed)
    }

    /// Connections that were opened so far.
    pub fn connections(&self) -> u64 {
        self.seen.connections.load(Ordering::Relaxed)
    }

    /// What it says of its health from now on; that it does not serve until then.
    pub fn serves(&self, serves: bool) {
        self.seen.serves.send_replace(serves);
    }

    /// How many watch its health now.
    pub fn watches(&self) -> usize {
        self.seen.serves.receiver_count()
    }
}

/// Serves until killed; prints the address first.
///
/// # Errors
/// Where there is no free port.
pub async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    accept(listener, Arc::default()).await;
    Ok(())
}

async fn accept(listener: TcpListener, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Without it, small answers wait for acknowledgements.
        drop(stream.set_nodelay(true));
        seen.connections.fetch_add(1, Ordering::Relaxed);
        let seen = Arc::clone(&seen);
        connections.spawn(async move {
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http1().max_buf_size(MOST_HEADERS);
            server
                .http2()
                .max_header_list_size(256 << 10)
                .max_concurrent_streams(100_000)
                // It is no judge of what the proxy's clients do.
                .max_pending_accept_reset_streams(100_000)
                .max_local_error_reset_streams(None)
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(8 << 20);
            let service = hyper::service::service_fn(move |request| {
                seen.requests.fetch_add(1, Ordering::Relaxed);
                answer(request, Arc::clone(&seen))
            });
            // How a connection ends is the client's business.
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> Result<Response<Body>, Infallible> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return Ok(match request.uri().path() {
            "/grpc.health.v1.Health/Watch" => grpc(health(&seen)),
            "/grpc.health.v1.Health/Check" => grpc(health(&seen).take(1)),
            _ => {
                let body = request.into_body().collect().await;
                let message = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                grpc(stream::iter([message]))
            }
        });
    }
    let head = request.method() == http::Method::HEAD;
    let path = request.uri().path().to_owned();
    let mut words = path.trim_start_matches('/').splitn(2, '/');
    let word = words.next().unwrap_or_default();
    let number: usize = words
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_default();
    Ok(match word {
        "bytes" if head => bytes(number).map(|_| empty()),
        "bytes" => {
            drop(request.into_body().collect().await);
            bytes(number)
        }
        "echo" => Response::new(request.into_body().boxed_unsync()),
        "count" => count(request.into_body()).await,
        "trailers" => trailers(),
        "gzip" => {
            let mut response = text(GZIP);
            let gzip = HeaderValue::from_static("gzip");
            response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
            response
        }
        "status" => with_status(number),
        "header" => large_header(number),
        "seen" => text(as_text(request.headers())),
        "wait" => {
            tokio::time::sleep(Duration::from_millis(number as u64)).await;
            text("ok")
        }
        _ => text("ok"),
    })
}

fn text(content: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(content.into()).map_err(|never| match never {});
    Response::new(body.boxed_unsync())
}

fn empty() -> Body {
    text(Bytes::new()).into_body()
}

/// The length is said; the bytes are made one chunk at a time.
fn bytes(length: usize) -> Response<Body> {
    let chunk = Bytes::from(vec![b'x'; CHUNK.min(length)]);
    let frames = (0..length).step_by(CHUNK).map(move |begin| {
        let part = chunk.slice(..CHUNK.min(length - begin));
        Ok(Frame::data(part))
    });
    let mut response = Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync());
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

async fn count(body: Incoming) -> Response<Body> {
    let mut frames = body.into_data_stream();
    let mut length = 0;
    while let Some(Ok(data)) = frames.next().await {
        length += data.len();
    }
    text(length.to_string())
}

fn trailers() -> Response<Body> {
    let mut fields = HeaderMap::new();
    fields.insert("x-end", HeaderValue::from_static("yes"));
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"hello"))),
        Ok(Frame::trailers(fields)),
    ];
    let mut response = Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync());
    // hyper sends only trailers that were announced.
    response
        .headers_mut()
        .insert(header::TRAILER, HeaderValue::from_static("x-end"));
    response
}

fn with_status(number: usize) -> Response<Body> {
    let mut response = text(Bytes::new());
    let status = u16::try_from(number)
        .ok()
        .and_then(|number| StatusCode::from_u16(number).ok());
    *response.status_mut() = status.unwrap_or(StatusCode::BAD_REQUEST);
    response
}

fn large_header(length: usize) -> Response<Body> {
    let mut response = text("ok");
    if let Ok(value) = HeaderValue::from_bytes(&vec![b'h'; length]) {
        response
            .headers_mut()
            .insert(HeaderName::from_static("x-large"), value);
    }
    response
}

fn as_text(fields: &HeaderMap) -> String {
    fields
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect()
}

/// An answer of messages, each with what gRPC puts before it.
fn grpc(messages: impl Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", HeaderValue::from_static("0"));
    let end = stream::iter([Frame::trailers(fields)]);
    let frames = messages.map(Frame::data).chain(end).map(Ok);
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// What is said of the health now, and with each change.
fn health(seen: &Seen) -> impl Stream<Item = Bytes> + Send + 'static {
    let mut serves = seen.serves.subscribe();
    serves.mark_changed();
    stream::unfold(serves, async |mut serves| {
        serves.changed().await.ok()?;
        // SERVING or NOT_SERVING in field 1 of a message of two bytes.
        let status = if *serves.borrow_and_update() { 1 } else { 2 };
        Some((Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 0x08, status]), serves))
    })
}
