//! Serves one connection from its first byte to its last.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::HOST};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::time::{sleep, timeout};
use tower::{Service, ServiceExt, util::Oneshot};

use super::{
    Accepted, Info, Stream, Wire,
    backlog::Paced,
    farewell::{is_flood, send_away, tell},
    http1::Guarded,
    open::{Open, StreamTasks},
    sniff::{Version, sniff},
};
use crate::{
    BoxError,
    batched::{Batched, Corked},
    drain,
    listener::{Config, Protocol, Window},
};

/// Into how many parts the idle time is cut: the connection is closed after that many quiet ones.
const IDLE_PARTS: u32 = 4;

/// How long an HTTP/2 peer without open streams may leave the farewell unanswered: the peer may be
/// gone, and a drain must not wait for it.
const FAREWELL: Duration = Duration::from_secs(5);

/// How much of a request or reply an HTTP/1 connection holds at most, if heads may not be longer.
const HTTP1_BUFFER: usize = 64 * 1024;

/// How much of an HTTP/2 connection is read before what it asks for is begun, and others get their
/// turn, in bytes.
const READ_AT_ONCE: usize = 4 * 1024;

/// How much work may be left of streams that are closed, above that of all streams that may be open.
const LEFT_OVER: usize = 128;

/// HTTP/2's bound of a window (RFC 9113, section 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// Gives every request of a connection the connection's [`Info`].
struct Requests<S> {
    service: S,
    info: Info,
    open: Arc<Open>,
}

pin_project! {
    /// The answer to a request, noted if it leaves HTTP.
    struct Answer<F> {
        #[pin]
        answer: F,
        open: Arc<Open>,
        begun: Instant,
        answered: bool,
    }

    impl<F> PinnedDrop for Answer<F> {
        fn drop(this: Pin<&mut Self>) {
            match this.answered {
                true => this.open.answered(),
                false => this.open.give_up(this.begun),
            }
        }
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Requests<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Answer<Oneshot<S, Request<Incoming>>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        name_host(&mut request);
        request.extensions_mut().insert(self.info.clone());
        Answer {
            answer: self.service.clone().oneshot(request),
            open: self.open.clone(),
            begun: Instant::now(),
            answered: false,
        }
    }
}

impl<F, B> Future for Answer<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(answer) = ready!(this.answer.poll(cx));
        *this.answered = true;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            this.open.leave_http();
        }
        Poll::Ready(Ok(answer))
    }
}

/// Makes `Host` say what the target says, where that names a host: the target goes first (RFC 9112,
/// section 3.2.2; RFC 9113, section 8.3.1), and who looks at either later must not differ.
fn name_host<B>(request: &mut Request<B>) {
    let Some(authority) = request.uri().authority() else {
        return;
    };
    let target = authority.as_str();
    let target = target.rsplit_once('@').map_or(target, |(_, host)| host);
    let host = request.headers().get(HOST);
    // Over HTTP/2 the field is not needed, and a gRPC service would see it as metadata.
    let right = match host {
        Some(host) => host.as_bytes().eq_ignore_ascii_case(target.as_bytes()),
        None => request.version() == http::Version::HTTP_2,
    };
    if !right && let Ok(value) = HeaderValue::from_str(target) {
        request.headers_mut().insert(HOST, value);
    }
}

