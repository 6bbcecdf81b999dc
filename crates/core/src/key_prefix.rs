//! Key prefixes: how applications and stores share one back end without seeing each other's keys.
//!
//! The layout is upstream's, since a Go sidecar may read and write the same keys.

use crate::{Error, Result};

/// Separates a prefix from a key; neither may contain it.
pub const SEPARATOR: &str = "||";

/// A key as the back end stores it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrefixedKey(pub String);

/// Which building block a key belongs to; each has its own default and its own outer prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Keys are raw unless configured otherwise.
    State,
    /// Keys are `lock|||…`, by default with the app id.
    Lock,
    /// Keys are `sequencer|||…`, by default with the app id.
    Sequencer,
}

/// The prefix of one component, worked out once from its metadata key `keyPrefix`.
#[derive(Debug, Clone)]
pub struct KeyPrefix(String);

impl KeyPrefix {
    /// Works out the prefix of `store` from `strategy`: `none`, `name`, `appid` or any other text,
    /// which is lower-cased as Go Layotto does. Fails where the text holds `||`.
    pub fn new(scope: Scope, strategy: Option<&str>, app_id: &str, store: &str) -> Result<Self> {
        let strategy = strategy.unwrap_or_default().to_lowercase();
        let inner = match (strategy.as_str(), scope) {
            ("none", _) | ("", Scope::State) => "",
            ("name", _) => store,
            ("appid", _) | ("", _) => app_id,
            (other, _) => other,
        };
        if strategy.contains(SEPARATOR) {
            return Err(illegal(&strategy));
        }
        let outer = match scope {
            Scope::State => "",
            Scope::Lock => "lock|||",
            Scope::Sequencer => "sequencer|||",
        };
        let separator = if inner.is_empty() { "" } else { SEPARATOR };
        Ok(Self(format!("{outer}{inner}{separator}")))
    }

    /// The key to store `key` under; fails where `key` holds `||`.
    pub fn apply(&self, key: &str) -> Result<PrefixedKey> {
        if key.contains(SEPARATOR) {
            return Err(illegal(key));
        }
        Ok(PrefixedKey([&self.0, key].concat()))
    }

    /// Like [`apply`](Self::apply), but leaves a key alone that has this prefix already.
    pub fn apply_once(&self, key: &str) -> Result<PrefixedKey> {
        if !self.0.is_empty() && key.starts_with(&self.0) {
            return Ok(PrefixedKey(key.to_owned()));
        }
        self.apply(key)
    }

    /// The key that the application knows.
    pub fn strip<'a>(&self, key: &'a str) -> &'a str {
        key.strip_prefix(&self.0).unwrap_or(key)
    }
}

fn illegal(text: &str) -> Error {
    Error::invalid(format!("input key/keyPrefix '{text}' can't contain '||'"))
        .with_detail("reason", "INVALID_KEY")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefixed(scope: Scope, strategy: Option<&str>, app_id: &str) -> String {
        KeyPrefix::new(scope, strategy, app_id, "Store")
            .and_then(|p| p.apply("key"))
            .unwrap()
            .0
    }

    #[test]
    fn matches_the_table_of_upstream() {
        use Scope::{Lock, Sequencer, State};
        for (scope, strategy, app_id, expected) in [
            (State, None, "App", "key"),
            (State, Some(""), "App", "key"),
            (State, Some("none"), "App", "key"),
            (State, Some("appid"), "App", "App||key"),
            (State, Some("APPID"), "", "key"),
            (State, Some("name"), "App", "Store||key"),
            (State, Some("MyApp"), "App", "myapp||key"),
            (Lock, None, "App", "lock|||App||key"),
            (Lock, None, "", "lock|||key"),
            (Lock, Some("None"), "App", "lock|||key"),
            (Sequencer, Some("name"), "App", "sequencer|||Store||key"),
            (Sequencer, Some("X/y"), "App", "sequencer|||x/y||key"),
        ] {
            assert_eq!(
                prefixed(scope, strategy, app_id),
                expected,
                "{scope:?} {strategy:?} {app_id}"
            );
        }
    }

    #[test]
    fn refuses_the_separator() {
        assert!(KeyPrefix::new(Scope::State, Some("a||b"), "", "s").is_err());
        assert!(
            KeyPrefix::new(Scope::State, None, "", "s")
                .unwrap()
                .apply("a||b")
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn stripping_undoes_prefixing(key in "[^|]{0,20}", app_id in "[^|]{0,8}", strategy in "[a-z]{0,6}") {
            let prefix = KeyPrefix::new(Scope::State, Some(&strategy), &app_id, "store").unwrap();
            let stored = prefix.apply(&key).unwrap();
            prop_assert_eq!(prefix.strip(&stored.0), key);
        }

        #[test]
        fn keys_of_two_apps_never_meet(key in "[^|]{1,9}", other in "[^|]{1,9}", a in "[a-z]{1,4}", b in "[a-z]{1,4}") {
            prop_assume!(a != b);
            let stored = |app: &str, key: &str| {
                KeyPrefix::new(Scope::Lock, None, app, "s").unwrap().apply(key).unwrap()
            };
            prop_assert_ne!(stored(&a, &key), stored(&b, &other));
        }
    }
}
