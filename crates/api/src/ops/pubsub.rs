//! Topics: publishes events, and keeps the subscriptions of the application.

#[cfg(test)]
pub(crate) mod fake;
mod listing;
mod live;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use chrono::Utc;
use layotto_core::{
    Error, Metadata, Result,
    pubsub::{Features, Message, Outcome, Publish},
};

pub use self::listing::{Listed, Mode, Subscriptions};
pub(crate) use self::live::Live;
use crate::{
    event::{Trace, deliver::Event, publish},
    runtime::{Runtime, component_error},
    status::REASON,
};

/// The configuration section of this kind, in error details.
pub(crate) const KIND: &str = "pub_subs";

const RAW_PAYLOAD: &str = "rawPayload";
const TTL: &str = "ttlInSeconds";
const DELAY: &str = "delayInSeconds";
const DEAD_LETTER_TOPIC: &str = "deadLetterTopic";

/// An event to publish.
#[derive(Debug, Clone, Default)]
pub struct Publication {
    /// The component.
    pub pubsub: String,
    /// The topic.
    pub topic: String,
    /// The payload.
    pub data: Bytes,
    /// Its media type.
    pub content_type: String,
    /// Options: `rawPayload`, `ttlInSeconds`, `delayInSeconds`, and the component's.
    pub metadata: Metadata,
    /// The trace the publisher works in.
    pub trace: Trace,
}

/// Publishes an event. Returns the broker's id of the message, else the CloudEvent's; `None` for a
/// raw message that the broker gives no id.
pub async fn publish(runtime: &Runtime, publication: Publication) -> Result<Option<String>> {
    let Publication {
        pubsub,
        topic,
        metadata,
        ..
    } = &publication;
    if pubsub.is_empty() {
        return Err(Error::invalid("pubsub name is empty"));
    }
    if topic.is_empty() {
        return Err(Error::invalid(format!("topic is empty in pubsub {pubsub}")));
    }
    let slot = runtime
        .components
        .pubsub
        .get(pubsub)
        .ok_or_else(|| not_found(runtime, pubsub))?;
    let shaped = |error: Error| {
        let text = format!("error when publish to topic {topic} in pubsub {pubsub}: {error}");
        component_error(KIND, pubsub, text, error)
    };
    let component = slot.get().map_err(shaped)?;
    let features = component.features();
    let (data, event_id) = payload(&publication, features)?;
    check_delay(metadata, features).map_err(shaped)?;
    let message = Publish {
        topic: topic.clone(),
        data,
        metadata: metadata.clone(),
    };
    let broker_id = component.publish(message).await.map_err(shaped)?;
    Ok(broker_id.filter(|id| !id.is_empty()).or(event_id))
}

/// Upstream answers INVALID_ARGUMENT here even where no pub/sub component is configured.
fn not_found(runtime: &Runtime, pubsub: &str) -> Error {
    let reason = if runtime.components.pubsub.is_empty() {
        "NOT_CONFIGURED"
    } else {
        "COMPONENT_NOT_FOUND"
    };
    Error::invalid(format!("pubsub {pubsub} not found")).with_detail(REASON, reason)
}

/// What goes to the broker, and the id of the event in it.
fn payload(publication: &Publication, features: Features) -> Result<(Bytes, Option<String>)> {
    if is_raw(&publication.metadata) {
        return Ok((publication.data.clone(), None));
    }
    let cx = publish::Context {
        pubsub: &publication.pubsub,
        topic: &publication.topic,
        trace: &publication.trace,
    };
    let mut envelope = publish::envelope(cx, &publication.content_type, &publication.data)
        .map_err(|error| Error::invalid(format!("cannot create cloudevent: {error}")))?;
    if !features.message_ttl
        && let Some(life) = life(&publication.metadata)
    {
        envelope.expire_after(life, Utc::now());
    }
    Ok((envelope.to_bytes().into(), Some(envelope.id())))
}

/// How many seconds from now an event lives: its life begins when it is due.
fn life(metadata: &Metadata) -> Option<i64> {
    let seconds = |name| metadata.get(name).and_then(|seconds| seconds.parse::<i64>().ok());
    let ttl = seconds(TTL).filter(|ttl| *ttl > 0)?;
    Some(ttl.saturating_add(seconds(DELAY).unwrap_or_default()))
}

fn check_delay(metadata: &Metadata, features: Features) -> Result<()> {
    let Some(delay) = metadata.get(DELAY) else {
        return Ok(());
    };
    match delay.parse::<u64>() {
        Ok(0) => Ok(()),
        Ok(_) if features.delayed => Ok(()),
        Ok(_) => Err(Error::unsupported(DELAY)),
        Err(_) => Err(Error::invalid(format!(
            "{DELAY} must be a whole number of seconds, not {delay:?}"
        ))),
    }
}

/// Whether messages carry no envelope. True is written as Go's `strconv.ParseBool` reads it.
pub(crate) fn is_raw(metadata: &Metadata) -> bool {
    let value = metadata.get(RAW_PAYLOAD).map(String::as_str);
    matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// The dead-letter topic that a subscription's metadata names; empty if none.
pub(crate) fn dead_letter_topic(metadata: &Metadata) -> String {
    metadata.get(DEAD_LETTER_TOPIC).cloned().unwrap_or_default()
}

/// The event in `message`; where it is not to be delivered, what becomes of the message.
pub(crate) fn receive(pubsub: &str, message: Message, raw: bool) -> Result<Event, Outcome> {
    if raw {
        return Ok(Event::raw(message));
    }
    let (topic, id) = (message.topic.clone(), message.id.clone());
    // A message that is no event never becomes one: it goes to the dead-letter topic at once, and
    // holds up no others of its partition.
    let event = Event::open(message).map_err(|error| {
        tracing::warn!(target: "layotto::api", pubsub, topic, message = id, %error, "message is not an event");
        Outcome::Drop
    })?;
    if event.is_expired(Utc::now()) {
        tracing::warn!(target: "layotto::api", pubsub, topic, event = event.id, "expired event dropped");
        return Err(Outcome::Ack);
    }
    Ok(event)
}
