//! From a broker's message to the event the application gets.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use layotto_core::{Metadata, pubsub::Message};
use uuid::Uuid;

use super::{
    Envelope, FOREIGN_SOURCE, FOREIGN_TYPE, JSON, OCTET_STREAM, OWN_SOURCE, OWN_TYPE, SPEC_VERSION, Trace,
    media_type, name, parse,
};

/// An event, out of its envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The CloudEvent's id; the broker's where the envelope has none.
    pub id: String,
    /// Its source.
    pub source: String,
    /// Its type.
    pub kind: String,
    /// The version of CloudEvents.
    pub spec_version: String,
    /// The media type of `data`.
    pub content_type: String,
    /// The payload.
    pub data: Bytes,
    /// When it is worth nothing any more; `None` if never, or not a time.
    pub expiration: Option<DateTime<Utc>>,
    /// The trace it belongs to.
    pub trace: Trace,
    /// The topic the broker delivered it on.
    pub topic: String,
    /// What the broker says of it.
    pub metadata: Metadata,
}

/// Why a message is not an event.
#[derive(Debug, thiserror::Error)]
pub enum NotAnEvent {
    /// The message is not a JSON object.
    #[error("malformed event: {0}")]
    Json(#[from] serde_json::Error),
    /// `data_base64` is not base64.
    #[error("malformed data_base64 of the event: {0}")]
    Base64(#[from] base64::DecodeError),
}

impl Event {
    /// Opens the envelope in `message`. Attributes that are missing or of the wrong type get a
    /// default: a message that some other system put on the topic is no reason to fail.
    pub fn open(message: Message) -> Result<Self, NotAnEvent> {
        let envelope = parse(&message.data)?;
        // What the CloudEvents specification says of an absent `datacontenttype`.
        let content_type = envelope
            .text(name::CONTENT_TYPE)
            .unwrap_or_else(|| JSON.to_owned());
        let id = Some(envelope.id()).filter(|id| !id.is_empty());
        Ok(Self {
            id: id.unwrap_or_else(|| own_id(&message)),
            source: envelope
                .text(name::SOURCE)
                .unwrap_or_else(|| FOREIGN_SOURCE.to_owned()),
            kind: envelope
                .text(name::TYPE)
                .unwrap_or_else(|| FOREIGN_TYPE.to_owned()),
            spec_version: envelope
                .text(name::SPEC_VERSION)
                .unwrap_or_else(|| SPEC_VERSION.to_owned()),
            data: payload(&envelope, &content_type)?,
            content_type,
            expiration: envelope.text(name::EXPIRATION).as_deref().and_then(time),
            trace: Trace {
                parent: envelope.text(name::TRACE_PARENT).unwrap_or_default(),
                state: envelope.text(name::TRACE_STATE).unwrap_or_default(),
            },
            topic: message.topic,
            metadata: message.metadata,
        })
    }

    /// Takes `message` as it is, for a topic that carries no envelopes.
    pub fn raw(message: Message) -> Self {
        Self {
            id: own_id(&message),
            source: OWN_SOURCE.to_owned(),
            kind: OWN_TYPE.to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            content_type: OCTET_STREAM.to_owned(),
            data: message.data,
            expiration: None,
            trace: Trace::default(),
            topic: message.topic,
            metadata: message.metadata,
        }
    }

    /// Whether the event's time is over at `now`.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expiration.is_some_and(|expiration| expiration < now)
    }
}

/// The broker's id, which stays the same over redeliveries.
fn own_id(message: &Message) -> String {
    if message.id.is_empty() {
        Uuid::new_v4().to_string()
    } else {
        message.id.clone()
    }
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}

fn payload(envelope: &Envelope<'_>, content_type: &str) -> Result<Bytes, NotAnEvent> {
    if let Some(base64) = envelope.text(name::DATA_BASE64) {
        return Ok(BASE64_STANDARD.decode(base64)?.into());
    }
    let Some(data) = envelope.raw(name::DATA) else {
        return Ok(Bytes::new());
    };
    if media_type(content_type) == JSON {
        return Ok(Bytes::copy_from_slice(data.as_bytes()));
    }
    Ok(envelope.text(name::DATA).unwrap_or_default().into())
}
