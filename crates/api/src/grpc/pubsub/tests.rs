use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use layotto_core::{
    Metadata,
    pubsub::{Features, PubSub, Subscribe},
};
use layotto_proto::runtime::v1::{
    PublishEventRequest, SubscribeTopicEventsRequest, SubscribeTopicEventsRequestInitial,
    SubscribeTopicEventsRequestProcessed, SubscribeTopicEventsResponse, TopicEventRequest,
    TopicEventResponse, runtime_client::RuntimeClient,
    subscribe_topic_events_request::SubscribeTopicEventsRequestType as Incoming,
    subscribe_topic_events_response::SubscribeTopicEventsResponseType as Outgoing,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, transport::Channel};

use super::{Events, publish_event, subscribe_topic_events};
use crate::{
    Components, Runtime,
    grpc::{Dispatch, Options},
    ops::pubsub::{
        Listed, Mode,
        fake::{Broker, Counts, Kept, runtime, slot},
    },
};

const SUCCESS: i32 = 0;
const RETRY: i32 = 1;
const DROP: i32 = 2;

fn broker() -> Arc<Broker> {
    Arc::new(Broker::default())
}

fn runtime_of(broker: &Arc<Broker>) -> Arc<Runtime> {
    runtime(slot(Some(Arc::clone(broker))))
}

fn initial(pubsub: &str, topic: &str, metadata: &[(&str, &str)]) -> SubscribeTopicEventsRequestInitial {
    SubscribeTopicEventsRequestInitial {
        pubsub_name: pubsub.to_owned(),
        topic: topic.to_owned(),
        metadata: metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        dead_letter_topic: None,
    }
}

fn incoming(incoming: Incoming) -> SubscribeTopicEventsRequest {
    SubscribeTopicEventsRequest {
        subscribe_topic_events_request_type: Some(incoming),
    }
}

fn processed(id: &str, status: Option<i32>) -> SubscribeTopicEventsRequest {
    let status = status.map(|status| TopicEventResponse { status });
    incoming(Incoming::EventProcessed(SubscribeTopicEventsRequestProcessed {
        id: id.to_owned(),
        status,
    }))
}

/// The client's end of a stream.
struct Client {
    requests: mpsc::Sender<Result<SubscribeTopicEventsRequest, Status>>,
    events: Events,
}

impl Client {
    async fn try_open(runtime: &Arc<Runtime>, first: SubscribeTopicEventsRequest) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(16);
        requests.send(Ok(first)).await.unwrap();
        let response = subscribe_topic_events(Arc::clone(runtime), ReceiverStream::new(receiver)).await?;
        Ok(Self {
            requests,
            events: response.into_inner(),
        })
    }

    async fn open_with(runtime: &Arc<Runtime>, initial: SubscribeTopicEventsRequestInitial) -> Self {
        let mut client = Self::try_open(runtime, incoming(Incoming::InitialRequest(initial)))
            .await
            .unwrap();
        assert!(matches!(client.next().await, Outgoing::InitialResponse(_)));
        client
    }

    async fn open(runtime: &Arc<Runtime>) -> Self {
        Self::open_with(runtime, initial("p", "t1", &[])).await
    }

    async fn next(&mut self) -> Outgoing {
        self.events
            .next()
            .await
            .unwrap()
            .unwrap()
            .subscribe_topic_events_response_type
            .unwrap()
    }

    async fn event(&mut self) -> TopicEventRequest {
        match self.next().await {
            Outgoing::EventMessage(event) => event,
            Outgoing::InitialResponse(_) => panic!("a second initial response"),
        }
    }

    async fn send(&self, request: SubscribeTopicEventsRequest) {
        self.requests.send(Ok(request)).await.unwrap();
    }

    async fn settle(&self, id: &str, status: i32) {
        self.send(processed(id, Some(status))).await;
    }

    /// Closes the sending side; returns how the stream ends.
    async fn half_close(self) -> Option<Result<(), Status>> {
        let Self { requests, mut events } = self;
        drop(requests);
        events.next().await.map(|item| item.map(drop))
    }
}

