//! Differences between what was recorded and what happens now.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value as Json, json};

/// One difference.
#[derive(Debug, Clone)]
pub struct Difference {
    /// Where, such as `steps.3.message`.
    pub at: String,
    /// What upstream did.
    pub upstream: Json,
    /// What happens now.
    pub ours: Json,
}

/// How the values of one case are compared.
#[derive(Debug, Default)]
pub struct Rules {
    /// Paths that differ from run to run; `*` is any one element.
    pub volatile: Vec<String>,
    /// Paths of base64 that holds JSON.
    pub as_json: Vec<String>,
    /// Paths of lists without an order.
    pub unordered: Vec<String>,
}

impl Rules {
    /// Compares `ours` to `upstream`, both found at `at`.
    pub fn compare(&self, at: &str, upstream: &Json, ours: &Json) -> Vec<Difference> {
        let mut found = Vec::new();
        self.walk(at, upstream, ours, &mut found);
        found
    }

    /// Whether what is at `at` differs from run to run.
    pub fn is_volatile(&self, at: &str) -> bool {
        self.volatile.iter().any(|pattern| matches(pattern, at))
    }

    fn walk(&self, at: &str, upstream: &Json, ours: &Json, found: &mut Vec<Difference>) {
        if self.is_volatile(at) && upstream.is_null() == ours.is_null() {
            return;
        }
        let as_json = |json: &Json| -> Option<Json> {
            serde_json::from_slice(&STANDARD.decode(json.as_str()?).ok()?).ok()
        };
        if self.as_json.iter().any(|pattern| matches(pattern, at))
            && let (Some(upstream), Some(ours)) = (as_json(upstream), as_json(ours))
        {
            return self.walk(&format!("{at}.json"), &upstream, &ours, found);
        }
        match (upstream, ours) {
            (Json::Object(upstream_fields), Json::Object(our_fields)) => {
                if let Some(digest) = digested(upstream_fields, our_fields) {
                    return self.walk(at, upstream, &digest, found);
                }
                let mut names: Vec<_> = upstream_fields.keys().chain(our_fields.keys()).collect();
                names.sort();
                names.dedup();
                for name in names {
                    let get = |fields: &serde_json::Map<String, Json>| {
                        fields.get(name).cloned().unwrap_or(Json::Null)
                    };
                    self.walk(
                        &format!("{at}.{name}"),
                        &get(upstream_fields),
                        &get(our_fields),
                        found,
                    );
                }
            }
            (Json::Array(upstream_items), Json::Array(our_items))
                if upstream_items.len() == our_items.len() =>
            {
                let sorted = |items: &[Json]| {
                    let mut items = items.to_vec();
                    if self.unordered.iter().any(|pattern| matches(pattern, at)) {
                        items.sort_by_key(Json::to_string);
                    }
                    items
                };
                let pairs = sorted(upstream_items).into_iter().zip(sorted(our_items));
                for (index, (upstream, ours)) in pairs.enumerate() {
                    self.walk(&format!("{at}.{index}"), &upstream, &ours, found);
                }
            }
            (upstream, ours) if upstream == ours => {}
            (upstream, ours) => {
                found.push(Difference {
                    at: at.to_owned(),
                    upstream: upstream.clone(),
                    ours: ours.clone(),
                });
            }
        }
    }
}

/// `ours` in the short form that a recording uses for long fields: `x_length`, or `x_len` and
/// `x_sha256`.
fn digested(upstream: &serde_json::Map<String, Json>, ours: &serde_json::Map<String, Json>) -> Option<Json> {
    let suffixes = ["_length", "_len"];
    let (name, suffix) = upstream.keys().find_map(|key| {
        let suffix = suffixes.iter().find(|suffix| key.ends_with(**suffix))?;
        Some((key.strip_suffix(suffix)?, *suffix))
    })?;
    let text = ours.get(name)?.as_str()?;
    let bytes = if name == "hello" {
        text.as_bytes().to_vec()
    } else {
        STANDARD.decode(text).ok()?
    };
    let mut short = ours.clone();
    short.remove(name);
    short.insert(format!("{name}{suffix}"), json!(bytes.len()));
    if upstream.contains_key(&format!("{name}_sha256")) {
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        short.insert(format!("{name}_sha256"), json!(hex));
    }
    Some(Json::Object(short))
}

/// Whether `at` is what `pattern` names; remarks in brackets after the pattern are left out.
fn matches(pattern: &str, at: &str) -> bool {
    let pattern = pattern.split(" (").next().unwrap_or(pattern);
    let mut wanted = pattern.split('.');
    let mut found = at.split('.');
    loop {
        match (wanted.next(), found.next()) {
            (None, _) => return true,
            (Some(_), None) => return false,
            (Some(wanted), Some(found)) if wanted != "*" && wanted != found => return false,
            _ => {}
        }
    }
}

/// Whether `text` is what `glob` names; `*` is any run of characters.
pub fn glob(glob: &str, text: &str) -> bool {
    match glob.split_once('*') {
        None => glob == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            (0..=text.len())
                .filter_map(|at| text.get(at..))
                .any(|tail| self::glob(rest, tail))
        }),
    }
}