pub(crate) async fn serve<S, B>(accepted: Accepted, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Accepted {
        socket,
        info,
        open,
        config,
        drain,
    } = accepted;
    let mut draining = pin!(drain.draining());
    let begin = async {
        let tls = config.tls.get();
        let (mut stream, peer) = Stream::open(socket, tls.as_deref()).await?;
        drop(tls);
        let (version, first) = sniff(&mut stream).await?;
        std::io::Result::Ok((version, first, stream, peer))
    };
    let begun = tokio::select! {
        biased;
        // Boxed, as a handshake takes much room for a short time.
        begun = timeout(config.header_timeout, Box::pin(begin)) => begun,
        () = &mut draining => return,
    };
    let (version, first, stream, peer) = match begun {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => return tracing::debug!(remote = %info.remote(), %error, "closed before a request"),
        Err(_) => return tracing::debug!(remote = %info.remote(), "closed, as the client says nothing"),
    };
    let info = info.with(peer);
    let remote = info.remote();
    if !spoken(version, config.protocol) || !agreed(version, &info) {
        return tracing::debug!(%remote, ?version, "closed, as the listener does not speak this");
    }
    let wire = Wire::new(first, stream, info.clone(), config.clone(), open.clone());
    let requests = Requests {
        service,
        info: info.clone(),
        open: open.clone(),
    };
    let done = match version {
        Version::Http1 => {
            let io = TokioIo::new(Guarded::new(wire, &config, drain.clone()));
            let connection = http1(&config).serve_connection(io, requests).with_upgrades();
            let connection = pin!(connection);
            let end = http1::UpgradeableConnection::graceful_shutdown;
            drive(
                connection,
                end,
                draining,
                |_| std::future::pending(),
                &config,
                &drain,
            )
            .await
        }
        Version::Http2 => {
            let most = usize::try_from(config.http2.max_concurrent_streams).unwrap_or(usize::MAX);
            open.backlog().limit(most.saturating_add(LEFT_OVER));
            let wire = Corked::reading(Paced::new(wire, open.backlog().clone()), READ_AT_ONCE);
            let io = TokioIo::new(wire.clone());
            let tasks = StreamTasks(open.clone());
            let connection = http2(&config, tasks).serve_connection(io, requests);
            let mut connection = pin!(Batched::new(connection, wire.clone()));
            let end = |connection: Pin<&mut Batched<_, _>>| {
                http2::Connection::graceful_shutdown(connection.inner());
            };
            let idle = |limit| idle(&open, limit);
            let done = tokio::select! {
                biased;
                done = drive(connection.as_mut(), end, draining, idle, &config, &drain) => done,
                () = open.abused() => {
                    tell(&open, &info);
                    open.backlog().stop();
                    return send_away(connection, wire, &drain).await;
                }
            };
            if done.as_ref().is_err_and(is_flood) {
                tell(&open, &info);
            }
            done
        }
    };
    if let Err(error) = done {
        tracing::debug!(%remote, error = &error as &dyn std::error::Error, "connection failed");
    }
}

fn spoken(version: Version, protocol: Protocol) -> bool {
    match protocol {
        Protocol::Auto => true,
        Protocol::Http1 => version == Version::Http1,
        Protocol::Http2 => version == Version::Http2,
    }
}

/// Whether a client speaks what it agreed to speak, if it agreed to anything.
fn agreed(version: Version, info: &Info) -> bool {
    match info.tls().and_then(|peer| peer.alpn.as_deref()) {
        Some(b"h2") => version == Version::Http2,
        Some(b"http/1.1") => version == Version::Http1,
        _ => true,
    }
}

fn http1(config: &Config) -> http1::Builder {
    let max_head = config.http1_max_header_bytes();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The time between requests; a head that has begun is the guard's.
        .header_read_timeout(config.idle_timeout.unwrap_or(config.header_timeout))
        .max_header_size(max_head)
        .max_buf_size(max_head.max(HTTP1_BUFFER));
    builder
}

fn http2(config: &Config, tasks: StreamTasks) -> http2::Builder<StreamTasks> {
    let settings = &config.http2;
    let mut builder = http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        // Replies say what their service says, no more: a gRPC client would see it as metadata.
        .auto_date_header(false)
        .keep_alive_interval(settings.keep_alive_interval)
        .keep_alive_timeout(settings.keep_alive_timeout)
        .max_concurrent_streams(settings.max_concurrent_streams)
        .max_send_buf_size(settings.max_send_buffer)
        .max_pending_accept_reset_streams(settings.max_pending_accept_reset_streams)
        .max_header_list_size(config.max_header_bytes);
    match settings.window {
        Window::Adaptive => builder.adaptive_window(true),
        Window::Fixed { stream, connection } => builder
            .initial_stream_window_size(stream.min(MAX_WINDOW))
            .initial_connection_window_size(connection.min(MAX_WINDOW)),
    };
    builder
}