async fn publish(runtime: &Runtime, data: &str) -> String {
    let request = PublishEventRequest {
        pubsub_name: "p".to_owned(),
        topic: "t1".to_owned(),
        data: data.to_owned().into(),
        ..PublishEventRequest::default()
    };
    let response = publish_event(runtime, Request::new(request)).await.unwrap();
    response
        .metadata()
        .get("layotto-message-id")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

async fn refusal(runtime: &Arc<Runtime>, first: SubscribeTopicEventsRequest) -> (Code, String) {
    let status = Client::try_open(runtime, first).await.err().unwrap();
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn the_first_message_must_be_a_complete_initial_request() {
    let runtime = runtime_of(&broker());
    let initial = |pubsub, topic| incoming(Incoming::InitialRequest(initial(pubsub, topic, &[])));
    let cases = [
        (
            SubscribeTopicEventsRequest::default(),
            "initial request is required",
        ),
        (processed("x", None), "initial request is required"),
        (initial("", "t"), "pubsubName is required"),
        (initial("p", ""), "topic is required"),
        (initial("nope", "t"), "pubsub nope is not initialized."),
    ];
    for (first, text) in cases {
        assert_eq!(
            refusal(&runtime, first).await,
            (Code::InvalidArgument, text.to_owned())
        );
    }
}

#[tokio::test]
async fn without_pubsub_components_nothing_can_be_subscribed() {
    let runtime = Arc::new(Runtime::new(
        "",
        Components::default(),
        Arc::default(),
        Default::default(),
        Default::default(),
    ));
    let first = incoming(Incoming::InitialRequest(initial("p", "t", &[])));
    assert_eq!(
        refusal(&runtime, first).await,
        (Code::FailedPrecondition, "pubsub p is not initialized.".into())
    );
}

#[tokio::test]
async fn metadata_that_means_nothing_is_refused() {
    let runtime = runtime_of(&broker());
    for metadata in [
        ("layotto-delivery", "all"),
        ("ackDeadline", "soon"),
        ("ackDeadline", "0s"),
    ] {
        let first = incoming(Incoming::InitialRequest(initial("p", "t", &[metadata])));
        assert_eq!(refusal(&runtime, first).await.0, Code::InvalidArgument);
    }
}

#[tokio::test]
async fn half_closing_before_anything_ends_with_ok() {
    let requests = futures::stream::empty();
    let mut response = subscribe_topic_events(runtime_of(&broker()), requests)
        .await
        .unwrap();
    assert!(response.get_mut().next().await.is_none());
}

#[tokio::test]
async fn an_event_is_delivered_and_acknowledged() {
    let broker = broker();
    let runtime = runtime_of(&broker);
    let mut client = Client::open(&runtime).await;
    let id = publish(&runtime, "hello").await;
    let expected = TopicEventRequest {
        id: id.clone(),
        source: "runtime".into(),
        r#type: "com.runtime.event.sent".into(),
        spec_version: "1.0".into(),
        data_content_type: "text/plain".into(),
        data: "hello".into(),
        topic: "t1".into(),
        pubsub_name: "p".into(),
        metadata: Metadata::new(),
    };
    assert_eq!(client.event().await, expected);
    client.send(processed(&id, None)).await;
    assert_eq!(broker.until(|counts| counts.acked == 1).await.retried, 0);
}

#[tokio::test]
async fn verdicts_reach_the_broker() {
    let broker = broker();
    let runtime = runtime_of(&broker);
    let mut client = Client::open(&runtime).await;
    let id = publish(&runtime, "x").await;
    for status in [RETRY, 9, DROP] {
        assert_eq!(client.event().await.id, id);
        client.settle("no such event", SUCCESS).await;
        client.settle(&id, status).await;
    }
    let counts = broker.until(|counts| counts.dead == 1).await;
    assert_eq!(
        counts,
        Counts {
            taken: 3,
            acked: 0,
            retried: 2,
            dead: 1
        }
    );
}

#[tokio::test]
async fn events_with_equal_ids_are_settled_one_by_one() {
    let broker = broker();
    let runtime = runtime_of(&broker);
    let mut client = Client::open(&runtime).await;
    for data in ["a", "b"] {
        broker.inject(
            "t1",
            format!(r#"{{"id":"same","datacontenttype":"text/plain","data":"{data}"}}"#).as_bytes(),
        );
    }
    let first = client.event().await;
    assert_eq!(client.event().await.id, first.id);
    client.settle("same", DROP).await;
    broker.until(|counts| counts.dead == 1).await;
    client.settle("same", SUCCESS).await;
    assert_eq!(broker.until(|counts| counts.acked == 1).await.dead, 1);
}

#[tokio::test]
async fn half_close_ends_with_ok_and_releases_what_was_not_acknowledged() {
    let broker = broker();
    let runtime = runtime_of(&broker);
    let mut client = Client::open(&runtime).await;
    let id = publish(&runtime, "x").await;
    assert_eq!(client.event().await.id, id);
    assert!(client.half_close().await.is_none());
    let mut next = Client::open(&runtime).await;
    assert_eq!(next.event().await.id, id);
}

#[tokio::test]
async fn a_client_that_goes_away_releases_its_events() {
    let broker = broker();
    let runtime = runtime_of(&broker);
    let mut client = Client::open(&runtime).await;
    let id = publish(&runtime, "x").await;
    assert_eq!(client.event().await.id, id);
    // As after a reset: the response is dropped while the request still seems open.
    let Client {
        requests: _requests,
        events,
    } = client;
    drop(events);
    let mut next = Client::open(&runtime).await;
    assert_eq!(next.event().await.id, id);
}

#[tokio::test]
async fn a_second_initial_request_ends_the_stream() {
    let runtime = runtime_of(&broker());
    let mut client = Client::open(&runtime).await;
    client
        .send(incoming(Incoming::InitialRequest(initial("p", "t1", &[]))))
        .await;
    let status = client.events.next().await.unwrap().unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "duplicate initial request received")
    );
    assert!(client.events.next().await.is_none());
}

#[tokio::test]
async fn streams_of_a_topic_share_its_events() {
    let broker = broker();
    let runtime = runtime_of(&broker);
    let mut clients = [Client::open(&runtime).await, Client::open(&runtime).await];
    let mut expected = Vec::new();
    for number in 0..20 {
        expected.push(publish(&runtime, &number.to_string()).await);
    }
    let mut seen = Vec::new();
    let [first, second] = &mut clients;
    while seen.len() < expected.len() {
        let (event, client) = tokio::select! {
            event = first.event() => (event, &*first),
            event = second.event() => (event, &*second),
        };
        client.settle(&event.id, SUCCESS).await;
        seen.push(event.id);
    }
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_stream_of_its_own_gets_every_event_and_leaves_nothing_behind() {
    let broker = broker();
    let runtime = runtime_of(&broker);
    let each = || initial("p", "t1", &[("layotto-delivery", "each")]);
    let mut first = Client::open_with(&runtime, each()).await;
    let mut second = Client::open_with(&runtime, each()).await;
    let mut shared = Client::open(&runtime).await;
    let listed = |mode| Listed {
        pubsub: "p".into(),
        topic: "t1".into(),
        mode,
    };
    assert_eq!(
        runtime.subscriptions.list(),
        [listed(Mode::Compete), listed(Mode::Each)]
    );
    let id = publish(&runtime, "x").await;
    for client in [&mut first, &mut second, &mut shared] {
        assert_eq!(client.event().await.id, id);
        client.settle(&id, SUCCESS).await;
    }
    broker.until(|counts| counts.acked == 3).await;
    for client in [first, second, shared] {
        assert!(client.half_close().await.is_none());
    }
    runtime.tasks.close();
    runtime.tasks.wait().await;
    assert_eq!(runtime.subscriptions.list(), []);
    while broker.groups("t1") != ["streams"] {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn on_a_durable_broker_streams_use_the_components_own_group() {
    let features = Features {
        durable: true,
        ..Features::default()
    };
    let broker = Arc::new(Broker {
        features,
        ..Broker::default()
    });
    let _client = Client::open(&runtime_of(&broker)).await;
    assert_eq!(broker.groups("t1"), [""]);
}

#[tokio::test(start_paused = true)]
async fn an_event_not_acknowledged_in_time_is_delivered_again() {
    let broker = broker();
    let runtime = runtime_of(&broker);
    let mut client = Client::open_with(&runtime, initial("p", "t1", &[("ackDeadline", "30s")])).await;
    let id = publish(&runtime, "x").await;
    let begun = tokio::time::Instant::now();
    assert_eq!(client.event().await.id, id);
    assert_eq!(client.event().await.id, id);
    assert!(begun.elapsed() >= Duration::from_secs(30));
    client.settle(&id, SUCCESS).await;
    assert_eq!(broker.until(|counts| counts.acked == 1).await.retried, 1);
}

#[tokio::test]
async fn a_client_that_does_not_acknowledge_gets_a_window_of_events() {
    let broker = broker();
    let runtime = runtime_of(&broker);
    let mut client = Client::open(&runtime).await;
    for number in 0..150 {
        publish(&runtime, &number.to_string()).await;
    }
    for _ in 0..super::stream::WINDOW {
        client.event().await;
    }
    assert_eq!(broker.counts().taken, super::stream::WINDOW);
    assert!(futures::poll!(client.events.next()).is_pending());
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_deliveries() {
    let broker = broker();
    let runtime = runtime_of(&broker);
    let _client = Client::open(&runtime).await;
    for number in 0..500 {
        publish(&runtime, &number.to_string()).await;
    }
    // What waits in the channel, and one that was taken while there still was room.
    let most = super::stream::AHEAD + 1;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
        assert!(broker.counts().taken <= most, "{:?}", broker.counts());
    }
    assert!(broker.counts().taken >= 1);
}

#[tokio::test]
async fn shutdown_ends_streams_with_ok() {
    let runtime = runtime_of(&broker());
    let mut client = Client::open(&runtime).await;
    publish(&runtime, "never acknowledged").await;
    client.event().await;
    runtime.shutdown.cancel();
    assert!(client.events.next().await.is_none());
    runtime.tasks.close();
    runtime.tasks.wait().await;
}

#[tokio::test]
async fn what_is_no_event_ends_in_the_dead_letter_topic() {
    let broker = broker();
    let runtime = runtime_of(&broker);
    let kept = Arc::new(Kept::default());
    let dead_letters = Subscribe {
        topic: "dead".into(),
        group: String::new(),
        dead_letter_topic: String::new(),
        metadata: Metadata::new(),
        handler: kept.clone(),
    };
    let _dead = broker.subscribe(dead_letters).await.unwrap();
    let wish = SubscribeTopicEventsRequestInitial {
        dead_letter_topic: Some("dead".into()),
        ..initial("p", "t1", &[])
    };
    let mut client = Client::open_with(&runtime, wish).await;
    for poison in [
        &b"not json"[..],
        b"",
        b"null",
        b"\xff\xfe",
        br#"{"id":"x","data_base64":"*"}"#,
    ] {
        broker.inject("t1", poison);
    }
    broker.until(|counts| counts.acked == 5).await;
    let mut dead: Vec<_> = kept
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|message| message.data.to_vec())
        .collect();
    dead.sort();
    assert_eq!(dead[0], b"");
    assert_eq!(dead[4], b"\xff\xfe");
    // The stream lives on.
    let id = publish(&runtime, "good").await;
    assert_eq!(client.event().await.id, id);
}

#[tokio::test]
async fn an_expired_event_is_dropped_silently() {
    let broker = broker();
    let runtime = runtime_of(&broker);
    let _client = Client::open(&runtime).await;
    broker.inject("t1", br#"{"id":"old","expiration":"2001-01-01T00:00:00Z"}"#);
    assert_eq!(
        broker
            .until(|counts| counts.taken == 1 && counts.acked == 1)
            .await
            .dead,
        0
    );
}

#[tokio::test]
async fn a_raw_subscription_gets_the_bytes() {
    let broker = broker();
    let runtime = runtime_of(&broker);
    let mut client = Client::open_with(&runtime, initial("p", "t1", &[("rawPayload", "true")])).await;
    broker.inject("t1", b"\x00\xff");
    let event = client.event().await;
    assert_eq!((event.id.as_str(), &event.data[..]), ("m0", &b"\x00\xff"[..]));
    assert_eq!(event.data_content_type, "application/octet-stream");
}

#[tokio::test]
async fn a_trace_context_travels_with_the_event() {
    let runtime = runtime_of(&broker());
    let mut client = Client::open(&runtime).await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (sent, arrives) in [(parent, true), ("00-xyz", false)] {
        let mut request = Request::new(PublishEventRequest {
            pubsub_name: "p".to_owned(),
            topic: "t1".to_owned(),
            ..PublishEventRequest::default()
        });
        request
            .metadata_mut()
            .insert("traceparent", sent.parse().unwrap());
        request
            .metadata_mut()
            .insert("tracestate", "vendor=1".parse().unwrap());
        publish_event(&runtime, request).await.unwrap();
        let metadata = client.event().await.metadata;
        assert_eq!(
            metadata.get("traceparent").is_some_and(|value| value == sent),
            arrives
        );
        assert_eq!(metadata.contains_key("tracestate"), arrives);
    }
}

#[tokio::test]
async fn a_stream_follows_its_component() {
    let before = broker();
    let slot = slot(Some(before.clone()));
    let runtime = runtime(slot.clone());
    let mut client = Client::open(&runtime).await;
    let after = broker();
    slot.fill(after.clone());
    while after.groups("t1").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let id = publish(&runtime, "x").await;
    assert_eq!(client.event().await.id, id);
}

/// Serves one connection; returns where.
async fn serve(runtime: &Arc<Runtime>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dispatch = Dispatch::new(Arc::clone(runtime), Options::default());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper_util::service::TowerToHyperService::new(dispatch);
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        connection.serve_connection(TokioIo::new(stream), service).await
    });
    format!("http://{address}")
}

async fn connect(address: String) -> RuntimeClient<Channel> {
    RuntimeClient::new(Channel::from_shared(address).unwrap().connect().await.unwrap())
}

/// Opens a stream over HTTP/2 and waits until the subscription is in place.
async fn open(
    client: &mut RuntimeClient<Channel>,
) -> (
    mpsc::Sender<SubscribeTopicEventsRequest>,
    Streaming<SubscribeTopicEventsResponse>,
) {
    let (requests, receiver) = mpsc::channel(16);
    requests
        .send(incoming(Incoming::InitialRequest(initial("p", "t1", &[]))))
        .await
        .unwrap();
    let events = client.subscribe_topic_events(ReceiverStream::new(receiver)).await;
    let mut events = events.unwrap().into_inner();
    events.message().await.unwrap().unwrap();
    (requests, events)
}

async fn next_event(events: &mut Streaming<SubscribeTopicEventsResponse>) -> TopicEventRequest {
    match events
        .message()
        .await
        .unwrap()
        .unwrap()
        .subscribe_topic_events_response_type
    {
        Some(Outgoing::EventMessage(event)) => event,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_held_back_by_http2() {
    let broker = broker();
    let runtime = runtime_of(&broker);
    let mut client = connect(serve(&runtime).await).await;
    let (requests, mut events) = open(&mut client).await;
    let payload = "x".repeat(256 << 10);
    for _ in 0..60 {
        publish(&runtime, &payload).await;
    }
    // A call on the same connection: what can flow has flowed when it is answered.
    let other = PublishEventRequest {
        pubsub_name: "p".to_owned(),
        topic: "other".to_owned(),
        ..PublishEventRequest::default()
    };
    client.publish_event(other).await.unwrap();
    // Flow-control windows and send buffers hold a few of the events, far from all.
    let taken = broker.counts().taken;
    assert!((1..20).contains(&taken), "{taken}");
    for _ in 0..60 {
        let event = next_event(&mut events).await;
        requests.send(processed(&event.id, None)).await.unwrap();
    }
    broker.until(|counts| counts.acked == 60).await;
    drop(requests);
    assert_eq!(events.message().await.unwrap(), None);
}

#[tokio::test]
async fn a_connection_that_breaks_releases_its_events() {
    let broker = broker();
    let runtime = runtime_of(&broker);
    let address = serve(&runtime).await;
    let client = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (subscribed, is_subscribed) = oneshot::channel();
    let (received, is_received) = oneshot::channel();
    client.spawn(async move {
        let mut client = connect(address).await;
        let (_requests, mut events) = open(&mut client).await;
        subscribed.send(()).unwrap();
        received.send(next_event(&mut events).await.id).unwrap();
        std::future::pending::<()>().await;
    });
    is_subscribed.await.unwrap();
    let id = publish(&runtime, "x").await;
    assert_eq!(is_received.await.unwrap(), id);
    client.shutdown_background();
    let mut next = Client::open(&runtime).await;
    assert_eq!(next.event().await.id, id);
}
