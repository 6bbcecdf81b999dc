mod over_http;

use std::{
    path::PathBuf,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderValue;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::{
    BoxError,
    access_log::{Config, Files},
    filter::Terminal,
    metrics::Metrics,
};

/// An observer whose doings can be read.
struct Scene {
    metrics: Metrics,
    files: Files,
    folder: TempDir,
    spans: Arc<Spans>,
    observer: Observer,
}

#[derive(Default)]
struct Spans(Mutex<Vec<(u16, Option<u16>, bool)>>);

struct Recorded(Arc<Spans>);

struct Recorder(Arc<Spans>);

impl Tracer for Recorder {
    fn begin(&self, head: &mut http::request::Parts, exchange: &Exchange) -> Option<Box<dyn trace::Span>> {
        head.headers.insert("x-trace", HeaderValue::from_static("t1"));
        exchange.facts().trace_id = Some("t1".into());
        Some(Box::new(Recorded(Arc::clone(&self.0))))
    }
}

impl trace::Span for Recorded {
    fn end(self: Box<Self>, ended: &trace::Ended<'_>) {
        let record = (ended.status, ended.grpc_status, ended.failed);
        self.0.0.lock().unwrap().push(record);
    }
}

impl Scene {
    /// With an access log of this format.
    fn new(format: &str) -> Self {
        let (metrics, files) = (Metrics::default(), Files::default());
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            log_format: format.to_owned(),
            ..Config::default()
        };
        let log = Log::open(&config, "web", folder.path(), &files).unwrap();
        let spans = Arc::<Spans>::default();
        let tracer = Arc::new(Recorder(Arc::clone(&spans)));
        let observer = Observer::new("web", metrics.listener("web"), vec![log], Some(tracer));
        Self {
            metrics,
            files,
            folder,
            spans,
            observer,
        }
    }

    async fn log(&self) -> String {
        self.files.flush().await;
        let path: PathBuf = self.folder.path().join("web_access.log");
        std::fs::read_to_string(path).unwrap()
    }

    fn spans(&self) -> Vec<(u16, Option<u16>, bool)> {
        self.spans.0.lock().unwrap().clone()
    }

    #[track_caller]
    fn assert_counts(&self, lines: &[&str]) {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in lines {
            let (key, value) = line.split_once(' ').unwrap();
            let line = format!("downstream_{key}{{listener=\"web\"}} {value}");
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }

    async fn call(&self, request: Request, response: Response) -> Response {
        let answer = Answer(Mutex::new(Some(response)));
        Next::new(&[Arc::new(self.observer.clone())], &answer)
            .run(request)
            .await
    }
}

/// Reads the request's body and gives one answer.
struct Answer(Mutex<Option<Response>>);

impl Terminal for Answer {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        let response = self.0.lock().unwrap().take().unwrap();
        Box::pin(async move {
            assert_eq!(request.headers()["x-trace"], "t1");
            request.into_body().collect().await.unwrap();
            response
        })
    }
}

fn request(body: impl Into<Body>) -> Request {
    let mut request = Request::new(body.into());
    *request.uri_mut() = "/orders".parse().unwrap();
    request
}

/// A body of these parts; `None` is an error.
fn parts(parts: Vec<Option<Frame<Bytes>>>) -> Body {
    let parts = parts
        .into_iter()
        .map(|part| part.ok_or_else(|| BoxError::from("lost")));
    Body::new(StreamBody::new(futures::stream::iter(parts)))
}

fn data(text: &'static str) -> Option<Frame<Bytes>> {
    Some(Frame::data(Bytes::from(text)))
}

fn grpc_trailers(status: &'static str) -> Option<Frame<Bytes>> {
    let trailers = [("grpc-status".parse().unwrap(), HeaderValue::from_static(status))];
    Some(Frame::trailers(trailers.into_iter().collect()))
}

const LINE: &str = "%x-mosn-path% %response_code% %bytes_received% %bytes_sent% %response_flag% %trace_id%";

