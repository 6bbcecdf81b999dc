//! Secrets: the store that holds them, and the type that never prints one.

use std::{collections::HashMap, fmt, hint::black_box};

use async_trait::async_trait;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use crate::{Component, Metadata, Result};

/// A value that must not reach a log, dump or error: `Debug` and `Display` hide it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T = String>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself; call it only where the secret is used.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl Secret {
    /// Whether `given` is the secret, found in a time that tells nothing but its length.
    pub fn is(&self, given: &[u8]) -> bool {
        let expected = self.0.as_bytes();
        let difference = given
            .iter()
            .zip(expected)
            .fold(0, |difference, (a, b)| black_box(difference | (a ^ b)));
        given.len() == expected.len() && difference == 0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

impl<T: JsonSchema> JsonSchema for Secret<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"type": "string", "format": "secret", "writeOnly": true})
    }

    fn inline_schema() -> bool {
        true
    }
}

/// A store of secrets, read only.
#[async_trait]
pub trait SecretStore: Component {
    /// The entries of secret `name`; [`NotFound`](crate::ErrorKind::NotFound) where there is none.
    async fn get(&self, name: &str, metadata: &Metadata) -> Result<HashMap<String, String>>;

    /// Every secret that the component may read, by name.
    async fn bulk_get(&self, metadata: &Metadata) -> Result<HashMap<String, HashMap<String, String>>>;
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_is_itself_and_nothing_else() {
        let secret = Secret::new("token".to_owned());
        assert!(secret.is(b"token"));
        for other in ["", "t", "toke", "tokens", "Token", "tokem"] {
            assert!(!secret.is(other.as_bytes()), "{other}");
        }
        assert!(!Secret::default().is(b"token"));
    }
}
