//! A component's settings: JSON as the file has it, read into a typed struct.
//!
//! Upstream's metadata is a map of strings, so typed fields accept `"true"`, `"3"`, `"5s"` and
//! `"a,b"`; an empty string counts as absent. Keys that no field takes are reported, not refused.

mod de;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use self::de::SettingsError;

/// The settings of one component.
#[derive(Clone, Default, PartialEq)]
pub struct Settings(Map<String, Value>);

/// Typed settings, and the keys that nothing reads.
#[derive(Debug)]
pub struct Parsed<T> {
    /// The settings.
    pub config: T,
    /// Paths of unknown keys.
    pub unknown: Vec<String>,
}

impl Settings {
    /// Takes over a JSON object; empty strings and nulls count as absent.
    pub fn new(map: Map<String, Value>) -> Self {
        Self(map.into_iter().filter(|(_, value)| !is_absent(value)).collect())
    }

    /// Takes over a JSON object as it is: an empty string is a value. For settings that arrive in a
    /// call, where a caller may well mean to set an empty text.
    pub fn verbatim(map: Map<String, Value>) -> Self {
        Self(map)
    }

    /// The text of `key`, when it is there and a string.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }

    /// Removes and returns the text of `key`.
    pub fn take_text(&mut self, key: &str) -> Option<String> {
        match self.0.remove(key)? {
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        }
    }

    /// Sets `key`, replacing what it held; an empty text removes it.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        if is_absent(&value) {
            self.0.remove(&key);
        } else {
            self.0.insert(key, value);
        }
    }

    /// Fills in what `base` has and `self` has not.
    #[must_use]
    pub fn over(mut self, base: &Self) -> Self {
        for (key, value) in &base.0 {
            if !self.0.contains_key(key) {
                self.0.insert(key.clone(), value.clone());
            }
        }
        self
    }

    /// Reads the settings into `T`, whose unknown keys are listed rather than refused.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<Parsed<T>, SettingsError> {
        de::parse(&self.0)
    }
}

/// Prints the keys alone: a value may be a secret.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Settings {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(iter: I) -> Self {
        Self::new(
            iter.into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}

fn is_absent(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}

#[cfg(test)]
mod tests;
