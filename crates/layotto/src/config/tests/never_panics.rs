//! No text makes the reader panic, whatever it is.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// JSON made of keys that the reader asks for, and of others.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(grpc|proxy|redis|http|127.0.0.1:1|\\$\\{[A-Z:-]{0,4}\\}?|[^\\x00]{0,6})".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z_.\\[\\]]{0,8}",
        prop::sample::select(vec![
            "servers",
            "listeners",
            "filter_chains",
            "filters",
            "type",
            "config",
            "grpc_config",
            "state",
            "bindings",
            "metadata",
            "secret_ref",
            "connections",
            "useConnection",
            "address",
            "network",
            "stream_filters",
            "rules",
            "metrics",
            "sinks",
            "tracing",
            "admin",
            "app",
            "health_probe",
            "biggerThan",
            "custom_component",
            "<<",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn with_any_json(value in json()) {
        let text = value.to_string();
        let json = parse(text.as_bytes(), Format::Json, &registry());
        prop_assert!(json.errors.iter().all(|finding| finding.place.line == 1));
        // JSON is YAML too, and both readers find the same number of errors.
        let yaml = parse(text.as_bytes(), Format::Yaml, &registry());
        prop_assert_eq!(json.errors.len(), yaml.errors.len(), "{}\n{}\n{}", text, json, yaml);
    }

    #[test]
    fn with_any_runtime(value in json()) {
        parse(around(&value.to_string()).as_bytes(), Format::Json, &registry());
    }

    #[test]
    fn with_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        parse(&bytes, Format::Json, &registry());
        parse(&bytes, Format::Yaml, &registry());
    }

    #[test]
    fn with_punctuation(text in "[\\[\\]{}:,\"'#&*!|>%@?\\-\\n a-c0-2/~<]{0,120}") {
        parse(text.as_bytes(), Format::Json, &registry());
        parse(text.as_bytes(), Format::Yaml, &registry());
    }

    #[test]
    fn with_a_damaged_good_file(at in 0..STANDALONE.len(), length in 0usize..40, filler in "[\\]}{\",:a]{0,3}") {
        let mut bytes = STANDALONE.as_bytes().to_vec();
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, filler.bytes());
        parse(&bytes, Format::Json, &registry());
    }
}
