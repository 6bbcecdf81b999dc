use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use layotto_core::{
    Metadata,
    health::{self, Health},
};
use layotto_proto::runtime::v1::{
    ListTopicSubscriptionsResponse, TopicEventRequest, TopicEventResponse, TopicSubscription,
    app_callback_server::{AppCallback, AppCallbackServer},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tonic::{Request, Response, Status, metadata::MetadataMap, transport::Server};

use super::{
    AppConfig, Callback,
    probe::{HealthProbe, ProbeKind},
};
use crate::{
    Runtime,
    event::Trace,
    ops::pubsub::{
        Listed, Mode, Publication,
        fake::{Broker, Counts, runtime, slot},
        publish,
    },
};

const RETRY: i32 = 1;
const DROP: i32 = 2;

type Verdict = Result<i32, Status>;

/// A delivery in the application's hands.
struct Delivered {
    event: TopicEventRequest,
    call: MetadataMap,
    verdict: oneshot::Sender<Verdict>,
}

struct Handlers {
    subscriptions: Option<Vec<TopicSubscription>>,
    listed: mpsc::Sender<()>,
    delivered: mpsc::Sender<Delivered>,
}

#[tonic::async_trait]
impl AppCallback for Handlers {
    async fn list_topic_subscriptions(
        &self,
        _: Request<()>,
    ) -> Result<Response<ListTopicSubscriptionsResponse>, Status> {
        self.listed.send(()).await.unwrap();
        let subscriptions = self
            .subscriptions
            .clone()
            .ok_or_else(|| Status::unimplemented("none"))?;
        Ok(Response::new(ListTopicSubscriptionsResponse { subscriptions }))
    }

    async fn on_topic_event(
        &self,
        request: Request<TopicEventRequest>,
    ) -> Result<Response<TopicEventResponse>, Status> {
        let (verdict, decided) = oneshot::channel();
        let call = request.metadata().clone();
        let delivered = Delivered {
            event: request.into_inner(),
            call,
            verdict,
        };
        self.delivered.send(delivered).await.ok().unwrap();
        let status = decided.await.unwrap()?;
        Ok(Response::new(TopicEventResponse { status }))
    }
}

/// An application in an executor of its own, so that it can die with all its connections.
struct App {
    executor: Option<tokio::runtime::Runtime>,
    listed: mpsc::Receiver<()>,
    delivered: mpsc::Receiver<Delivered>,
}

impl App {
    fn start(listener: std::net::TcpListener, subscriptions: Option<Vec<TopicSubscription>>) -> Self {
        let executor = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (listed_sender, listed) = mpsc::channel(100);
        let (delivered_sender, delivered) = mpsc::channel(100);
        let handlers = Handlers {
            subscriptions,
            listed: listed_sender,
            delivered: delivered_sender,
        };
        executor.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            Server::builder()
                .add_service(AppCallbackServer::new(handlers))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self {
            executor: Some(executor),
            listed,
            delivered,
        }
    }

    async fn event(&mut self) -> Delivered {
        self.delivered.recv().await.unwrap()
    }

    /// Kills the application, with whatever it has in hand.
    fn kill(&mut self) {
        self.executor.take().unwrap().shutdown_background();
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if let Some(executor) = self.executor.take() {
            executor.shutdown_background();
        }
    }
}

impl Delivered {
    fn answer(self, verdict: Verdict) {
        self.verdict.send(verdict).unwrap();
    }
}

fn listener() -> (std::net::TcpListener, SocketAddr) {
    bind("127.0.0.1:0".parse().unwrap())
}

fn bind(address: SocketAddr) -> (std::net::TcpListener, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(16).unwrap();
    let listener: std::net::TcpListener = socket.into();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Binds again once the killed application let go of the port.
async fn rebind(address: SocketAddr) -> std::net::TcpListener {
    while std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bind(address).0
}

fn topic(topic: &str) -> TopicSubscription {
    TopicSubscription {
        pubsub_name: "p".into(),
        topic: topic.into(),
        metadata: HashMap::new(),
    }
}

fn start(runtime: &Arc<Runtime>, address: SocketAddr) -> Callback {
    let app = AppConfig {
        host: String::new(),
        port: address.port(),
        health_probe: None,
    };
    Callback::start(Arc::clone(runtime), app, &Health::default())
}

async fn subscribed(callback: &Callback, topics: &[&str]) {
    let expected: Vec<_> = topics
        .iter()
        .map(|topic| Listed {
            pubsub: "p".into(),
            topic: (*topic).to_owned(),
            mode: Mode::Callback,
        })
        .collect();
    while callback.subscriptions() != expected {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn send(runtime: &Runtime, topic: &str) -> String {
    let publication = Publication {
        pubsub: "p".into(),
        topic: topic.to_owned(),
        data: "x".into(),
        trace: Trace {
            parent: "00-aa-bb-01".into(),
            state: "v=1".into(),
        },
        ..Publication::default()
    };
    publish(runtime, publication).await.unwrap().unwrap()
}

/// A broker, the runtime over it, and an application subscribed to `t1`.
async fn connected(broker: Broker) -> (Arc<Broker>, Arc<Runtime>, App, Callback, SocketAddr) {
    let broker = Arc::new(broker);
    let runtime = runtime(slot(Some(broker.clone())));
    let (listener, address) = listener();
    let app = App::start(listener, Some(vec![topic("t1")]));
    let callback = start(&runtime, address);
    subscribed(&callback, &["t1"]).await;
    (broker, runtime, app, callback, address)
}

#[tokio::test]
async fn the_application_may_start_after_the_sidecar() {
    let broker = Arc::new(Broker::default());
    let runtime = runtime(slot(Some(broker.clone())));
    let (listener, address) = listener();
    drop(listener);
    let callback = start(&runtime, address);
    tokio::task::yield_now().await;
    let mut app = App::start(bind(address).0, Some(vec![topic("t1")]));
    app.listed.recv().await.unwrap();
    subscribed(&callback, &["t1"]).await;
    let id = send(&runtime, "t1").await;
    let delivered = app.event().await;
    assert_eq!(delivered.event.id, id);
    delivered.answer(Ok(0));
    broker.until(|counts| counts.acked == 1).await;
}

#[tokio::test]
async fn a_delivery_carries_the_trace_of_the_publisher() {
    let (_, runtime, mut app, ..) = connected(Broker::default()).await;
    send(&runtime, "t1").await;
    let delivered = app.event().await;
    assert_eq!(delivered.call.get("traceparent").unwrap(), "00-aa-bb-01");
    assert_eq!(delivered.call.get("tracestate").unwrap(), "v=1");
    assert_eq!(delivered.event.metadata["traceparent"], "00-aa-bb-01");
    delivered.answer(Ok(0));
}

#[tokio::test]
async fn a_new_connection_asks_for_the_subscriptions_again() {
    let (_, runtime, mut app, callback, address) = connected(Broker::default()).await;
    app.kill();
    let mut again = App::start(rebind(address).await, Some(vec![topic("t2"), topic("t3")]));
    again.listed.recv().await.unwrap();
    subscribed(&callback, &["t2", "t3"]).await;
    let id = send(&runtime, "t2").await;
    let delivered = again.event().await;
    assert_eq!(delivered.event.id, id);
    delivered.answer(Ok(0));
}

#[tokio::test]
async fn an_event_in_hand_when_the_application_dies_is_delivered_to_the_next() {
    let (broker, runtime, mut app, _callback, address) = connected(Broker::default()).await;
    let id = send(&runtime, "t1").await;
    assert_eq!(app.event().await.event.id, id);
    app.kill();
    broker.until(|counts| counts.retried > 0).await;
    let mut again = App::start(rebind(address).await, Some(vec![topic("t1")]));
    let delivered = again.event().await;
    assert_eq!(delivered.event.id, id);
    delivered.answer(Ok(0));
    assert_eq!(broker.until(|counts| counts.acked == 1).await.dead, 0);
}

#[tokio::test]
async fn events_wait_while_the_application_is_away() {
    let (broker, runtime, mut app, callback, address) = connected(Broker {
        max_deliveries: 1,
        ..Broker::default()
    })
    .await;
    app.kill();
    while callback.is_connected() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(send(&runtime, "t1").await);
    }
    let mut again = App::start(rebind(address).await, Some(vec![topic("t1")]));
    let mut seen = Vec::new();
    for _ in 0..5 {
        let delivered = again.event().await;
        seen.push(delivered.event.id.clone());
        delivered.answer(Ok(0));
    }
    ids.sort();
    seen.sort();
    assert_eq!(seen, ids);
    assert_eq!(broker.until(|counts| counts.acked == 5).await.dead, 0);
}

#[tokio::test]
async fn verdicts_reach_the_broker() {
    let (broker, runtime, mut app, ..) = connected(Broker::default()).await;
    let id = send(&runtime, "t1").await;
    for verdict in [
        Ok(RETRY),
        Ok(9),
        Err(Status::internal("broken")),
        Err(Status::unavailable("busy")),
        Ok(0),
    ] {
        let delivered = app.event().await;
        assert_eq!(delivered.event.id, id);
        delivered.answer(verdict);
    }
    assert_eq!(broker.until(|counts| counts.acked == 1).await.retried, 4);
    for verdict in [Ok(DROP), Err(Status::unimplemented("nope"))] {
        send(&runtime, "t1").await;
        app.event().await.answer(verdict);
    }
    let counts = broker.until(|counts| counts.dead == 2).await;
    assert_eq!(
        counts,
        Counts {
            taken: 7,
            acked: 1,
            retried: 4,
            dead: 2
        }
    );
}

#[tokio::test]
async fn an_application_without_subscriptions_is_left_alone() {
    let runtime = runtime(slot(Some(Arc::new(Broker::default()))));
    let (listener, address) = listener();
    let mut app = App::start(listener, None);
    let callback = start(&runtime, address);
    app.listed.recv().await.unwrap();
    assert_eq!(callback.subscriptions(), []);
    runtime.shutdown.cancel();
    runtime.tasks.close();
    runtime.tasks.wait().await;
}

#[tokio::test]
async fn the_last_of_two_entries_for_a_topic_counts() {
    let broker = Arc::new(Broker::default());
    let runtime = runtime(slot(Some(broker.clone())));
    let (listener, address) = listener();
    let raw = TopicSubscription {
        metadata: HashMap::from([("rawPayload".into(), "true".into())]),
        ..topic("t1")
    };
    let unknown = TopicSubscription {
        pubsub_name: "nope".into(),
        ..topic("t1")
    };
    let mut app = App::start(listener, Some(vec![topic("t1"), unknown, raw]));
    let callback = start(&runtime, address);
    subscribed(&callback, &["t1"]).await;
    broker.inject("t1", b"\x00\xff");
    let delivered = app.event().await;
    assert_eq!(delivered.event.data, &b"\x00\xff"[..]);
    delivered.answer(Ok(0));
}

#[tokio::test]
async fn what_is_no_event_never_reaches_the_application() {
    let (broker, runtime, mut app, ..) = connected(Broker {
        max_deliveries: 2,
        ..Broker::default()
    })
    .await;
    broker.inject("t1", b"\xff not json");
    broker.until(|counts| counts.dead == 1).await;
    let id = send(&runtime, "t1").await;
    let delivered = app.event().await;
    assert_eq!(delivered.event.id, id);
    delivered.answer(Ok(0));
}

#[tokio::test]
async fn a_component_that_opens_late_is_subscribed_then() {
    let slot = slot(None);
    let runtime = runtime(slot.clone());
    let (listener, address) = listener();
    let mut app = App::start(listener, Some(vec![topic("t1")]));
    let callback = start(&runtime, address);
    app.listed.recv().await.unwrap();
    assert_eq!(callback.subscriptions(), []);
    slot.fill(Arc::new(Broker::default()));
    subscribed(&callback, &["t1"]).await;
}

#[tokio::test]
async fn shutdown_ends_the_tasks_and_the_subscriptions() {
    let (_, runtime, _app, callback, _) = connected(Broker::default()).await;
    runtime.shutdown.cancel();
    runtime.tasks.close();
    runtime.tasks.wait().await;
    assert_eq!(callback.subscriptions(), []);
}

fn probe(kind: ProbeKind) -> HealthProbe {
    HealthProbe {
        interval: Duration::from_millis(5),
        threshold: 2,
        ..HealthProbe::new(kind)
    }
}

async fn until(health: &Health, status: health::Status) {
    while health.overall() != status {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_probe_shows_an_application_that_comes_goes_and_returns() {
    for kind in [ProbeKind::Grpc, ProbeKind::Tcp] {
        let broker = Arc::new(Broker::default());
        let runtime = runtime(slot(Some(broker.clone())));
        let (first, address) = listener();
        drop(first);
        let health = Health::default();
        let app = AppConfig {
            host: "localhost".into(),
            port: address.port(),
            health_probe: Some(probe(kind)),
        };
        let _callback = Callback::start(Arc::clone(&runtime), app, &health);
        assert_eq!(health.overall(), health::Status::Init);
        let mut app = App::start(bind(address).0, None);
        until(&health, health::Status::Up).await;
        app.kill();
        until(&health, health::Status::Down).await;
        let _again = App::start(rebind(address).await, None);
        until(&health, health::Status::Up).await;
    }
}

/// Answers every request with the status line it is given.
async fn http_server(listener: std::net::TcpListener, answer: Arc<Mutex<&'static str>>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = vec![0; 1024];
        let length = stream.read(&mut head).await.unwrap();
        assert!(head[..length].starts_with(b"GET /healthz HTTP/1.1\r\n"));
        let answer = *answer.lock().unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn the_http_probe_goes_by_the_status() {
    let (listener, address) = listener();
    let answer = Arc::new(Mutex::new("HTTP/1.1 204 No Content\r\n\r\n"));
    let server = tokio::spawn(http_server(listener, answer.clone()));
    let config = probe(ProbeKind::Http("healthz".into()));
    let link = Arc::new(super::link::Link::new(Default::default(), false));
    let health = Health::default();
    let indicator = health.indicator("app", health::Required::Always);
    let address = super::link::Address::new("", address.port());
    let watching = tokio::spawn(super::probe::run(config, address, link.clone(), indicator));
    until(&health, health::Status::Up).await;
    *answer.lock().unwrap() = "HTTP/1.1 503 Service Unavailable\r\n\r\n";
    until(&health, health::Status::Down).await;
    link.shutdown().cancel();
    watching.await.unwrap();
    server.abort();
}

#[tokio::test]
async fn metadata_of_the_broker_reaches_the_application() {
    let (_, runtime, mut app, ..) = connected(Broker::default()).await;
    let publication = Publication {
        pubsub: "p".into(),
        topic: "t1".into(),
        metadata: Metadata::from([("partitionKey".into(), "k".into())]),
        ..Publication::default()
    };
    publish(&runtime, publication).await.unwrap();
    let delivered = app.event().await;
    assert_eq!(
        delivered.event.metadata,
        HashMap::from([("partitionKey".into(), "k".into())])
    );
    delivered.answer(Ok(0));
}
