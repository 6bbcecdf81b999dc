//! A function that uses lock, sequencer, configuration and publish/subscribe of the runtime.

use futures::StreamExt;
use layotto_proto::runtime::v1::{
    ConfigurationItem, SaveConfigurationRequest, SubscribeTopicEventsRequest,
    SubscribeTopicEventsRequestInitial, SubscribeTopicEventsResponse, TryLockRequest, UnlockRequest,
    subscribe_topic_events_request::SubscribeTopicEventsRequestType as Incoming,
    subscribe_topic_events_response::SubscribeTopicEventsResponseType as Outgoing,
};
use tokio_stream::wrappers::ReceiverStream;

use super::{Functions, put_example};
use crate::{lifecycle::client, sidecar::PATIENCE};

fn run(allow: &str) -> Functions {
    Functions::run(&format!("orders.wasm --allow {allow}"), |folder| {
        put_example(folder, "rust-orders", "orders");
    })
}

const ALL: &str = "TryLock,Unlock,GetNextId,GetConfiguration,PublishEvent";

/// What is published to the topic from now on; the sender keeps it open.
async fn events(
    functions: &Functions,
) -> (
    tokio::sync::mpsc::Sender<SubscribeTopicEventsRequest>,
    tonic::Streaming<SubscribeTopicEventsResponse>,
) {
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let initial = SubscribeTopicEventsRequestInitial {
        pubsub_name: "pub_subs_demo".to_owned(),
        topic: "orders".to_owned(),
        ..SubscribeTopicEventsRequestInitial::default()
    };
    let initial = SubscribeTopicEventsRequest {
        subscribe_topic_events_request_type: Some(Incoming::InitialRequest(initial)),
    };
    sender.send(initial).await.unwrap();
    let mut client = client(functions.api).await;
    let events = client.subscribe_topic_events(ReceiverStream::new(requests));
    let mut events = events.await.unwrap().into_inner();
    let subscribed = events.next().await.unwrap().unwrap();
    assert!(matches!(
        subscribed.subscribe_topic_events_response_type,
        Some(Outgoing::InitialResponse(_))
    ));
    (sender, events)
}

#[tokio::test]
async fn an_order_is_numbered_thanked_for_and_published() {
    let functions = run(ALL);
    let item = ConfigurationItem {
        key: "thanks".to_owned(),
        content: "Cheers".to_owned(),
        ..ConfigurationItem::default()
    };
    let save = SaveConfigurationRequest {
        store_name: "config_demo".to_owned(),
        app_id: "orders".to_owned(),
        items: vec![item],
        ..SaveConfigurationRequest::default()
    };
    let mut client = client(functions.api).await;
    client.save_configuration(save).await.unwrap();
    let (_open, mut events) = events(&functions).await;
    assert_eq!(
        functions.ask("orders", "apples").await.text(),
        "Cheers: order 1 of apples"
    );
    let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap();
    let event = event.unwrap().unwrap().subscribe_topic_events_response_type;
    let Some(Outgoing::EventMessage(event)) = event else {
        panic!("{event:?}")
    };
    let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
    assert_eq!(data, serde_json::json!({"order": 1, "goods": "apples"}));
    assert_eq!(
        functions.ask("orders", "pears").await.text(),
        "Cheers: order 2 of pears"
    );
}

#[tokio::test]
async fn a_lock_that_another_holds_is_respected() {
    let functions = run(ALL);
    let mut client = client(functions.api).await;
    let lock = TryLockRequest {
        store_name: "lock_demo".to_owned(),
        resource_id: "apples".to_owned(),
        lock_owner: "somebody".to_owned(),
        expire: 60,
    };
    assert!(client.try_lock(lock).await.unwrap().into_inner().success);
    assert_eq!(functions.ask("orders", "apples").await.status, 409);
    assert_eq!(functions.ask("orders", "pears").await.status, 200, "another lock");
    let unlock = UnlockRequest {
        store_name: "lock_demo".to_owned(),
        resource_id: "apples".to_owned(),
        lock_owner: "somebody".to_owned(),
    };
    client.unlock(unlock).await.unwrap();
    assert_eq!(functions.ask("orders", "apples").await.status, 200);
}

#[tokio::test]
async fn what_it_may_not_call_fails_and_is_logged() {
    let mut functions = run("TryLock,Unlock");
    let reply = functions.ask("orders", "apples").await;
    assert_eq!(
        (reply.status.as_u16(), reply.text().as_str()),
        (502, "layotto.GetNextId failed")
    );
    functions.wait_for_log("the function's settings do not allow");
}
