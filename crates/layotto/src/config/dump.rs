//! The configuration as others may see it: everything but secrets.

use std::collections::HashSet;

use layotto_core::Registry;
use serde_json::{Map, Value as Json};

use super::node::{Node, Value};

/// What stands in for a value that is not shown.
pub(super) const HIDDEN: &str = "***";

/// Words in the name of a key whose value is nobody's business.
const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "token",
    "credential",
    "private",
    "accesskey",
    "access_key",
    "apikey",
    "api_key",
    "authorization",
];

/// Objects that hold settings of components: what their types do not call harmless is hidden.
const SETTINGS: &[&str] = &["metadata", "connections"];

/// The file as JSON without secrets.
pub(super) fn shown(node: &Node, registry: &Registry) -> Json {
    Shown {
        harmless: harmless(registry),
    }
    .value(node, false)
}

/// Settings that some type has and none calls a secret.
fn harmless(registry: &Registry) -> HashSet<String> {
    let (mut plain, mut secret) = (HashSet::new(), HashSet::new());
    for listed in registry.kinds().into_iter().flat_map(|kind| kind.listed()) {
        let Some(Json::Object(properties)) = listed.schema.get("properties").cloned() else {
            continue;
        };
        for (key, schema) in properties {
            let is_secret = schema.to_string().contains("\"writeOnly\":true");
            if is_secret { &mut secret } else { &mut plain }.insert(key.to_lowercase());
        }
    }
    plain.retain(|key| !secret.contains(key));
    plain
}

struct Shown {
    harmless: HashSet<String>,
}

impl Shown {
    /// `guarded`: inside the settings of a component.
    fn value(&self, node: &Node, guarded: bool) -> Json {
        match &node.value {
            Value::Object(entries) => {
                let entry = |(key, node): (&str, &Node)| (key.to_owned(), self.entry(key, node, guarded));
                let entries = entries.iter().map(|entry| (entry.key.as_str(), &entry.value));
                Json::Object(entries.map(entry).collect::<Map<_, _>>())
            }
            Value::List(items) => items.iter().map(|item| self.value(item, guarded)).collect(),
            Value::Text(text) => Json::String(without_userinfo(text)),
            _ => node.to_json(),
        }
    }

    fn entry(&self, key: &str, node: &Node, guarded: bool) -> Json {
        let name = key.to_lowercase();
        let is_text = matches!(&node.value, Value::Text(text) if !text.is_empty());
        let is_secret = SECRET_WORDS.iter().any(|word| name.contains(word));
        if is_text && (is_secret || (guarded && !self.harmless.contains(&name) && name != "type")) {
            return HIDDEN.into();
        }
        self.value(node, guarded || SETTINGS.contains(&name.as_str()))
    }
}

/// Hides the user and password of a URL.
fn without_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((userinfo, _)) => {
            let rest = rest.strip_prefix(userinfo).unwrap_or_default();
            format!("{scheme}://{HIDDEN}{rest}")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::json;

    fn shown_of(text: &str) -> Json {
        let mut registry = Registry::default();
        layotto_components::register(&mut registry);
        shown(&json::parse(text).unwrap(), &registry)
    }

    // deviation: D064
    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let text = r#"{"admin": {"token": "s3cret"}, "tls": {"private_key": "s3cret", "cert_chain": "pem"},
            "state": {"r": {"type": "redis", "metadata": {"redisPassword": "s3cret", "weird": "s3cret"}}},
            "url": "http://me:s3cret@host:1/p?q"}"#;
        let text = shown_of(text).to_string();
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("http://***@host:1/p?q"), "{text}");
        assert!(text.contains("redis") && text.contains("pem"), "{text}");
    }

    #[test]
    fn settings_that_no_type_calls_a_secret_are_shown() {
        let text = shown_of(r#"{"metadata": {"durability": "os", "unheard_of": "x", "n": 5}}"#);
        assert_eq!(text["metadata"]["durability"], "os");
        assert_eq!(text["metadata"]["unheard_of"], HIDDEN);
        assert_eq!(text["metadata"]["n"], 5);
    }
}
