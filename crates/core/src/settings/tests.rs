use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::{GoDuration, Secret};

#[derive(Debug, Deserialize, PartialEq, Default)]
#[serde(default, rename_all = "camelCase")]
struct Example {
    enabled: bool,
    count: u32,
    timeout: GoDuration,
    hosts: Vec<String>,
    ports: Vec<u16>,
    password: Secret<String>,
    name: Option<String>,
    nested: Nested,
}

#[derive(Debug, Deserialize, PartialEq, Default)]
#[serde(default)]
struct Nested {
    ratio: f64,
}

fn parse(value: Value) -> Result<Parsed<Example>, SettingsError> {
    let Value::Object(map) = value else {
        panic!("not an object")
    };
    Settings::new(map).parse()
}

#[test]
fn texts_become_what_the_field_wants() {
    let parsed = parse(json!({
        "enabled": "True", "count": " 3 ", "timeout": "5s", "hosts": "a, b,,c", "password": 12, "name": "",
        "nested": {"ratio": "0.5"},
    }))
    .unwrap();
    assert!(parsed.unknown.is_empty());
    let config = parsed.config;
    assert_eq!((config.enabled, config.count, config.name), (true, 3, None));
    assert_eq!(config.hosts, ["a", "b", "c"]);
    assert_eq!(config.timeout, GoDuration::from_millis(5000));
    assert_eq!(config.password.expose(), "12");
    assert!((config.nested.ratio - 0.5).abs() < f64::EPSILON);
}

#[test]
fn json_types_pass_too() {
    let config = parse(json!({"enabled": true, "count": 3, "hosts": ["a", 1], "ports": [1]}))
        .unwrap()
        .config;
    assert_eq!((config.enabled, config.count, config.ports), (true, 3, vec![1]));
    assert_eq!(config.hosts, ["a", "1"]);
}

#[test]
fn errors_name_the_path_and_what_is_accepted() {
    for (value, path, accepted) in [
        (
            json!({"count": "-1"}),
            "count",
            "a whole number from 0 to 4294967295",
        ),
        (json!({"enabled": "maybe"}), "enabled", "true or false"),
        (json!({"hosts": {}}), "hosts", "a list"),
        (json!({"nested": {"ratio": "x"}}), "nested.ratio", "a number"),
        (json!({"timeout": "5"}), "timeout", "5s"),
        (json!({"ports": ["70000"]}), "ports[0]", ""),
    ] {
        let error = parse(value).unwrap_err();
        assert_eq!(error.path, path);
        assert!(error.message.contains(accepted), "{error}");
    }
}

#[test]
fn unknown_keys_are_listed_with_their_path() {
    let parsed = parse(json!({"nested": {"ratoi": 1}, "cuont": 1})).unwrap();
    assert_eq!(parsed.unknown, ["nested.ratoi", "cuont"]);
}

#[test]
fn debug_shows_no_value() {
    let settings: Settings = [("password", "canary")].into_iter().collect();
    assert!(!format!("{settings:?}").contains("canary"));
}

#[test]
fn a_refused_value_is_not_repeated() {
    let error = parse(json!({"count": "canary"})).unwrap_err();
    assert!(!error.to_string().contains("canary"), "{error}");
}

proptest! {
    #[test]
    fn every_number_survives_being_written_as_a_text(count in any::<u32>(), enabled in any::<bool>()) {
        let config = parse(json!({"count": count.to_string(), "enabled": enabled.to_string()})).unwrap().config;
        prop_assert_eq!((config.count, config.enabled), (count, enabled));
    }

    #[test]
    fn any_text_is_read_or_refused_without_panic(text in ".*") {
        for key in ["enabled", "count", "timeout", "hosts", "password", "name", "nested", "other"] {
            drop(parse(json!({key: text})));
        }
    }
}