/// Runs a connection to its end. Once the drain begins or it was idle for too long, it takes no
/// further requests; once the drain's limit is over it is dropped, and its requests with it.
async fn drive<C, E, I>(
    mut connection: Pin<&mut C>,
    end: impl Fn(Pin<&mut C>),
    draining: impl Future<Output = ()>,
    idle: impl Fn(Option<Duration>) -> I,
    config: &Config,
    drain: &drain::Watch,
) -> Result<(), E>
where
    C: Future<Output = Result<(), E>>,
    I: Future<Output = ()>,
{
    // The connection goes first: a request that has arrived is read before the farewell.
    tokio::select! {
        biased;
        done = &mut connection => return done,
        () = draining => {}
        () = idle(config.idle_timeout) => {}
    }
    end(connection.as_mut());
    tokio::select! {
        biased;
        done = &mut connection => done,
        () = idle(Some(FAREWELL)) => Ok(()),
        () = drain.cut() => Ok(()),
    }
}

/// Resolves when a connection has had no stream for `limit`.
async fn idle(open: &Open, limit: Option<Duration>) {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    let (mut quiet, mut begun) = (0, open.begun());
    while quiet < IDLE_PARTS {
        sleep(limit / IDLE_PARTS).await;
        let same = open.streams() == 0 && open.begun() == begun;
        quiet = if same { quiet + 1 } else { 0 };
        begun = open.begun();
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor;
    use tokio::{
        sync::{Notify, Semaphore},
        time::Instant,
    };

    use super::*;
    use crate::connection::Connections;

    const LIMIT: Duration = Duration::from_secs(60);

    async fn open() -> Arc<Open> {
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        Open::new(place, Connections::default().add(), drain::channel().1.hold())
    }

    #[test]
    fn host_says_what_the_target_says_and_is_not_invented_over_http2() {
        for (version, uri, host, expected) in [
            (http::Version::HTTP_2, "http://a/", Some("b"), Some("a")),
            (http::Version::HTTP_2, "http://a/", Some("A"), Some("A")),
            (http::Version::HTTP_2, "http://a/", None, None),
            (http::Version::HTTP_10, "http://a:1/", None, Some("a:1")),
            (http::Version::HTTP_11, "/", Some("b"), Some("b")),
        ] {
            let mut request = Request::get(uri).version(version);
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let mut request = request.body(()).unwrap();
            name_host(&mut request);
            let named = request.headers().get(HOST).map(|host| host.to_str().unwrap());
            assert_eq!(named, expected, "{version:?} {uri}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_connection_is_idle_after_the_limit() {
        let begin = Instant::now();
        idle(&*open().await, Some(LIMIT)).await;
        assert_eq!(begin.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_stream_keeps_a_connection_from_being_idle() {
        let (open, end) = (open().await, Arc::new(Notify::new()));
        let ended = end.clone();
        StreamTasks(open.clone()).execute(async move { ended.notified().await });
        let waited = timeout(LIMIT * 100, idle(&open, Some(LIMIT))).await;
        assert!(waited.is_err());
        end.notify_one();
        idle(&open, Some(LIMIT)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_stream_starts_the_time_anew() {
        let (open, begin) = (open().await, Instant::now());
        let busy = async {
            for _ in 0..10 {
                sleep(LIMIT / 2).await;
                StreamTasks(open.clone()).execute(std::future::ready(()));
            }
        };
        tokio::join!(busy, idle(&open, Some(LIMIT)));
        assert!(begin.elapsed() >= LIMIT * 6);
    }
}
