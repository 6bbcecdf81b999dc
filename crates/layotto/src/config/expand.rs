//! `${NAME}` and `${NAME:-default}` inside text values, replaced from the environment.

use super::{
    node::{Node, Value},
    reader::{child_path, item_path},
    report::{Findings, Place},
};

/// Looks up an environment variable.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces the variables in every text of `node`; `place` is where the tree begins.
pub(super) fn expand(node: &mut Node, place: &Place, env: Environment<'_>, findings: &Findings) {
    let line = node.line;
    match &mut node.value {
        Value::Text(text) if text.contains("${") => match expanded(text, env) {
            Ok(replaced) => *text = replaced,
            Err(message) => {
                let place = Place {
                    line,
                    ..place.clone()
                };
                findings.error(place, message);
            }
        },
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                let path = item_path(&place.path, index);
                expand(
                    item,
                    &Place {
                        path,
                        ..place.clone()
                    },
                    env,
                    findings,
                );
            }
        }
        Value::Object(entries) => {
            for entry in entries {
                let path = child_path(&place.path, &entry.key);
                expand(
                    &mut entry.value,
                    &Place {
                        path,
                        ..place.clone()
                    },
                    env,
                    findings,
                );
            }
        }
        _ => {}
    }
}

const SYNTAX: &str = "\"${\" begins a variable: write ${NAME}, ${NAME:-default}, or $${ for the text itself";

fn expanded(text: &str, env: Environment<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        let Some((inside, after)) = after.split_once('}') else {
            return Err(SYNTAX.to_owned());
        };
        out.push_str(before);
        out.push_str(&value_of(inside, env)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn value_of(inside: &str, env: Environment<'_>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !name.starts_with(first) || !name.chars().all(|c| first(c) || c.is_ascii_digit()) {
        return Err(SYNTAX.to_owned());
    }
    let value = env(name).filter(|value| !value.is_empty() || default.is_none());
    value.or_else(|| default.map(str::to_owned)).ok_or_else(|| {
        format!("environment variable {name} is not set; ${{{name}:-default}} gives a default")
    })
}
