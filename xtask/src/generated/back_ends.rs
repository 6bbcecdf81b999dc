//! The table of back ends: every registered type with its product, and what the last committed run
//! of the conformance suites says of it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What the suites said, by kind and type.
pub const RESULTS: &str = "crates/components/tests/conformance.json";

/// What they said of one type.
#[derive(Debug, Deserialize)]
struct Outcome {
    passed: usize,
    of: usize,
    product: Option<String>,
    unproven: Option<String>,
    /// Assertions by the reason for which they do not apply.
    #[serde(default)]
    not_applicable: BTreeMap<String, Vec<String>>,
}

/// A registered type.
#[derive(Debug, Deserialize)]
struct Listed {
    kind: String,
    #[serde(rename = "type")]
    type_name: String,
}

/// The table in Markdown, from what `layotto components --json` prints and from the results.
pub fn table(listed: &str, results: &str) -> Result<String> {
    let mut listed: Vec<Listed> = serde_json::from_str(listed).context("layotto components --json")?;
    let mut results: BTreeMap<String, BTreeMap<String, Outcome>> =
        serde_json::from_str(results).context(RESULTS)?;
    listed.sort_by(|a, b| (&a.kind, &a.type_name).cmp(&(&b.kind, &b.type_name)));
    let mut table = "| kind | type | product | passed | does not apply |\n|---|---|---|---|---|\n".to_owned();
    for Listed { kind, type_name } in &listed {
        let outcome = results.get_mut(kind).and_then(|types| types.remove(type_name));
        let outcome = outcome.with_context(|| format!("{RESULTS} has no {kind} of type {type_name}"))?;
        let Outcome { passed, of, .. } = outcome;
        let product = outcome.product.as_deref().unwrap_or("none");
        let applies = applies(&outcome);
        table += &format!("| `{kind}` | `{type_name}` | {product} | {passed} of {of} | {applies} |\n");
    }
    let gone: Vec<_> = results.values().flat_map(BTreeMap::keys).collect();
    ensure!(
        gone.is_empty(),
        "{RESULTS} has types that are not registered: {gone:?}"
    );
    Ok(table)
}

/// What is to be said besides the figures.
fn applies(outcome: &Outcome) -> String {
    let reasons = outcome.not_applicable.iter().map(|(reason, assertions)| {
        let names = assertions.iter().map(|name| format!("`{name}`"));
        format!("{reason}: {}", names.collect::<Vec<_>>().join(", "))
    });
    let unproven = outcome.unproven.iter().map(|text| format!("**{text}**"));
    unproven.chain(reasons).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = r#"[{"kind": "state", "type": "b"}, {"kind": "lock", "type": "a"}]"#;

    #[test]
    fn every_registered_type_has_a_row() {
        let results = r#"{
            "lock": {"a": {"passed": 2, "of": 2, "unproven": "unproven against the product"}},
            "state": {"b": {"passed": 1, "of": 3, "product": "B 1.2",
                "not_applicable": {"no transactions": ["x", "y"]}}}}"#;
        let rows = "| `lock` | `a` | none | 2 of 2 | **unproven against the product** |\n\
             | `state` | `b` | B 1.2 | 1 of 3 | no transactions: `x`, `y` |\n";
        assert!(table(LISTED, results).unwrap().ends_with(rows));
    }

    #[test]
    fn a_type_without_a_result_and_a_result_without_a_type_are_errors() {
        let one = r#"{"lock": {"a": {"passed": 2, "of": 2}}}"#;
        let missing = table(LISTED, one).unwrap_err();
        assert!(missing.to_string().contains("no state of type b"), "{missing}");
        let gone = table(r#"[]"#, one).unwrap_err();
        assert!(gone.to_string().contains("not registered"), "{gone}");
    }
}
