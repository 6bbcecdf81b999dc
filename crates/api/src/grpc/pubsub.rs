//! `PublishEvent`, `SubscribeTopicEvents`, and the messages that deliver events.

mod acks;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::Stream;
use layotto_core::{Error, pubsub::Outcome};
use layotto_proto::runtime::v1::{
    PublishEventRequest, SubscribeTopicEventsRequest, TopicEventRequest,
    topic_event_response::TopicEventResponseStatus,
};
use tonic::{
    Request, Response, Status,
    metadata::{MetadataMap, MetadataValue},
};

pub use self::stream::Events;
use crate::{
    Runtime,
    event::{Trace, deliver::Event},
    ops::pubsub::{self, Publication},
    status::from_error,
};

const MESSAGE_ID: &str = "layotto-message-id";
const TRACE_PARENT: &str = "traceparent";
const TRACE_STATE: &str = "tracestate";

/// `PublishEvent`; the message id is in the response's metadata.
pub async fn publish_event(
    runtime: &Runtime,
    request: Request<PublishEventRequest>,
) -> Result<Response<()>, Status> {
    let trace = trace(request.metadata());
    let request = request.into_inner();
    let publication = Publication {
        pubsub: request.pubsub_name,
        topic: request.topic,
        data: request.data,
        content_type: request.data_content_type,
        metadata: request.metadata,
        trace,
    };
    let id = pubsub::publish(runtime, publication)
        .await
        .map_err(|error| from_error(&error))?;
    let mut response = Response::new(());
    if let Some(Ok(id)) = id.map(MetadataValue::try_from) {
        response.metadata_mut().insert(MESSAGE_ID, id);
    }
    Ok(response)
}

/// `SubscribeTopicEvents` over `requests`, the client's messages.
pub async fn subscribe_topic_events<S>(runtime: Arc<Runtime>, requests: S) -> Result<Response<Events>, Status>
where
    S: Stream<Item = Result<SubscribeTopicEventsRequest, Status>> + Send + Unpin + 'static,
{
    stream::open(runtime, requests).await.map(Response::new)
}

/// The W3C trace context of a call; nothing where it is malformed.
fn trace(metadata: &MetadataMap) -> Trace {
    let text = |name: &str| {
        metadata
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let parent = text(TRACE_PARENT);
    if !is_trace_parent(parent) {
        return Trace::default();
    }
    Trace {
        parent: parent.to_owned(),
        state: text(TRACE_STATE).to_owned(),
    }
}

/// Whether `text` is version, trace id, parent id and flags in lower-case hexadecimal; a version
/// beyond 00 may add more (<https://www.w3.org/TR/trace-context/#traceparent-header>).
fn is_trace_parent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths = [2, 32, 16, 2];
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_known =
        parts.len() == lengths.len() || (parts.len() > lengths.len() && parts.first() != Some(&"00"));
    is_known
        && parts
            .iter()
            .zip(lengths)
            .all(|(part, length)| part.len() == length && is_hex(part))
}

/// The message that delivers `event` to the application. The trace is among the metadata, because
/// on a stream there is no other place for it.
pub(crate) fn topic_event(event: Event, pubsub: &str) -> TopicEventRequest {
    let mut metadata = event.metadata;
    for (name, value) in [
        (TRACE_PARENT, &event.trace.parent),
        (TRACE_STATE, &event.trace.state),
    ] {
        if !value.is_empty() {
            metadata.insert(name.to_owned(), value.clone());
        }
    }
    TopicEventRequest {
        id: event.id,
        source: event.source,
        r#type: event.kind,
        spec_version: event.spec_version,
        data_content_type: event.content_type,
        data: event.data,
        topic: event.topic,
        pubsub_name: pubsub.to_owned(),
        metadata,
    }
}

/// The call that delivers `event`, with its trace context as the call's.
pub(crate) fn topic_event_call(event: &TopicEventRequest) -> Request<TopicEventRequest> {
    let mut request = Request::new(event.clone());
    for name in [TRACE_PARENT, TRACE_STATE] {
        if let Some(Ok(value)) = event.metadata.get(name).map(MetadataValue::try_from) {
            request.metadata_mut().insert(name, value);
        }
    }
    request
}

/// What the application's verdict `status` on event `id` means to the broker.
pub(crate) fn outcome(status: i32, pubsub: &str, topic: &str, id: &str) -> Outcome {
    match TopicEventResponseStatus::try_from(status) {
        Ok(TopicEventResponseStatus::Success) => Outcome::Ack,
        Ok(TopicEventResponseStatus::Retry) => Outcome::Retry(Error::internal(format!(
            "RETRY status returned from app while processing pub/sub event {id}"
        ))),
        Ok(TopicEventResponseStatus::Drop) => {
            tracing::warn!(target: "layotto::api", pubsub, topic, event = id, "DROP status returned from app");
            Outcome::Drop
        }
        Err(_) => Outcome::Retry(Error::internal(format!(
            "unknown status returned from app while processing pub/sub event {id}: {status}"
        ))),
    }
}
