//! Components over the life of a process: not built yet, reloaded, watched.

use std::time::Duration;

use layotto_proto::runtime::v1::{
    PublishEventRequest, SubscribeConfigurationRequest, SubscribeTopicEventsRequest,
    SubscribeTopicEventsRequestInitial,
    subscribe_topic_events_request::SubscribeTopicEventsRequestType as Incoming,
    subscribe_topic_events_response::SubscribeTopicEventsResponseType as Outgoing,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use crate::{
    golden::http,
    lifecycle::client,
    sidecar::{PATIENCE, Sidecar, config, free_port},
};

async fn get(port: u16, path: &str) -> Value {
    http::try_get(port, path).await.unwrap()["body_json"].clone()
}

async fn reload(actuator: u16, component: &str) -> Value {
    let path = format!("/actuator/components/{component}/reload");
    http::request(actuator, &json!({"method": "POST", "path": path})).await
}

#[tokio::test]
async fn what_is_not_built_yet_is_down_and_the_rest_works() {
    let folder = tempfile::tempdir().unwrap();
    let (port, actuator) = (free_port(), free_port());
    let sections = json!({
        "hellos": {"helloworld": {"type": "helloworld"}},
        "state": {"later": {"type": "mongodb", "metadata": {"host": "h:1"}}},
        "rpcs": {"mosn": {"config": {"channel": [{"protocol": "bolt", "listener": "127.0.0.1:1"}]}}},
    });
    let mut process = Sidecar::with_config(folder.path(), &config(port, actuator, &sections), &[]);
    assert!(process.wait_for_port(actuator), "{}", process.output());
    let readiness = http::try_get(actuator, "/actuator/health/readiness")
        .await
        .unwrap();
    assert_eq!(readiness["status"], 503);
    let parts = &readiness["body_json"]["components"];
    assert_eq!(readiness["body_json"]["status"], "INIT");
    assert_eq!(parts["hellos.helloworld"]["status"], "UP");
    for part in ["state.later", "rpcs.mosn"] {
        let reason = parts[part]["details"]["reason"].as_str().unwrap();
        assert!(reason.contains("not supported yet"), "{part}: {reason}");
    }
}

#[tokio::test]
async fn watched_configuration_is_listed_while_it_is_watched() {
    let folder = tempfile::tempdir().unwrap();
    let (port, actuator) = (free_port(), free_port());
    let sections = json!({"config_store": {"c": {"type": "in-memory", "metadata": {}}}});
    let mut process = Sidecar::with_config(folder.path(), &config(port, actuator, &sections), &[]);
    assert!(process.wait_for_port(actuator));
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let watch = SubscribeConfigurationRequest {
        store_name: "c".into(),
        app_id: "a".into(),
        keys: vec!["k".into()],
        ..Default::default()
    };
    sender.send(watch).await.unwrap();
    let mut caller = client(port).await;
    let answers = caller.subscribe_configuration(ReceiverStream::new(requests));
    let answers = answers.await.unwrap();
    let listed = json!([{"store": "c", "app_id": "a", "keys": ["k"]}]);
    wait_for_subscriptions(actuator, &listed).await;
    drop((sender, answers));
    wait_for_subscriptions(actuator, &json!([])).await;
}

async fn wait_for_subscriptions(actuator: u16, expected: &Value) {
    let listed = async {
        while get(actuator, "/actuator/info").await["configuration_subscriptions"] != *expected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, listed).await.unwrap();
}

async fn subscriptions_follow(type_name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (port, actuator) = (free_port(), free_port());
    let sections = json!({
        "app": {"app_id": "a"},
        "pub_subs": {"p": {"type": type_name, "metadata": {}}},
    });
    let mut process = Sidecar::with_config(folder.path(), &config(port, actuator, &sections), &[]);
    assert!(process.wait_for_port(actuator));
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let initial = SubscribeTopicEventsRequestInitial {
        pubsub_name: "p".into(),
        topic: "t".into(),
        ..Default::default()
    };
    let initial = SubscribeTopicEventsRequest {
        subscribe_topic_events_request_type: Some(Incoming::InitialRequest(initial)),
    };
    sender.send(initial).await.unwrap();
    let mut caller = client(port).await;
    let events = caller.subscribe_topic_events(ReceiverStream::new(requests));
    let mut events = events.await.unwrap().into_inner();
    let subscribed = events.next().await.unwrap().unwrap();
    assert!(matches!(
        subscribed.subscribe_topic_events_response_type,
        Some(Outgoing::InitialResponse(_))
    ));
    let done = reload(actuator, "pub_subs/p").await;
    assert_eq!(done["status"], 200, "{done}");

    // An in-memory broker has no group before the stream has followed, so that more than one event
    // may be needed; one that keeps groups gets the first.
    let publish = || PublishEventRequest {
        pubsub_name: "p".into(),
        topic: "t".into(),
        data: "after".into(),
        ..Default::default()
    };
    let mut publisher = client(port).await;
    let event = async {
        loop {
            publisher.publish_event(publish()).await.unwrap();
            let patience = Duration::from_millis(200);
            if let Ok(event) = tokio::time::timeout(patience, events.next()).await {
                return event.unwrap().unwrap();
            }
        }
    };
    let event = tokio::time::timeout(PATIENCE, event).await.unwrap();
    let Some(Outgoing::EventMessage(event)) = event.subscribe_topic_events_response_type else {
        panic!("{event:?}")
    };
    assert_eq!(event.data, &b"after"[..]);
    assert_eq!(
        get(actuator, "/actuator/info").await["subscriptions"],
        json!([{"pubsub": "p", "topic": "t", "mode": "compete"}])
    );
    process.signal(Signal::TERM);
    assert_eq!(process.wait_for_end().code(), Some(0), "{}", process.output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_follow_an_embedded_broker_that_is_reloaded() {
    subscriptions_follow("embedded").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_follow_an_in_memory_broker_that_is_reloaded() {
    subscriptions_follow("in-memory").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_on_a_store_that_is_reloaded_ends_and_does_not_fall_silent() {
    let folder = tempfile::tempdir().unwrap();
    let (port, actuator) = (free_port(), free_port());
    let sections = json!({"config_store": {"c": {"type": "embedded", "metadata": {}}}});
    let mut process = Sidecar::with_config(folder.path(), &config(port, actuator, &sections), &[]);
    assert!(process.wait_for_port(actuator));
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let watch = SubscribeConfigurationRequest {
        store_name: "c".into(),
        keys: vec!["k".into()],
        ..Default::default()
    };
    sender.send(watch).await.unwrap();
    let mut caller = client(port).await;
    let changes = caller.subscribe_configuration(ReceiverStream::new(requests));
    let mut changes = changes.await.unwrap().into_inner();
    wait_for_subscriptions(actuator, &json!([{"store": "c", "app_id": "", "keys": ["k"]}])).await;
    assert_eq!(reload(actuator, "config_store/c").await["status"], 200);
    let end = tokio::time::timeout(PATIENCE, changes.next()).await.unwrap();
    assert_eq!(end.unwrap().unwrap_err().code(), tonic::Code::Unavailable);
}
