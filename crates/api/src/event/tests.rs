use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use layotto_core::{Metadata, pubsub::Message};
use proptest::prelude::*;

use super::{
    Trace,
    deliver::Event,
    parse,
    publish::{Context, envelope},
};

fn message(data: impl Into<Bytes>) -> Message {
    Message {
        id: "broker-1".into(),
        topic: "t1".into(),
        data: data.into(),
        metadata: Metadata::new(),
        attempt: 1,
    }
}

static NO_TRACE: Trace = Trace {
    parent: String::new(),
    state: String::new(),
};

fn publish<'a>(content_type: &'a str, data: &'a [u8]) -> super::Envelope<'a> {
    envelope(
        Context {
            pubsub: "p",
            topic: "t1",
            trace: &NO_TRACE,
        },
        content_type,
        data,
    )
    .unwrap()
}

fn delivered(content_type: &str, data: &[u8]) -> Event {
    Event::open(message(publish(content_type, data).to_bytes())).unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_payload_is_wrapped_with_upstreams_attributes() {
    let envelope = publish("", b"hello");
    let id = envelope.id();
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 4);
    let expected = format!(
        r#"{{"id":"{id}","specversion":"1.0","source":"runtime","type":"com.runtime.event.sent","datacontenttype":"text/plain","topic":"t1","pubsubname":"p","traceid":"","data":"hello"}}"#
    );
    assert_eq!(text(&envelope.to_bytes()), expected);
}

#[test]
fn json_keeps_numbers_order_and_layout() {
    let json = br#"{"f":1.23456789, "i":9007199254740993,"e":1e20,"z":1.0,"u":"\u2028<b>","a":{}}"#;
    let event = delivered("Application/JSON; charset=utf-8", json);
    assert_eq!(text(&event.data), text(json));
    assert_eq!(event.content_type, "Application/JSON; charset=utf-8");
}