#[tokio::test]
async fn a_unary_call_is_counted_logged_and_recorded_at_its_end() {
    let scene = Scene::new(LINE);
    let response = scene
        .call(request("four"), Response::new(Body::from("reply")))
        .await;
    scene.assert_counts(&["request_total 1", "request_active 1"]);
    assert!(scene.spans().is_empty());
    response.into_body().collect().await.unwrap();
    scene.assert_counts(&[
        "request_active 0",
        "request_200_total 1",
        "request_reset 0",
        "request_failed 0",
        "bytes_read_total 4",
        "bytes_write_total 5",
        "request_time_count 1",
    ]);
    assert_eq!(scene.log().await, "/orders 200 4 5 0x0 t1\n");
    assert_eq!(scene.spans(), [(200, None, false)]);
}

#[tokio::test]
async fn a_stream_ends_with_its_trailers() {
    let scene = Scene::new(LINE);
    let body = parts(vec![data("one"), data("three"), grpc_trailers("5")]);
    let upload = parts(vec![data("12345"), data("6789")]);
    let response = scene.call(request(upload), Response::new(body)).await;
    response.into_body().collect().await.unwrap();
    assert_eq!(scene.log().await, "/orders 200 9 8 0x0 t1\n");
    assert_eq!(scene.spans(), [(200, Some(5), false)]);
}

#[tokio::test]
async fn a_reply_without_a_body_ends_with_its_head() {
    let scene = Scene::new(LINE);
    let mut response = Response::new(Body::empty());
    response
        .headers_mut()
        .insert("grpc-status", HeaderValue::from_static("12"));
    let _unread = scene.call(request(Body::empty()), response).await;
    scene.assert_counts(&["request_active 0", "request_200_total 1"]);
    assert_eq!(scene.spans(), [(200, Some(12), false)]);
}

#[tokio::test]
async fn a_head_request_and_statuses_without_bodies_are_no_cuts() {
    let scene = Scene::new(LINE);
    let mut head = request(Body::empty());
    *head.method_mut() = Method::HEAD;
    drop(scene.call(head, Response::new(Body::from("unsent"))).await);
    let mut unmodified = Response::new(parts(vec![data("unsent")]));
    *unmodified.status_mut() = StatusCode::NOT_MODIFIED;
    drop(scene.call(request(Body::empty()), unmodified).await);
    scene.assert_counts(&["request_reset 0", "request_200_total 1", "request_304_total 1"]);
}

#[tokio::test]
async fn a_body_that_is_dropped_half_way_is_a_cut() {
    let scene = Scene::new(LINE);
    let body = parts(vec![data("one"), data("two")]);
    let mut response = scene.call(request(Body::empty()), Response::new(body)).await;
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    scene.assert_counts(&["request_reset 1", "request_failed 0", "request_active 0"]);
    assert_eq!(scene.log().await, "/orders 200 0 3 0x2000 t1\n");
    assert_eq!(scene.spans(), [(200, None, true)]);
}

#[tokio::test]
async fn a_body_of_known_length_needs_no_end() {
    let scene = Scene::new(LINE);
    let body = Body::new(Full::from("five!"));
    let mut response = scene.call(request(Body::empty()), Response::new(body)).await;
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    scene.assert_counts(&["request_reset 0", "request_200_total 1"]);
}

