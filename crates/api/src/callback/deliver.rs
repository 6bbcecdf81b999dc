//! Deliveries by `OnTopicEvent`.

use std::sync::Arc;

use async_trait::async_trait;
use layotto_core::{
    Error,
    pubsub::{Handler, Message, Outcome},
};
use layotto_proto::runtime::v1::TopicEventRequest;
use tonic::{Code, Status};

use super::link::{Link, is_unsent};
use crate::{
    grpc::pubsub::{outcome, topic_event, topic_event_call},
    ops::pubsub,
};

/// Delivers the messages of one subscription. Sets no deadline of its own: the component's
/// `ackDeadline` drops a delivery that takes too long, which cancels the call.
pub(super) struct Delivery {
    link: Arc<Link>,
    pubsub: String,
    raw: bool,
}

impl Delivery {
    pub(super) fn new(link: Arc<Link>, pubsub: String, raw: bool) -> Self {
        Self { link, pubsub, raw }
    }

    async fn deliver(&self, event: &TopicEventRequest) -> Outcome {
        loop {
            let Some(connection) = self.link.connection().await else {
                return Outcome::Retry(Error::unavailable("the sidecar is shutting down"));
            };
            match connection
                .client
                .clone()
                .on_topic_event(topic_event_call(event))
                .await
            {
                Ok(response) => {
                    return outcome(
                        response.into_inner().status,
                        &self.pubsub,
                        &event.topic,
                        &event.id,
                    );
                }
                // The application never saw it: wait for the next connection, at no cost of an attempt.
                Err(status) if is_unsent(&status) => connection.lost.cancel(),
                Err(status) => return self.failed(event, &status),
            }
        }
    }

    fn failed(&self, event: &TopicEventRequest, status: &Status) -> Outcome {
        let TopicEventRequest { id, topic, .. } = event;
        if status.code() == Code::Unimplemented {
            let pubsub = &self.pubsub;
            tracing::warn!(target: "layotto::api", pubsub, topic, event = id, "dropped: the application does not take events");
            return Outcome::Drop;
        }
        let (code, message) = (status.code(), status.message());
        Outcome::Retry(Error::unavailable(format!(
            "error returned from app while processing pub/sub event {id}: {code:?}: {message}"
        )))
    }
}

#[async_trait]
impl Handler for Delivery {
    async fn handle(&self, message: Message) -> Outcome {
        match pubsub::receive(&self.pubsub, message, self.raw) {
            Ok(event) => self.deliver(&topic_event(event, &self.pubsub)).await,
            Err(outcome) => outcome,
        }
    }

    async fn ready(&self) {
        // At shutdown there is no connection to wait for, and no message to take either.
        drop(self.link.connection().await);
    }
}
