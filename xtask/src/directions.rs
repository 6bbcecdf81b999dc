//! Which crate of the workspace may depend on which, and what each must not know.

use anyhow::Result;
use serde_json::Value;

use crate::{
    step::Outcome,
    workspace::{Workspace, no_problems},
};

/// What one crate may use of the workspace.
struct Rule {
    name: &'static str,
    /// In any kind of dependency.
    may_use: &'static [&'static str],
    /// In tests only.
    in_tests: &'static [&'static str],
    /// Crates from elsewhere that it must not know, in the shipped code.
    never: &'static [&'static str],
}

const EVERYTHING: &[&str] = &[
    "layotto-api",
    "layotto-components",
    "layotto-core",
    "layotto-mesh",
    "layotto-proto",
    "layotto-wasm",
];

const RULES: &[Rule] = &[
    Rule {
        name: "layotto-proto",
        may_use: &[],
        in_tests: &[],
        never: &["anyhow"],
    },
    Rule {
        name: "layotto-core",
        may_use: &[],
        in_tests: &[],
        never: &["anyhow", "hyper", "prost", "reqwest", "tonic"],
    },
    Rule {
        name: "layotto-mesh",
        may_use: &["layotto-core"],
        in_tests: &[],
        never: &["anyhow", "tonic"],
    },
    Rule {
        name: "layotto-wasm",
        may_use: &[],
        in_tests: &[],
        never: &["anyhow", "hyper", "prost", "reqwest", "tonic"],
    },
    Rule {
        name: "layotto-components",
        may_use: &["layotto-core"],
        in_tests: &["layotto-testkit"],
        never: &["anyhow"],
    },
    Rule {
        name: "layotto-api",
        may_use: &["layotto-core", "layotto-proto"],
        in_tests: &["layotto-testkit"],
        never: &["anyhow"],
    },
    Rule {
        name: "layotto-testkit",
        may_use: &["layotto-core"],
        in_tests: &[],
        never: &[],
    },
    Rule {
        name: "layotto",
        may_use: EVERYTHING,
        in_tests: &["layotto-testkit"],
        never: &[],
    },
    Rule {
        name: "layotto-bench",
        may_use: &[
            "layotto-api",
            "layotto-components",
            "layotto-core",
            "layotto-peers",
            "layotto-proto",
            "layotto-testkit",
            "layotto-wasm",
        ],
        in_tests: &[],
        never: &[],
    },
    Rule {
        name: "layotto-peers",
        may_use: &["layotto-testkit"],
        in_tests: &[],
        never: &["tonic"],
    },
    Rule {
        name: "xtask",
        may_use: &[],
        in_tests: &[],
        never: &[],
    },
];

/// Compares every dependency of every member with the rules.
pub fn check(workspace: &Workspace) -> Result<Outcome> {
    let members: Vec<&str> = workspace
        .packages()
        .iter()
        .map(|package| text(package, "name"))
        .collect();
    let problems: Vec<_> = workspace
        .packages()
        .iter()
        .flat_map(|package| violations(package, &members))
        .collect();
    no_problems(&problems)?;
    Ok(Outcome::Done(format!("{} crates", members.len())))
}

fn violations(package: &Value, members: &[&str]) -> Vec<String> {
    let name = text(package, "name");
    let Some(rule) = RULES.iter().find(|rule| rule.name == name) else {
        return vec![format!(
            "{name} has no rule: add one to xtask/src/directions.rs and ARCHITECTURE.md"
        )];
    };
    let dependencies = package["dependencies"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    dependencies
        .iter()
        .filter_map(|dependency| violation(rule, dependency, members))
        .collect()
}

fn violation(rule: &Rule, dependency: &Value, members: &[&str]) -> Option<String> {
    let used = text(dependency, "name");
    let test_only = dependency["kind"] == "dev";
    if rule.never.contains(&used) && !test_only {
        return Some(format!("{} must not know {used}", rule.name));
    }
    let allowed = rule.may_use.contains(&used) || (test_only && rule.in_tests.contains(&used));
    let wrong = members.contains(&used) && !allowed;
    let whose = if test_only { "tests of " } else { "" };
    wrong.then(|| format!("{whose}{} must not depend on {used}", rule.name))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MEMBERS: &[&str] = &["layotto-core", "layotto-api", "layotto-testkit"];

    fn found(name: &str, dependencies: Value) -> Vec<String> {
        violations(&json!({"name": name, "dependencies": dependencies}), MEMBERS)
    }

    #[test]
    fn a_dependency_against_the_direction_is_found() {
        assert_eq!(
            found("layotto-core", json!([{"name": "layotto-api", "kind": null}])),
            ["layotto-core must not depend on layotto-api"]
        );
    }

    #[test]
    fn the_test_kit_is_for_tests_only() {
        assert_eq!(
            found("layotto-api", json!([{"name": "layotto-testkit", "kind": "dev"}])),
            [""; 0]
        );
        assert_eq!(
            found("layotto-api", json!([{"name": "layotto-testkit", "kind": null}])),
            ["layotto-api must not depend on layotto-testkit"]
        );
    }

    #[test]
    fn the_core_knows_no_network() {
        assert_eq!(
            found("layotto-core", json!([{"name": "tonic"}])),
            ["layotto-core must not know tonic"]
        );
    }

    #[test]
    fn a_crate_without_a_rule_is_found() {
        assert!(found("layotto-new", json!([])).concat().contains("has no rule"));
    }
}
