//! From a payload and its content type to an envelope.

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    Envelope, FOREIGN_SOURCE, FOREIGN_TYPE, JSON, OCTET_STREAM, OWN_SOURCE, OWN_TYPE, SPEC_VERSION, Trace,
    Value, media_type, name, parse,
};

const CLOUD_EVENT: &str = "application/cloudevents+json";
const DEFAULT_CONTENT_TYPE: &str = "text/plain";

/// What an envelope says beyond the payload.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The component published to.
    pub pubsub: &'a str,
    /// The topic published to.
    pub topic: &'a str,
    /// The trace the publisher works in.
    pub trace: &'a Trace,
}

/// The envelope for `data`: made around it, or `data` itself where that is a CloudEvent already.
///
/// Fails where the content type announces a CloudEvent and `data` is not a JSON object.
pub fn envelope<'a>(
    cx: Context<'a>,
    content_type: &'a str,
    data: &'a [u8],
) -> Result<Envelope<'a>, serde_json::Error> {
    if media_type(content_type) == CLOUD_EVENT {
        return adopt(cx, data);
    }
    Ok(wrap(cx, content_type, data))
}

/// Completes a CloudEvent of the publisher's. Its own trace context wins over the call's.
fn adopt<'a>(cx: Context<'a>, data: &'a [u8]) -> Result<Envelope<'a>, serde_json::Error> {
    let mut envelope = parse(data)?;
    if envelope.id().is_empty() {
        envelope.set(name::ID, Uuid::new_v4().to_string());
    }
    envelope.set_if_absent(name::SOURCE, FOREIGN_SOURCE);
    envelope.set_if_absent(name::TYPE, FOREIGN_TYPE);
    envelope.set_if_absent(name::SPEC_VERSION, SPEC_VERSION);
    // Go Layotto writes an empty trace id, and its consumers may count on the attribute; the trace
    // context proper is in `traceparent`.
    envelope.set(name::TRACE_ID, "");
    envelope.set(name::TOPIC, cx.topic);
    envelope.set(name::PUBSUB, cx.pubsub);
    if envelope.value(name::TRACE_PARENT).is_none() {
        set_trace(&mut envelope, cx.trace);
    }
    Ok(envelope)
}

fn wrap<'a>(cx: Context<'a>, content_type: &'a str, data: &'a [u8]) -> Envelope<'a> {
    let content_type = if content_type.is_empty() {
        DEFAULT_CONTENT_TYPE
    } else {
        content_type
    };
    let mut envelope = Envelope::default();
    envelope.set(name::ID, Uuid::new_v4().to_string());
    envelope.set(name::SPEC_VERSION, SPEC_VERSION);
    envelope.set(name::SOURCE, OWN_SOURCE);
    envelope.set(name::TYPE, OWN_TYPE);
    envelope.set(name::CONTENT_TYPE, content_type);
    envelope.set(name::TOPIC, cx.topic);
    envelope.set(name::PUBSUB, cx.pubsub);
    envelope.set(name::TRACE_ID, "");
    set_trace(&mut envelope, cx.trace);
    set_data(&mut envelope, &media_type(content_type), data);
    envelope
}

fn set_trace<'a>(envelope: &mut Envelope<'a>, trace: &'a Trace) {
    if trace.parent.is_empty() {
        return;
    }
    envelope.set(name::TRACE_PARENT, trace.parent.as_str());
    if !trace.state.is_empty() {
        envelope.set(name::TRACE_STATE, trace.state.as_str());
    }
}

fn set_data<'a>(envelope: &mut Envelope<'a>, media_type: &str, data: &'a [u8]) {
    if media_type == JSON
        && let Ok(json) = serde_json::from_slice(data)
    {
        envelope.set_value(name::DATA, Value::Json(json));
        return;
    }
    match std::str::from_utf8(data) {
        Ok(text) if media_type != OCTET_STREAM => envelope.set(name::DATA, text),
        _ => envelope.set(name::DATA_BASE64, BASE64_STANDARD.encode(data)),
    }
}

impl Envelope<'_> {
    /// Makes the event expire `seconds` after `now`; a number that is not positive, or beyond any
    /// calendar, changes nothing.
    pub fn expire_after(&mut self, seconds: i64, now: DateTime<Utc>) {
        let lifetime = TimeDelta::try_seconds(seconds).filter(|lifetime| *lifetime > TimeDelta::zero());
        if let Some(expiration) = lifetime.and_then(|lifetime| now.checked_add_signed(lifetime)) {
            self.set(
                name::EXPIRATION,
                expiration.to_rfc3339_opts(SecondsFormat::Secs, true),
            );
        }
    }
}
