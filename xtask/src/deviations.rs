//! Pairs each deviation of `docs/reference/deviations.md` with the tests that show it.
//!
//! The page has a heading `### D012: …` for each, with a line `Shown by:` that names tests as
//! `path/to/file.rs::test_name`. The test carries the comment `// deviation: D012` before its `fn`.
//! A deviation from a recorded call names the table of the replay instead, which has its id.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    step::Outcome,
    workspace::{Workspace, no_problems},
};

const PAGE: &str = "docs/reference/deviations.md";
/// What differs in the replay of recorded calls: a list of objects, each with an `id`. The replay
/// fails when no call shows one of them.
const REPLAY: &str = "crates/layotto/tests/golden/deviations.json";
const MARKER: &str = "// deviation: ";
const SHOWN_BY: &str = "Shown by:";

/// A deviation and a test that shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    id: String,
    test: String,
}

/// Compares the page with the markers in the tests, both ways.
pub fn check(workspace: &Workspace) -> Result<Outcome> {
    let page = workspace.read(PAGE)?;
    let ids = ids(&page);
    ensure!(!ids.is_empty(), "{PAGE} lists nothing");
    let documented = documented(&page);
    let marked = marked_in(workspace)?;
    let mut problems = page_problems(&ids, &documented);
    problems.extend(documented.difference(&marked).map(|pair| {
        format!(
            "{PAGE}: {} names {}, which is not marked as showing it",
            pair.id, pair.test
        )
    }));
    problems.extend(marked.difference(&documented).map(|pair| {
        format!(
            "{} is marked as showing {}, which {PAGE} does not say",
            pair.test, pair.id
        )
    }));
    no_problems(&problems)?;
    Ok(Outcome::Done(format!(
        "{} deviations, {} tests",
        ids.len(),
        documented.len()
    )))
}

fn page_problems(ids: &[&str], documented: &BTreeSet<Pair>) -> Vec<String> {
    let unique: BTreeSet<_> = ids.iter().collect();
    let twice = ids
        .iter()
        .enumerate()
        .filter(|(at, id)| ids.iter().take(*at).any(|other| other == *id));
    let mut problems: Vec<_> = twice
        .map(|(_, id)| format!("{PAGE}: {id} is there twice"))
        .collect();
    let untested = unique
        .iter()
        .filter(|id| !documented.iter().any(|pair| pair.id == ***id));
    problems.extend(untested.map(|id| format!("{PAGE}: {id} names no test")));
    problems
}

/// `D012` of the heading `### D012: …`.
fn heading_id(line: &str) -> Option<&str> {
    let (id, _) = line.strip_prefix("### ")?.split_once(':')?;
    is_id(id).then_some(id)
}

fn is_id(text: &str) -> bool {
    let digits = text.strip_prefix('D').unwrap_or_default();
    digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn ids(page: &str) -> Vec<&str> {
    page.lines().filter_map(heading_id).collect()
}

fn documented(page: &str) -> BTreeSet<Pair> {
    let mut pairs = BTreeSet::new();
    let mut id = None;
    for line in page.lines() {
        if line.starts_with('#') {
            id = heading_id(line);
        }
        let Some((id, tests)) = id.zip(line.split_once(SHOWN_BY)) else {
            continue;
        };
        let tests = tests.1.split('`').skip(1).step_by(2);
        pairs.extend(tests.map(|test| Pair {
            id: id.to_owned(),
            test: test.to_owned(),
        }));
    }
    pairs
}

fn marked_in(workspace: &Workspace) -> Result<BTreeSet<Pair>> {
    let mut pairs = BTreeSet::new();
    for file in workspace.files("crates", "rs")? {
        let relative = workspace.relative(&file).display().to_string();
        pairs.extend(marked(&relative, &workspace.read(&file)?));
    }
    pairs.extend(replayed(&workspace.read(REPLAY)?)?);
    Ok(pairs)
}

fn replayed(table: &str) -> Result<Vec<Pair>> {
    let entries: Vec<Value> = serde_json::from_str(table).context(REPLAY)?;
    let pair = |entry: &Value| {
        let id = entry["id"].as_str().context("an entry without an id")?.to_owned();
        Ok(Pair {
            id,
            test: REPLAY.to_owned(),
        })
    };
    entries.iter().map(pair).collect::<Result<_>>().context(REPLAY)
}

/// The markers of one file, each with the test that follows it.
fn marked(path: &str, source: &str) -> Vec<Pair> {
    let mut pending: Vec<String> = Vec::new();
    let mut pairs = Vec::new();
    for line in source.lines().map(str::trim) {
        if let Some(ids) = line.strip_prefix(MARKER) {
            pending.extend(ids.split(',').map(|id| id.trim().to_owned()));
        } else if let Some(name) = function_name(line) {
            pairs.extend(pending.drain(..).map(|id| Pair {
                id,
                test: format!("{path}::{name}"),
            }));
        }
    }
    pairs.extend(pending.into_iter().map(|id| Pair {
        id,
        test: format!("{path}::(no test follows)"),
    }));
    pairs
}

fn function_name(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub ").unwrap_or(line);
    let rest = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")?;
    rest.split(['(', '<']).next()
}

#[cfg(test)]
mod tests;