#[tokio::test]
async fn a_body_that_fails_is_a_failure_once() {
    let scene = Scene::new(LINE);
    let body = parts(vec![data("one"), None]);
    let response = scene.call(request(Body::empty()), Response::new(body)).await;
    response.into_body().collect().await.unwrap_err();
    scene.assert_counts(&["request_reset 1", "request_failed 1", "request_time_count 1"]);
    assert_eq!(scene.log().await.lines().count(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_reply_is_499() {
    let scene = Scene::new(LINE);
    let call = scene
        .observer
        .observe(request(Body::empty()), |_| std::future::pending::<Response>());
    let mut call = Box::pin(call);
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(Pin::new(&mut call).poll(&mut context), Poll::Pending));
    drop(call);
    scene.assert_counts(&["request_499_total 1", "request_reset 1", "request_active 0"]);
    assert_eq!(scene.log().await, "/orders 499 0 0 0x2000 t1\n");
}

#[tokio::test]
async fn a_panic_is_a_failure_of_ours_and_no_client_that_left() {
    let scene = Scene::new(LINE);
    let observer = scene.observer.clone();
    let call = tokio::spawn(async move {
        let panics = |_| async { panic!("a filter panics") };
        observer.observe(request(Body::empty()), panics).await
    });
    call.await.unwrap_err();
    scene.assert_counts(&["request_500_total 1", "request_failed 1", "request_active 0"]);
    assert_eq!(scene.log().await, "/orders 500 0 0 0x0 t1\n");
}

#[tokio::test]
async fn flags_of_the_chain_make_a_failure_but_a_delay_does_not() {
    for (flag, failed) in [
        (Flags::NO_ROUTE, "request_failed 1"),
        (Flags::DELAY, "request_failed 0"),
    ] {
        let scene = Scene::new(LINE);
        let observed = scene
            .observer
            .observe(request(Body::empty()), |request| async move {
                Exchange::of(request.extensions()).unwrap().flag(flag);
                Response::new(Body::empty())
            });
        observed.await;
        scene.assert_counts(&[failed]);
    }
}

#[tokio::test]
async fn an_upgraded_exchange_ends_with_its_tunnel() {
    let scene = Scene::new(LINE);
    let (close, tunnel) = oneshot::channel();
    let (request, span) = scene.observer.begin(request(Body::empty()));
    let exchange = Exchange::of(request.extensions()).unwrap().clone();
    exchange.facts().tunnel = Some(tunnel);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    drop(span.reply(response));
    scene.assert_counts(&["request_active 1"]);
    exchange.facts().bytes_sent = 70;
    close.send(()).unwrap();
    while scene.spans().is_empty() {
        tokio::task::yield_now().await;
    }
    scene.assert_counts(&["request_active 0", "bytes_write_total 70"]);
    assert_eq!(scene.log().await, "/orders 101 0 70 0x0 t1\n");
}

#[tokio::test]
async fn a_log_that_tells_when_the_request_ended_learns_it() {
    let scene = Scene::new("%request_received_duration%");
    for body in [
        Body::empty(),
        Body::from("four"),
        parts(vec![data("a"), data("b")]),
    ] {
        let response = scene.call(request(body), Response::new(Body::empty())).await;
        drop(response);
    }
    let log = scene.log().await;
    assert_eq!(log.lines().filter(|line| *line != "-").count(), 3, "{log}");
}

#[tokio::test]
async fn bodies_are_left_alone_when_nothing_asks_for_them() {
    let metrics = Metrics::default();
    let observer = Observer::new("web", metrics.listener("web"), Vec::new(), None);
    let (request, span) = observer.begin(request("four"));
    assert!(format!("{:?}", request.body()).contains("Full"));
    let response = span.reply(Response::new(Body::empty()));
    assert!(format!("{:?}", response.body()).contains("Empty"));
}

/// `cargo test --profile bench -p layotto-mesh --lib observe -- --ignored --nocapture`
#[tokio::test]
#[ignore = "measures, and only an optimised build tells"]
async fn counting_costs_less_than_300_ns_per_request() {
    const CALLS: u32 = 2_000;
    let metrics = Metrics::default();
    let observer = Observer::new("web", metrics.listener("web"), Vec::new(), None);
    let run = async |observer: Option<&Observer>| {
        let begun = std::time::Instant::now();
        for _ in 0..CALLS {
            let mut request = Request::new(Body::from("four"));
            let exchange = Exchange::begin(Arc::from("web"), None);
            request.extensions_mut().insert(exchange);
            let chain = |request: Request| {
                std::hint::black_box(request);
                std::future::ready(Response::new(Body::from("reply")))
            };
            let response = match observer {
                Some(observer) => observer.observe(request, chain).await,
                None => chain(request).await,
            };
            let mut body = std::hint::black_box(response.into_body());
            while let Some(frame) = body.frame().await {
                std::hint::black_box(frame.unwrap());
            }
        }
        begun.elapsed() / CALLS
    };
    // The least of many: other processes only ever make it slower.
    let (mut without, mut with) = (Duration::MAX, Duration::MAX);
    for _ in 0..500 {
        without = without.min(run(None).await);
        with = with.min(run(Some(&observer)).await);
    }
    eprintln!("{without:?} without, {with:?} with the observer");
    assert!(with.saturating_sub(without).as_nanos() < 300);
}
