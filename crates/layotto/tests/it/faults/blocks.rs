//! The traits of the building blocks, over gRPC.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use layotto_core::{
    Component, Error, Metadata, Result,
    lock::{Grant, LockStore, Owned, Status},
    pubsub::{self, Handler, Message, Outcome, PubSub, Publish, Subscribe, Subscription},
    state::{self, Concurrency, Delete, Get, Item, Set, StateStore},
};
use layotto_proto::runtime::v1::{
    Etag, GetNextIdRequest, GetStateRequest, LockKeepAliveRequest, PublishEventRequest, SaveStateRequest,
    SequencerOptions, StateItem, StateOptions, SubscribeTopicEventsRequest,
    SubscribeTopicEventsRequestInitial, SubscribeTopicEventsRequestProcessed, TopicEventRequest,
    TopicEventResponse, TryLockRequest, UnlockRequest,
    state_options::{StateConcurrency, StateConsistency},
    subscribe_topic_events_request::SubscribeTopicEventsRequestType as Incoming,
    subscribe_topic_events_response::SubscribeTopicEventsResponseType as Outgoing,
    topic_event_response::TopicEventResponseStatus,
};
use layotto_testkit::load::Ids;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;

use super::remote::{Client, Remote};

/// The name of every component.
pub const STORE: &str = "store";
/// Between two tries to subscribe again.
const PAUSE: Duration = Duration::from_millis(50);

impl Component for Remote {}

fn token(metadata: &MetadataMap) -> Option<u64> {
    metadata.get("layotto-fencing-token")?.to_str().ok()?.parse().ok()
}

/// Both answers have the same numbers.
fn status(number: i32) -> Status {
    match number {
        0 => Status::Success,
        1 => Status::Unexist,
        2 => Status::BelongsToOthers,
        _ => Status::InternalError,
    }
}

fn seconds(lease: Duration) -> i32 {
    i32::try_from(lease.as_secs()).unwrap()
}

#[async_trait]
impl LockStore for Remote {
    async fn try_lock(&self, lock: &Owned, expire: Duration) -> Result<Grant> {
        let message = TryLockRequest {
            store_name: STORE.into(),
            resource_id: lock.resource.0.clone(),
            lock_owner: lock.owner.clone(),
            expire: seconds(expire),
        };
        let call = |mut client: Client, request| async move { client.try_lock(request).await };
        let answer = self.call("TryLock", message, call).await?;
        let fencing_token = token(answer.metadata());
        Ok(match answer.into_inner().success {
            true => Grant::Acquired { fencing_token },
            false => Grant::Busy,
        })
    }

    async fn unlock(&self, lock: &Owned) -> Result<Status> {
        let message = UnlockRequest {
            store_name: STORE.into(),
            resource_id: lock.resource.0.clone(),
            lock_owner: lock.owner.clone(),
        };
        let call = |mut client: Client, request| async move { client.unlock(request).await };
        let answer = self.call("Unlock", message, call).await?;
        Ok(status(answer.into_inner().status))
    }

    async fn keep_alive(&self, lock: &Owned, expire: Duration) -> Result<(Status, Option<u64>)> {
        let message = LockKeepAliveRequest {
            store_name: STORE.into(),
            resource_id: lock.resource.0.clone(),
            lock_owner: lock.owner.clone(),
            expire: seconds(expire),
        };
        let call = |mut client: Client, request| async move { client.lock_keep_alive(request).await };
        let answer = self.call("LockKeepAlive", message, call).await?;
        let token = token(answer.metadata());
        Ok((status(answer.into_inner().status), token))
    }
}

#[async_trait]
impl Ids for Remote {
    async fn draw(&self, key: &str, strong: bool) -> Result<Vec<i64>> {
        let message = GetNextIdRequest {
            store_name: STORE.into(),
            key: key.into(),
            options: Some(SequencerOptions {
                increment: i32::from(strong),
            }),
            ..Default::default()
        };
        let call = |mut client: Client, request| async move { client.get_next_id(request).await };
        let answer = self.call("GetNextId", message, call).await?;
        Ok(vec![answer.into_inner().next_id])
    }
}

#[async_trait]
impl StateStore for Remote {
    fn features(&self) -> state::Features {
        state::Features {
            etag: true,
            ..Default::default()
        }
    }

    async fn get(&self, request: &Get) -> Result<Option<Item>> {
        let message = GetStateRequest {
            store_name: STORE.into(),
            key: request.key.0.clone(),
            consistency: StateConsistency::ConsistencyStrong.into(),
            ..Default::default()
        };
        let call = |mut client: Client, request| async move { client.get_state(request).await };
        let answer = self.call("GetState", message, call).await?.into_inner();
        let item = Item {
            value: answer.data,
            etag: Some(answer.etag).filter(|etag| !etag.is_empty()),
            metadata: answer.metadata,
        };
        // No value that is written is empty.
        Ok(Some(item).filter(|item| !item.value.is_empty()))
    }