#[test]
fn what_is_not_json_arrives_as_a_json_string() {
    assert_eq!(
        text(&delivered("application/json", br#"{"a":"#).data),
        r#""{\"a\":""#
    );
    assert_eq!(text(&delivered("application/json", b"").data), r#""""#);
}

#[test]
fn null_arrives_as_no_data() {
    assert!(delivered("application/json", b"null").data.is_empty());
}

#[test]
fn only_what_is_no_text_travels_as_base64() {
    assert_eq!(
        publish("application/octet-stream", b"abc")
            .raw("data_base64")
            .as_deref(),
        Some(r#""YWJj""#)
    );
    assert_eq!(
        publish("application/x-thing", b"\xff\0")
            .raw("data_base64")
            .as_deref(),
        Some(r#""/wA=""#)
    );
    assert_eq!(
        publish("application/x-thing", b"abc").raw("data").as_deref(),
        Some(r#""abc""#)
    );
}

#[test]
fn a_cloud_event_keeps_its_extensions_and_is_addressed_anew() {
    let event =
        br#"{"id":"e1","source":"src","type":"t","ext1":{"deep":1.50},"topic":"wrong","traceid":"tt"}"#;
    let envelope = publish("application/cloudevents+json; charset=utf-8", event);
    assert_eq!(
        text(&envelope.to_bytes()),
        r#"{"id":"e1","source":"src","type":"t","ext1":{"deep":1.50},"topic":"t1","traceid":"","specversion":"1.0","pubsubname":"p"}"#
    );
}

#[test]
fn a_cloud_event_without_id_and_origin_gets_them() {
    let envelope = publish("application/cloudevents+json", br#"{"source":null,"data":"x"}"#);
    assert!(!envelope.id().is_empty());
    assert_eq!(envelope.text("source").as_deref(), Some("Dapr"));
    assert_eq!(envelope.text("type").as_deref(), Some("com.dapr.event.sent"));
}

#[test]
fn a_cloud_event_must_be_an_object() {
    let trace = Trace::default();
    for data in ["null", "[]", "1", "", r#"{"a":"#, r#"{"a":1} x"#] {
        let cx = Context {
            pubsub: "p",
            topic: "t",
            trace: &trace,
        };
        assert!(
            envelope(cx, "application/cloudevents+json", data.as_bytes()).is_err(),
            "{data}"
        );
    }
}

#[test]
fn the_trace_of_the_call_travels_unless_the_event_has_its_own() {
    let trace = Trace {
        parent: "00-aa-bb-01".into(),
        state: "v=1".into(),
    };
    let cx = Context {
        pubsub: "p",
        topic: "t",
        trace: &trace,
    };
    let wrapped = envelope(cx, "text/plain", b"x").unwrap();
    assert_eq!(Event::open(message(wrapped.to_bytes())).unwrap().trace, trace);
    let own = envelope(cx, "application/cloudevents+json", br#"{"traceparent":"mine"}"#).unwrap();
    let expected = Trace {
        parent: "mine".into(),
        state: String::new(),
    };
    assert_eq!(Event::open(message(own.to_bytes())).unwrap().trace, expected);
}

#[test]
fn an_event_expires_after_its_lifetime() {
    let now: DateTime<Utc> = "2026-01-02T03:04:05.9Z".parse().unwrap();
    let mut envelope = publish("text/plain", b"x");
    envelope.expire_after(60, now);
    assert_eq!(
        envelope.text("expiration").as_deref(),
        Some("2026-01-02T03:05:05Z")
    );
    let event = Event::open(message(envelope.to_bytes())).unwrap();
    assert!(!event.is_expired(now));
    assert!(event.is_expired(now + TimeDelta::seconds(61)));
}

#[test]
fn a_lifetime_that_is_none_changes_nothing() {
    let mut envelope = publish("text/plain", b"x");
    for seconds in [0, -1, i64::MIN, i64::MAX] {
        envelope.expire_after(seconds, Utc::now());
    }
    assert_eq!(envelope.raw("expiration"), None);
}

// deviation: D017
#[test]
fn what_an_envelope_lacks_gets_a_default() {
    let event = Event::open(message(r#"{"data":{"a": 1},"expiration":"soon"}"#)).unwrap();
    let expected = Event {
        id: "broker-1".into(),
        source: "Dapr".into(),
        kind: "com.dapr.event.sent".into(),
        spec_version: "1.0".into(),
        content_type: "application/json".into(),
        data: Bytes::from_static(br#"{"a": 1}"#),
        expiration: None,
        trace: Trace::default(),
        topic: "t1".into(),
        metadata: Metadata::new(),
    };
    assert_eq!(event, expected);
}

#[test]
fn attributes_of_the_wrong_type_are_taken_as_text() {
    let event = Event::open(message(
        r#"{"id":7,"source":{},"datacontenttype":"text/plain","data":[1, 2]}"#,
    ))
    .unwrap();
    assert_eq!(
        (event.id.as_str(), event.source.as_str(), text(&event.data)),
        ("7", "{}", "[1, 2]")
    );
}

#[test]
fn what_is_no_event_is_refused() {
    for data in [
        "",
        "null",
        "plain",
        "[1]",
        r#"{"data_base64":"***"}"#,
        "{\"id\":\"\u{fffd}",
    ] {
        assert!(Event::open(message(data)).is_err(), "{data}");
    }
}

#[test]
fn the_last_of_two_values_counts() {
    let envelope = parse(br#"{"a":1,"b":2,"a":3}"#).unwrap();
    assert_eq!(text(&envelope.to_bytes()), r#"{"a":3,"b":2}"#);
    // However many there are, and however their names are written.
    for many in [30, 31, 32, 33, 100] {
        let others: Vec<_> = (0..many).map(|i| format!(r#""k{i}":{i}"#)).collect();
        let others = others.join(",");
        let object = format!(r#"{{"a":1,{others},"k7":"other","\u0061":2,"b":[],"b":3}}"#);
        let expected = format!(r#"{{"a":2,{others},"b":3}}"#).replace(r#""k7":7"#, r#""k7":"other""#);
        assert_eq!(text(&parse(object.as_bytes()).unwrap().to_bytes()), expected);
    }
}

#[test]
fn many_attributes_are_read_in_time() {
    let attributes: Vec<_> = (0..200_000).map(|i| format!(r#""k{i:06}":{i}"#)).collect();
    let object = format!("{{{}}}", attributes.join(","));
    let start = Instant::now();
    let envelope = parse(object.as_bytes()).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(envelope.raw("k199999").as_deref(), Some("199999"));
}

#[test]
fn a_raw_message_keeps_its_bytes_and_the_brokers_id() {
    let event = Event::raw(message(&b"\x00\xff"[..]));
    assert_eq!(
        (event.id.as_str(), event.content_type.as_str()),
        ("broker-1", "application/octet-stream")
    );
    assert_eq!(event.data, &b"\x00\xff"[..]);
}

const CONTENT_TYPES: &[&str] = &[
    "",
    "text/plain",
    "text/html; charset=utf-8",
    "application/xml",
    "application/octet-stream",
    "application/x-thing",
    "application/vnd.a+json",
    "IMAGE/png",
];

fn jsonish() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        proptest::collection::vec(
            proptest::sample::select(br#"{}[]":,\u019eE+-. tfnullaisd"#.to_vec()),
            0..40
        ),
        any::<String>().prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn parse_never_panics(data in jsonish()) {
        if let Ok(envelope) = parse(&data) {
            prop_assert!(parse(&envelope.to_bytes()).is_ok());
        }
        let _opened = Event::open(message(data));
    }

    #[test]
    fn any_payload_arrives_as_it_was_published(
        data in jsonish(),
        content_type in proptest::sample::select(CONTENT_TYPES),
    ) {
        let event = delivered(content_type, &data);
        prop_assert_eq!(&event.data[..], &data[..]);
    }

    #[test]
    fn any_json_payload_arrives_as_json_or_as_its_own_bytes(data in jsonish()) {
        let event = delivered("application/json", &data);
        let json = serde_json::from_slice::<&serde_json::value::RawValue>(&data).map(|value| value.get());
        match (json, std::str::from_utf8(&data)) {
            (Ok("null"), _) => prop_assert!(event.data.is_empty()),
            (Ok(json), _) => prop_assert_eq!(&event.data[..], json.as_bytes()),
            (Err(_), Ok(text)) => {
                prop_assert_eq!(serde_json::from_slice::<String>(&event.data).unwrap(), text);
            }
            (Err(_), Err(_)) => prop_assert_eq!(&event.data[..], &data[..]),
        }
    }
}
