//! The keys of a schema, one by one.

use layotto_mesh::config::OtherKey;
use serde_json::Value as Json;

use super::{HEADERS, Key, Status, TLS};
use crate::schema::{summary, type_of};

/// Structs that stand in several places: they have a section of their own.
const APART: &[(&str, &str)] = &[("TlsContext", TLS), ("HeaderToAdd", HEADERS)];

/// All keys of `schema`, those of inner structs behind the key that holds them.
pub(super) fn of_schema(schema: &Json) -> Vec<Key> {
    let mut keys = Vec::new();
    walk(schema, schema, "", &mut keys);
    keys
}

/// Keys that a struct at `place` does not take.
pub(super) fn others(place: &str, others: &[OtherKey]) -> Vec<Key> {
    let key = |other: &OtherKey| Key {
        path: match place {
            "" => other.path.to_owned(),
            place => format!("{place}.{}", other.path),
        },
        status: other.fate.into(),
        kind: String::new(),
        default: String::new(),
        text: sentence(other.why),
    };
    others.iter().map(key).collect()
}

fn walk(part: &Json, whole: &Json, prefix: &str, keys: &mut Vec<Key>) {
    for (name, property) in part["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let (inner, step) = inner(property, whole);
        let apart = inner.and_then(|inner| APART.iter().find(|(name, _)| *name == inner));
        let (mut text, default) = split_default(&summary(property).unwrap_or_default());
        if let Some((_, title)) = apart {
            text.push_str(&format!(" See [{title}](#{}).", anchor(title)));
        }
        keys.push(Key {
            path: format!("{path}{}", step.trim_end_matches('.')),
            status: Status::Supported,
            kind: type_of(property, whole),
            default: default.unwrap_or_else(|| default_of(property)),
            text: text.trim().to_owned(),
        });
        if let (Some(inner), None) = (inner, apart) {
            walk(&whole["$defs"][inner], whole, &format!("{path}{step}"), keys);
        }
    }
}

/// The struct that a property holds, and how its keys are reached.
fn inner<'s>(property: &'s Json, whole: &Json) -> (Option<&'s str>, &'static str) {
    let named = |schema: &'s Json| {
        let name = schema["$ref"].as_str()?.strip_prefix("#/$defs/")?;
        whole["$defs"][name]["properties"].is_object().then_some(name)
    };
    if let Some(items) = property.get("items") {
        return (named(items), "[].");
    }
    if let Some(values) = property.get("additionalProperties") {
        return (named(values), "{}.");
    }
    let branches = property["anyOf"].as_array().into_iter().flatten();
    (
        named(property).or_else(|| branches.map(named).find_map(|it| it)),
        ".",
    )
}

/// The text without the sentence that tells the default, and the default.
fn split_default(text: &str) -> (String, Option<String>) {
    let mut rest = Vec::new();
    let mut default = None;
    for sentence in text.split_inclusive(". ") {
        let told = sentence.trim().trim_end_matches('.').strip_prefix("Default");
        match told.and_then(|told| told.strip_prefix(": ").or_else(|| told.strip_prefix(' '))) {
            Some(told) if told.starts_with("and ") || told.starts_with("or ") => {
                default = told.split_once(": ").map(|(_, default)| default.to_owned());
                rest.push(sentence);
            }
            Some(told) if told.starts_with("of ") => {
                default = Some(String::new());
                rest.push(sentence);
            }
            Some(told) => default = Some(told.to_owned()),
            None if sentence.trim() == "Required." => default = Some("required".to_owned()),
            None => {
                // What is required in some cases says so itself.
                let always = !sentence.contains(" for ") && !sentence.contains(" if ");
                if sentence.starts_with("Required") && always {
                    default = Some("required".to_owned());
                }
                rest.push(sentence);
            }
        }
    }
    (rest.concat().trim().to_owned(), default)
}

/// The schema's default, where it says something.
fn default_of(property: &Json) -> String {
    match &property["default"] {
        Json::String(text) if !text.is_empty() => format!("`{text}`"),
        Json::Number(number) => number.to_string(),
        Json::Bool(value) => value.to_string(),
        _ => String::new(),
    }
}

/// `why` as a sentence.
pub(super) fn sentence(why: &str) -> String {
    let mut letters = why.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    match first {
        Some(first) => format!("{first}{}.", letters.as_str()),
        None => String::new(),
    }
}

/// How a heading is linked to.
fn anchor(title: &str) -> String {
    title.to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_of_a_text_is_found() {
        for (text, rest, default) in [
            ("How long. Default 10 s.", "How long.", Some("10 s")),
            (
                "How long. Default and for 0: 60 s.",
                "How long. Default and for 0: 60 s.",
                Some("60 s"),
            ),
            (
                "Which. Default: the same. More.",
                "Which. More.",
                Some("the same"),
            ),
            ("Its name. Required.", "Its name.", Some("required")),
            ("Its name.", "Its name.", None),
        ] {
            let (found, told) = split_default(text);
            assert_eq!((found.as_str(), told.as_deref()), (rest, default), "{text}");
        }
    }
}