    async fn set(&self, request: Set) -> Result<()> {
        let concurrency = match request.options.concurrency {
            Concurrency::FirstWrite => StateConcurrency::ConcurrencyFirstWrite,
            _ => StateConcurrency::ConcurrencyLastWrite,
        };
        let item = StateItem {
            key: request.key.0,
            value: request.value,
            etag: request.etag.map(|value| Etag { value }),
            options: Some(StateOptions {
                concurrency: concurrency.into(),
                consistency: StateConsistency::ConsistencyStrong.into(),
            }),
            ..Default::default()
        };
        let message = SaveStateRequest {
            store_name: STORE.into(),
            states: vec![item],
        };
        let call = |mut client: Client, request| async move { client.save_state(request).await };
        self.call("SaveState", message, call).await.map(drop)
    }

    async fn delete(&self, _: Delete) -> Result<()> {
        Err(Error::unsupported("a removal"))
    }
}

#[async_trait]
impl PubSub for Remote {
    fn features(&self) -> pubsub::Features {
        pubsub::Features::default()
    }

    async fn publish(&self, message: Publish) -> Result<Option<String>> {
        let message = PublishEventRequest {
            pubsub_name: STORE.into(),
            topic: message.topic,
            data: message.data,
            data_content_type: "text/plain".into(),
            metadata: message.metadata,
        };
        let call = |mut client: Client, request| async move { client.publish_event(request).await };
        self.call("PublishEvent", message, call).await.map(|_| None)
    }

    /// The stream is opened anew where it ends; the first one is there when this returns.
    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        let token = CancellationToken::new();
        let (mut client, ended) = (self.client(), token.clone());
        let mut stream = open(&mut client, &subscribe.topic).await;
        tokio::spawn(ended.run_until_cancelled_owned(async move {
            loop {
                if let Ok(stream) = stream {
                    follow(stream, &subscribe.handler).await;
                }
                tokio::time::sleep(PAUSE).await;
                stream = open(&mut client, &subscribe.topic).await;
            }
        }));
        Ok(Subscription::new(token))
    }
}

type Stream = (
    mpsc::Sender<SubscribeTopicEventsRequest>,
    tonic::Streaming<layotto_proto::runtime::v1::SubscribeTopicEventsResponse>,
);

fn incoming(message: Incoming) -> SubscribeTopicEventsRequest {
    SubscribeTopicEventsRequest {
        subscribe_topic_events_request_type: Some(message),
    }
}

async fn open(client: &mut Client, topic: &str) -> Result<Stream, tonic::Status> {
    let (sender, requests) = mpsc::channel(64);
    let initial = SubscribeTopicEventsRequestInitial {
        pubsub_name: STORE.into(),
        topic: topic.into(),
        ..Default::default()
    };
    let queued = sender.send(incoming(Incoming::InitialRequest(initial))).await;
    queued.expect("invariant: the receiver is there");
    let events = client
        .subscribe_topic_events(ReceiverStream::new(requests))
        .await?;
    let mut events = events.into_inner();
    // The confirmation.
    events.message().await?;
    Ok((sender, events))
}

/// Handles events, several at once, until the stream ends.
async fn follow((sender, mut events): Stream, handler: &Arc<dyn Handler>) {
    while let Ok(Some(event)) = events.message().await {
        if let Some(Outgoing::EventMessage(event)) = event.subscribe_topic_events_response_type {
            tokio::spawn(handle(event, handler.clone(), sender.clone()));
        }
    }
}

async fn handle(
    event: TopicEventRequest,
    handler: Arc<dyn Handler>,
    sender: mpsc::Sender<SubscribeTopicEventsRequest>,
) {
    let message = Message {
        id: event.id.clone(),
        topic: event.topic,
        data: event.data,
        metadata: Metadata::new(),
        attempt: 1,
    };
    let status = match handler.handle(message).await {
        Outcome::Ack => TopicEventResponseStatus::Success,
        Outcome::Retry(_) => TopicEventResponseStatus::Retry,
        Outcome::Drop => TopicEventResponseStatus::Drop,
    };
    let processed = SubscribeTopicEventsRequestProcessed {
        id: event.id,
        status: Some(TopicEventResponse {
            status: status.into(),
        }),
    };
    // The stream may be gone: the event comes again then.
    drop(sender.send(incoming(Incoming::EventProcessed(processed))).await);
}
