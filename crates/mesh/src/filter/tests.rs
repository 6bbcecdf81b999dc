//! What holds for every filter of [`KINDS`].

use std::{fs, path::PathBuf};

use super::*;

fn page(kind: &Kind) -> String {
    let pages = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/filters");
    let path = pages.join(format!("{}.md", kind.name));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The configurations in the page's examples, each `"stream_filters": […]`.
fn examples(page: &str) -> Vec<Value> {
    let fences = page.split("```json\n").skip(1);
    let examples = fences.map(|rest| {
        let text = rest.split_once("```").expect("a closed fence").0;
        let mut example: Value = serde_json::from_str(&format!("{{{text}}}")).unwrap();
        example["stream_filters"][0].take()
    });
    examples.collect()
}

#[test]
fn the_example_on_a_filters_page_builds_it() {
    for kind in KINDS {
        let examples = examples(&page(kind));
        assert!(!examples.is_empty(), "{} has no example", kind.name);
        for example in examples {
            assert_eq!(example["type"], kind.name);
            (kind.build)(&example["config"], &Context::default()).unwrap();
        }
    }
}

#[test]
fn examples_have_no_key_that_the_filter_does_not_read() {
    for kind in KINDS {
        let schema = (kind.schema)().to_value();
        for example in examples(&page(kind)) {
            let config = &example["config"];
            assert!(config.is_object() || config.is_null(), "{}: {config}", kind.name);
            for (key, _) in config.as_object().into_iter().flatten() {
                let read = schema["properties"].get(key).is_some();
                assert!(read, "{}: {key}", kind.name);
            }
        }
    }
}

#[test]
fn every_option_is_described() {
    fn described(name: &str, schema: &Value) {
        for (key, option) in schema["properties"].as_object().into_iter().flatten() {
            assert!(option["description"].is_string(), "{name}: {key}");
        }
        for (definition, schema) in schema["$defs"].as_object().into_iter().flatten() {
            described(&format!("{name}: {definition}"), schema);
        }
    }
    for kind in KINDS {
        described(kind.name, &(kind.schema)().to_value());
    }
}
