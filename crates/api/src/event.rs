//! CloudEvents 1.0 in JSON: the envelope in which events cross a broker.
//!
//! Every attribute is kept as the text it arrived in, so numbers stay exact, keys keep their order,
//! and extensions nobody here knows pass through. [`publish`] makes envelopes, [`deliver`] opens
//! them.

pub mod deliver;
pub mod publish;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

/// Attribute names that more than one module uses.
mod name {
    pub(super) const ID: &str = "id";
    pub(super) const SPEC_VERSION: &str = "specversion";
    pub(super) const SOURCE: &str = "source";
    pub(super) const TYPE: &str = "type";
    pub(super) const CONTENT_TYPE: &str = "datacontenttype";
    pub(super) const TOPIC: &str = "topic";
    pub(super) const PUBSUB: &str = "pubsubname";
    pub(super) const TRACE_ID: &str = "traceid";
    pub(super) const TRACE_PARENT: &str = "traceparent";
    pub(super) const TRACE_STATE: &str = "tracestate";
    pub(super) const DATA: &str = "data";
    pub(super) const DATA_BASE64: &str = "data_base64";
    pub(super) const EXPIRATION: &str = "expiration";
}

const SPEC_VERSION: &str = "1.0";
/// Source and type of events that were published without an envelope of their own.
const OWN_SOURCE: &str = "runtime";
const OWN_TYPE: &str = "com.runtime.event.sent";
/// Source and type filled into the envelopes of others that lack them.
const FOREIGN_SOURCE: &str = "Dapr";
const FOREIGN_TYPE: &str = "com.dapr.event.sent";
const OCTET_STREAM: &str = "application/octet-stream";
const JSON: &str = "application/json";

/// W3C trace context, carried by the CloudEvents extension for distributed tracing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// `traceparent`; empty if there is none.
    pub parent: String,
    /// `tracestate`; empty if there is none.
    pub state: String,
}

/// A JSON object whose values are kept as text.
#[derive(Debug, Clone, Default)]
pub struct Envelope(Vec<(String, Box<RawValue>)>);

/// Reads an envelope: any JSON object is one.
pub fn parse(bytes: &[u8]) -> Result<Envelope, serde_json::Error> {
    serde_json::from_slice(bytes)
}

impl Envelope {
    /// The JSON text of `name`; `None` where it is absent or null.
    pub fn raw(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(key, _)| key == name)?;
        Some(value.get()).filter(|text| *text != "null")
    }

    /// Attribute `name` as text: a string's content, the JSON text of anything else.
    pub fn text(&self, name: &str) -> Option<String> {
        let raw = self.raw(name)?;
        Some(serde_json::from_str::<String>(raw).unwrap_or_else(|_| raw.to_owned()))
    }

    /// The id, empty where there is none.
    pub fn id(&self) -> String {
        self.text(name::ID).unwrap_or_default()
    }

    /// Sets `name` to a string.
    pub fn set(&mut self, name: &str, text: &str) {
        let value = serde_json::value::to_raw_value(text).expect("invariant: a string has a JSON form");
        self.set_raw(name.to_owned(), value);
    }

    fn set_raw(&mut self, name: String, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(key, _)| *key == name) {
            Some((_, current)) => *current = value,
            None => self.0.push((name, value)),
        }
    }

    fn set_if_absent(&mut self, name: &str, text: &str) {
        if self.raw(name).is_none() {
            self.set(name, text);
        }
    }

    /// The JSON text.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("invariant: strings and JSON texts have a JSON form")
    }
}

impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Attributes;
        impl<'de> Visitor<'de> for Attributes {
            type Value = Envelope;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
                let mut attributes: Vec<(String, Box<RawValue>)> = Vec::new();
                // A search through the attributes so far would let one message with a great many
                // of them keep a thread busy for minutes.
                let mut places = HashMap::new();
                while let Some((name, value)) = map.next_entry::<String, _>()? {
                    let place = *places.entry(name.clone()).or_insert(attributes.len());
                    match attributes.get_mut(place) {
                        Some((_, current)) => *current = value,
                        None => attributes.push((name, value)),
                    }
                }
                Ok(Envelope(attributes))
            }
        }
        deserializer.deserialize_map(Attributes)
    }
}

/// A media type without its parameters, in lower case.
fn media_type(content_type: &str) -> String {
    content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}
