//! Publishes an event and delivers it: whatever the bytes, the payload arrives as it was sent.
//!
//! The first line of an input is the content type, the second the lifetime in seconds, the rest the
//! payload. The payload is also delivered by itself, as a message of some other system.

#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use layotto_api::event::{
    Envelope, Trace,
    deliver::{Event, NotAnEvent},
    parse,
    publish::{Context, envelope},
};
use layotto_core::{Metadata, pubsub::Message};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

const CLOUD_EVENT: &str = "application/cloudevents+json";
const NOW: i64 = 1_700_000_000;
const PUBSUB: &str = "broker";
const TOPIC: &str = "orders";

fuzz_target!(|input: &[u8]| {
    let (content_type, rest) = line(input);
    let (seconds, data) = line(rest);
    let content_type = String::from_utf8_lossy(content_type);
    let seconds = std::str::from_utf8(seconds)
        .ok()
        .and_then(|text| text.parse().ok());

    assert_eq!(Event::raw(message(data)).data, data);
    let foreign = Event::open(message(data));
    match publish(&content_type, data) {
        Err(_) => assert_eq!(media_type(&content_type), CLOUD_EVENT),
        Ok(published) if media_type(&content_type) == CLOUD_EVENT => adopted(&published, foreign),
        Ok(published) => wrapped(&published, &content_type, data),
    }
    if let Ok(published) = publish(&content_type, data) {
        expires(published, seconds.unwrap_or_default());
    }
});

/// The bytes up to the next line feed, and those after it.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

fn message(data: &[u8]) -> Message {
    Message {
        id: "broker-1".into(),
        topic: TOPIC.into(),
        data: Bytes::copy_from_slice(data),
        metadata: Metadata::new(),
        attempt: 1,
    }
}

fn publish<'a>(content_type: &'a str, data: &'a [u8]) -> Result<Envelope<'a>, serde_json::Error> {
    static TRACE: LazyLock<Trace> = LazyLock::new(|| Trace {
        parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        state: "vendor=1".into(),
    });
    let cx = Context {
        pubsub: PUBSUB,
        topic: TOPIC,
        trace: &TRACE,
    };
    envelope(cx, content_type, data)
}

/// An envelope that was made around `data`.
fn wrapped(published: &Envelope<'_>, content_type: &str, data: &[u8]) {
    let event = Event::open(message(&published.to_bytes())).expect("an envelope made here opens");
    let sent_as = if content_type.is_empty() {
        "text/plain"
    } else {
        content_type
    };
    assert_eq!(event.content_type, sent_as);
    assert_eq!(event.id, published.id());
    assert_eq!(event.data, arriving(sent_as, data));
}

/// What arrives of `data`: JSON loses the blanks around it, and `null` is no data; what calls itself
/// JSON and is none becomes a JSON string where it is text.
fn arriving(content_type: &str, data: &[u8]) -> Vec<u8> {
    if media_type(content_type) != "application/json" {
        return data.to_vec();
    }
    match (
        serde_json::from_slice::<&RawValue>(data),
        std::str::from_utf8(data),
    ) {
        (Ok(json), _) if json.get() == "null" => Vec::new(),
        (Ok(json), _) => json.get().into(),
        (Err(_), Ok(text)) => serde_json::to_vec(text).expect("a string has a JSON form"),
        (Err(_), Err(_)) => data.to_vec(),
    }
}

/// An envelope that is the publisher's own; `before` is what it says without the additions.
fn adopted(published: &Envelope<'_>, before: Result<Event, NotAnEvent>) {
    let bytes = published.to_bytes();
    let again = publish(CLOUD_EVENT, &bytes).expect("an envelope is a JSON object");
    assert_eq!(again.to_bytes(), bytes, "complete envelopes stay as they are");
    assert!(!published.id().is_empty());
    assert_eq!(published.text("topic").as_deref(), Some(TOPIC));
    assert_eq!(published.text("pubsubname").as_deref(), Some(PUBSUB));
    match (Event::open(message(&bytes)), before) {
        (Ok(event), Ok(before)) => {
            assert_eq!(event.data, before.data);
            assert_eq!(event.content_type, before.content_type);
            assert_eq!(event.source, before.source);
            assert_eq!(event.kind, before.kind);
        }
        (Err(NotAnEvent::Base64(_)), Err(NotAnEvent::Base64(_))) => {}
        (after, before) => panic!("{before:?} became {after:?}"),
    }
}

fn expires(mut published: Envelope<'_>, seconds: i64) {
    let now = DateTime::from_timestamp(NOW, 0).expect("a time of this century");
    let own = published.text("expiration");
    published.expire_after(seconds, now);
    let bytes = published.to_bytes();
    assert_eq!(
        parse(&bytes).expect("an envelope is a JSON object").to_bytes(),
        bytes
    );
    if seconds <= 0 {
        assert_eq!(published.text("expiration"), own);
        return;
    }
    let Ok(event) = Event::open(message(&bytes)) else {
        return;
    };
    if let Some(due) = due(now, seconds) {
        assert_eq!(event.expiration, Some(due));
        assert!(!event.is_expired(now));
        assert!(event.is_expired(due + TimeDelta::seconds(1)));
    }
}

/// `seconds` after `now`, where RFC 3339 can write it.
fn due(now: DateTime<Utc>, seconds: i64) -> Option<DateTime<Utc>> {
    let due = now.checked_add_signed(TimeDelta::try_seconds(seconds)?)?;
    (due.year() <= 9999).then_some(due)
}

/// A media type without its parameters, in lower case.
fn media_type(content_type: &str) -> String {
    let (kind, _) = content_type.split_once(';').unwrap_or((content_type, ""));
    kind.trim().to_ascii_lowercase()
}
