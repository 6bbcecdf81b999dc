//! CloudEvents 1.0 in JSON: the envelope in which events cross a broker.
//!
//! Every attribute is kept as the text it arrived in, so numbers stay exact, keys keep their order,
//! and extensions nobody here knows pass through. [`publish`] makes envelopes, [`deliver`] opens
//! them.

pub mod deliver;
pub mod publish;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::HashMap, fmt};

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

/// A JSON object whose values are kept as they came.
#[derive(Debug, Clone, Default)]
pub struct Envelope<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

#[derive(Debug, Clone)]
enum Value<'a> {
    /// A JSON text.
    Json(&'a RawValue),
    /// The content of a string.
    Text(Cow<'a, str>),
}

/// Reads an envelope: any JSON object is one.
pub fn parse(bytes: &[u8]) -> Result<Envelope<'_>, serde_json::Error> {
    serde_json::from_slice(bytes)
}

impl<'a> Envelope<'a> {
    fn value(&self, name: &str) -> Option<&Value<'a>> {
        let (_, value) = self.0.iter().find(|(key, _)| key == name)?;
        Some(value).filter(|value| !matches!(value, Value::Json(json) if json.get() == "null"))
    }

    /// The JSON text of `name`; `None` where it is absent or null.
    pub fn raw(&self, name: &str) -> Option<Cow<'_, str>> {
        Some(match self.value(name)? {
            Value::Json(json) => json.get().into(),
            Value::Text(text) => serde_json::to_string(text)
                .expect("invariant: a string has a JSON form")
                .into(),
        })
    }

    /// Attribute `name` as text: a string's content, the JSON text of anything else.
    pub fn text(&self, name: &str) -> Option<String> {
        Some(match self.value(name)? {
            Value::Json(json) => serde_json::from_str(json.get()).unwrap_or_else(|_| json.get().to_owned()),
            Value::Text(text) => text.clone().into_owned(),
        })
    }

    /// The id, empty where there is none.
    pub fn id(&self) -> String {
        self.text(name::ID).unwrap_or_default()
    }

    /// Sets `name` to a string.
    pub fn set(&mut self, name: &'static str, text: impl Into<Cow<'a, str>>) {
        self.set_value(name, Value::Text(text.into()));
    }

    fn set_value(&mut self, name: &'static str, value: Value<'a>) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, current)) => *current = value,
            None => self.0.push((name.into(), value)),
        }
    }

    fn set_if_absent(&mut self, name: &'static str, text: &'a str) {
        if self.value(name).is_none() {
            self.set(name, text);
        }
    }

    /// The JSON text.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = |(name, value): &(Cow<'_, str>, Value<'_>)| {
            let value = match value {
                Value::Json(json) => json.get().len(),
                Value::Text(text) => text.len() + "\"\"".len(),
            };
            name.len() + value + "\"\":,".len()
        };
        // Without what is escaped.
        let mut bytes = Vec::with_capacity("{}".len() + self.0.iter().map(length).sum::<usize>());
        serde_json::to_writer(&mut bytes, self).expect("invariant: strings and JSON texts have a JSON form");
        bytes
    }
}

impl Serialize for Envelope<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            match value {
                Value::Json(json) => map.serialize_entry(name, json)?,
                Value::Text(text) => map.serialize_entry(name, text)?,
            }
        }
        map.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Envelope<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Attributes::default())
    }
}

/// The name of an attribute, where it stands if nothing in it is escaped.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Attributes on their way into an envelope; of those with one name, the last counts.
#[derive(Default)]
struct Attributes<'a> {
    found: Vec<(Cow<'a, str>, Value<'a>)>,
    /// Where each is, once there are many: a search through them would let one message with a great
    /// many keep a thread busy for minutes.
    places: HashMap<Cow<'a, str>, usize>,
}

impl<'a> Attributes<'a> {
    /// So many are searched.
    const FEW: usize = 32;

    fn add(&mut self, name: Cow<'a, str>, value: Value<'a>) {
        let next = self.found.len();
        let place = if next < Self::FEW {
            self.found.iter().position(|(known, _)| *known == name)
        } else {
            if self.places.is_empty() {
                let known = self.found.iter().enumerate();
                self.places
                    .extend(known.map(|(place, (name, _))| (name.clone(), place)));
            }
            let place = *self.places.entry(name.clone()).or_insert(next);
            Some(place).filter(|place| *place < next)
        };
        match place.and_then(|place| self.found.get_mut(place)) {
            Some((_, current)) => *current = value,
            None => self.found.push((name, value)),
        }
    }
}

impl<'de> Visitor<'de> for Attributes<'de> {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Envelope<'de>, A::Error> {
        while let Some((Name(name), json)) = map.next_entry()? {
            self.add(name, Value::Json(json));
        }
        Ok(Envelope(self.found))
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
