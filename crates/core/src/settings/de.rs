//! The lenient deserialiser: JSON values in, typed fields out, with the path of what does not fit.

use std::{cell::RefCell, fmt, str::FromStr};

use serde::{
    de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor, value::StrDeserializer},
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};

use super::Parsed;

/// A setting that does not fit: where, and what would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// Path from the component's settings, such as `basic_config.endpoint`; empty for the whole.
    pub path: String,
    /// What is wrong and what is accepted. Names no value: it may be a secret.
    pub message: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl std::error::Error for SettingsError {}

impl de::Error for SettingsError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: String::new(),
            message: message.to_string(),
        }
    }
}

impl SettingsError {
    fn at(mut self, path: &str) -> Self {
        if self.path.is_empty() {
            path.clone_into(&mut self.path);
        }
        self
    }
}

pub(super) fn parse<T: DeserializeOwned>(map: &Map<String, Value>) -> Result<Parsed<T>, SettingsError> {
    let unknown = RefCell::new(Vec::new());
    let config = T::deserialize(Object {
        map,
        path: String::new(),
        unknown: &unknown,
    })?;
    Ok(Parsed {
        config,
        unknown: unknown.into_inner(),
    })
}

#[derive(Clone)]
struct Object<'a> {
    map: &'a Map<String, Value>,
    path: String,
    unknown: &'a RefCell<Vec<String>>,
}

impl<'de> de::Deserializer<'de> for Object<'_> {
    type Error = SettingsError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        visitor.visit_map(Entries {
            iter: self.map.iter(),
            value: None,
            path: self.path,
            unknown: self.unknown,
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Entries<'a> {
    iter: serde_json::map::Iter<'a>,
    value: Option<(&'a str, &'a Value)>,
    path: String,
    unknown: &'a RefCell<Vec<String>>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = SettingsError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, SettingsError> {
        let Some((key, value)) = self.iter.next() else {
            return Ok(None);
        };
        self.value = Some((key, value));
        let key: StrDeserializer<'_, SettingsError> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, SettingsError> {
        let (key, value) = self
            .value
            .take()
            .ok_or_else(|| de::Error::custom("value before key"))?;
        let path = join(&self.path, key);
        seed.deserialize(Node {
            value,
            path: path.clone(),
            unknown: self.unknown,
        })
        .map_err(|e| e.at(&path))
    }
}

#[derive(Clone)]
struct Node<'a> {
    value: &'a Value,
    path: String,
    unknown: &'a RefCell<Vec<String>>,
}

impl Node<'_> {
    fn refuse(&self, accepted: &str) -> SettingsError {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        let message = format!("found {found}, expected {accepted}");
        SettingsError {
            path: self.path.clone(),
            message,
        }
    }

    fn number<T: FromStr>(&self, accepted: &str) -> Result<T, SettingsError> {
        let text = match self.value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.trim().to_owned(),
            _ => return Err(self.refuse(accepted)),
        };
        text.parse().map_err(|_| {
            let message = format!("expected {accepted}");
            SettingsError {
                path: self.path.clone(),
                message,
            }
        })
    }

    fn boolean(&self) -> Result<bool, SettingsError> {
        const ACCEPTED: &str = "true or false";
        match self.value {
            Value::Bool(value) => Ok(*value),
            // The spellings of Go's strconv.ParseBool.
            Value::String(text) => match text.trim() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => Err(SettingsError {
                    path: self.path.clone(),
                    message: format!("expected {ACCEPTED}"),
                }),
            },
            _ => Err(self.refuse(ACCEPTED)),
        }
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty, $accepted:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
            visitor.$visit(self.number::<$type>($accepted)?)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Node<'_> {
    type Error = SettingsError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), ..) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (.., Some(value)) => visitor.visit_f64(value),
                _ => Err(self.refuse("a number in range")),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        visitor.visit_bool(self.boolean()?)
    }

    numbers! {
        deserialize_i8 visit_i8 i8, "a whole number from -128 to 127";
        deserialize_i16 visit_i16 i16, "a whole number from -32768 to 32767";
        deserialize_i32 visit_i32 i32, "a whole number";
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_u8 visit_u8 u8, "a whole number from 0 to 255";
        deserialize_u16 visit_u16 u16, "a whole number from 0 to 65535";
        deserialize_u32 visit_u32 u32, "a whole number from 0 to 4294967295";
        deserialize_u64 visit_u64 u64, "a whole number, 0 or more";
        deserialize_f32 visit_f32 f32, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        match self.value {
            Value::String(text) => visitor.visit_str(text),
            Value::Number(number) => visitor.visit_string(number.to_string()),
            Value::Bool(value) => visitor.visit_string(value.to_string()),
            _ => Err(self.refuse("a text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        if super::is_absent(self.value) {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        let parts: Vec<Value>;
        let items = match self.value {
            Value::Array(items) => items,
            // A list written as a text, as upstream's string metadata has it.
            Value::String(text) => {
                let texts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                parts = texts.map(Value::from).collect();
                &parts
            }
            _ => return Err(self.refuse("a list, or a text with commas")),
        };
        visitor.visit_seq(Elements {
            items: items.iter().enumerate(),
            path: self.path,
            unknown: self.unknown,
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        match self.value {
            Value::Object(map) => Object {
                map,
                path: self.path,
                unknown: self.unknown,
            }
            .deserialize_any(visitor),
            _ => Err(self.refuse("an object")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        match self.value {
            Value::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => Err(self.refuse("a text")),
        }
    }

    /// Serde asks for an ignored value exactly where no field takes the key.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        self.unknown.borrow_mut().push(self.path);
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

struct Elements<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    path: String,
    unknown: &'a RefCell<Vec<String>>,
}

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = SettingsError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, SettingsError> {
        let Some((index, value)) = self.items.next() else {
            return Ok(None);
        };
        let path = format!("{}[{index}]", self.path);
        seed.deserialize(Node {
            value,
            path: path.clone(),
            unknown: self.unknown,
        })
        .map(Some)
        .map_err(|e| e.at(&path))
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
