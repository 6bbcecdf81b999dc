//! Which requests a route takes.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// Which requests a route takes. The first of `prefix`, `path`, `regex` and `variables` that is
/// given counts, the others are not looked at; `headers` must hold too, except beside `variables`.
/// Without any key, all.
///
/// Paths are compared without the query, percent-decoded once, with `.` and `..` resolved and `//`
/// read as `/`: so `/a/%2e%2e/b` and `//b` are `/b`, and `%2F` is `/`. Write the keys below so.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RouteMatch {
    /// What the path starts with.
    pub prefix: String,
    /// The whole path; case does not matter.
    pub path: String,
    /// A regular expression that is found anywhere in the path.
    pub regex: String,
    /// Tests on variables, from left to right: `and` binds more tightly than `or`.
    pub variables: Vec<VariableMatch>,
    /// Tests on headers; all must hold.
    pub headers: Vec<HeaderMatch>,
    /// CEL expressions. Not built: a route that depends on them is refused, as it would otherwise
    /// take every request.
    pub dsl_expressions: Vec<Value>,
}

/// A test on a header, which must be there. The name `method` means the method of the request; in
/// a route without `prefix`, `path` and `regex` it means a header `method` first. `host` means the
/// host that was asked for.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HeaderMatch {
    /// The header's name; case does not matter.
    pub name: String,
    /// The value, or with `regex` an expression that is found anywhere in it. In a route that has
    /// but one test, on `service`, the value `.*` means any.
    pub value: String,
    /// Whether `value` is a regular expression. Default false.
    pub regex: bool,
}

/// A test on a variable. A variable without value is an empty text.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VariableMatch {
    /// The variable's name.
    pub name: String,
    /// The value it must have. One of `value` and `regex` is needed; `regex` goes first.
    pub value: String,
    /// A regular expression that is found anywhere in the value.
    pub regex: String,
    /// How this test and the next one go together: `and` (default) or `or`.
    pub model: String,
}
