//! Reads a configuration: whatever the text, there is a report, and its lines are lines of the text.
//!
//! An input that begins with `y` is YAML from its second byte on; any other is JSON from there on.

#![no_main]

use std::sync::LazyLock;

use layotto::config::{Finding, Format, Report, parse};
use layotto_core::Registry;
use libfuzzer_sys::fuzz_target;

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let mut registry = Registry::default();
    layotto_components::register(&mut registry);
    registry
});

fuzz_target!(|input: &[u8]| {
    let Some((first, text)) = input.split_first() else {
        return;
    };
    let format = match first {
        b'y' => Format::Yaml,
        _ => Format::Json,
    };
    let report = parse(text, format, &REGISTRY);
    check(&report, text);
    assert_eq!(
        parse(text, format, &REGISTRY),
        report,
        "the same text, another report"
    );
});

fn check(report: &Report, text: &[u8]) {
    let printed = report.to_string();
    assert!(report.errors.is_empty() || printed.starts_with("error: "));
    let findings = report.errors.iter().chain(report.warnings());
    let last = text.split(|byte| matches!(byte, b'\n' | b'\r')).count();
    for Finding { place, message } in findings {
        assert!(!message.is_empty());
        assert!(
            place.line as usize <= last,
            "line {} of {last}: {message}",
            place.line
        );
    }
}
