//! Replays calls that were recorded from a running Go Layotto; each difference must be a listed
//! deviation.
//!
//! The recordings are in `tests/golden/*.jsonl`, the deviations in `tests/golden/deviations.json`
//! and, in words, in `docs/reference/deviations.md`.

mod backend;
mod callback;
mod case;
mod client;
mod diff;
pub(crate) mod http;
mod inherited;
mod json;
mod redis;
mod zookeeper;

use std::{collections::BTreeMap, fs};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::Value as Json;
use tokio::runtime::Handle;

use self::diff::{Difference, glob};
use crate::sidecar::{fixtures, say};

/// Cases run at once.
const PARALLEL: usize = 8;

/// What a case must not need: products and features that are not built yet.
const LATER: [&str; 4] = ["${S3}", "${SOCKETS}", "${METRICS}", "layotto_multiple_api"];

/// A deliberate difference, by what changes into what.
#[derive(Debug, Deserialize)]
struct Deviation {
    /// Its entry in the reference page, such as `D012`.
    id: String,
    /// Cases it is about; `*` is any run of characters, as below.
    case: String,
    /// Where in a case.
    at: String,
    /// What upstream did.
    upstream: String,
    /// What happens now.
    ours: String,
    /// How the two must relate besides.
    relation: Option<Relation>,
}

/// A relation between two values that differ.
#[derive(Debug, Deserialize)]
enum Relation {
    /// Upstream's value is ours in base64.
    #[serde(rename = "base64 of ours")]
    Base64OfOurs,
}

impl Relation {
    fn holds(&self, upstream: &str, ours: &str) -> bool {
        match self {
            // Both stand in base64, as bytes do.
            Self::Base64OfOurs => STANDARD.encode(ours) == upstream,
        }
    }
}

impl Deviation {
    fn covers(&self, case: &str, difference: &Difference) -> bool {
        let text = |json: &Json| json.as_str().map_or_else(|| json.to_string(), str::to_owned);
        let (upstream, ours) = (text(&difference.upstream), text(&difference.ours));
        glob(&self.case, case)
            && glob(&self.at, &difference.at)
            && glob(&self.upstream, &upstream)
            && glob(&self.ours, &ours)
            && self
                .relation
                .as_ref()
                .is_none_or(|relation| relation.holds(&upstream, &ours))
    }
}

#[derive(Debug, Default)]
struct Tally {
    matched: usize,
    deviating: usize,
    failed: usize,
    skipped: usize,
}

fn needs_nothing_later(case: &Json) -> bool {
    let text = case.to_string();
    if let Some(reason) = backend::missing(&text) {
        say(format_args!("{} is skipped: {reason}", name(case)));
        return false;
    }
    !LATER.iter().any(|needle| text.contains(needle))
}

fn cases() -> Vec<Json> {
    let mut files: Vec<_> = fs::read_dir(fixtures().join("golden"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let recordings = files
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    let texts = recordings.map(|file| fs::read_to_string(file).unwrap());
    texts
        .flat_map(|text| {
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_calls_come_out_the_same_or_as_a_listed_deviation() {
    let deviations = deviations();
    let only = std::env::var("GOLDEN_ONLY").unwrap_or_default();
    let wanted = cases().into_iter().filter(|case| name(case).contains(&only));
    let outcomes: Vec<_> = stream::iter(wanted)
        .map(|case| {
            // A case blocks while it waits for a process: not on a thread that serves the others.
            tokio::task::spawn_blocking(move || {
                let found = needs_nothing_later(&case).then(|| Handle::current().block_on(case::run(&case)));
                (name(&case).to_owned(), found)
            })
        })
        .buffered(PARALLEL)
        .map(Result::unwrap)
        .collect()
        .await;

    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut used = BTreeMap::new();
    for (case, found) in outcomes {
        let area = case.split('/').next().unwrap_or_default().to_owned();
        let tally = tallies.entry(area).or_default();
        let Some(found) = found else {
            tally.skipped += 1;
            continue;
        };
        let unlisted: Vec<_> = found
            .iter()
            .filter(|difference| {
                let listed = deviations
                    .iter()
                    .find(|deviation| deviation.covers(&case, difference));
                if let Some(deviation) = listed {
                    *used.entry(deviation.id.clone()).or_insert(0) += 1;
                }
                listed.is_none()
            })
            .collect();
        match (found.is_empty(), unlisted.is_empty()) {
            (true, _) => tally.matched += 1,
            (false, true) => tally.deviating += 1,
            (false, false) => tally.failed += 1,
        }
        failures.extend(unlisted.iter().map(|difference| {
            format!(
                "{case} {}\n    upstream {}\n    ours     {}",
                difference.at, difference.upstream, difference.ours
            )
        }));
    }
    report(&tallies);
    say(format_args!("deviations seen: {used:?}"));
    assert!(
        failures.is_empty(),
        "{} differences are not listed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    // What only a product shows that is not there is not missed.
    if only.is_empty() && backend::missing("${ETCD}").is_none() {
        let unseen: Vec<_> = deviations
            .iter()
            .filter(|d| !used.contains_key(&d.id))
            .map(|d| &d.id)
            .collect();
        assert!(unseen.is_empty(), "deviations that no case shows: {unseen:?}");
    }
}

fn deviations() -> Vec<Deviation> {
    let text = fs::read_to_string(fixtures().join("golden/deviations.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn name(case: &Json) -> &str {
    case["case"].as_str().unwrap()
}

fn report(tallies: &BTreeMap<String, Tally>) {
    say(format_args!("{:<22} matched deviating failed skipped", "area"));
    for (area, tally) in tallies {
        let Tally {
            matched,
            deviating,
            failed,
            skipped,
        } = tally;
        say(format_args!(
            "{area:<22} {matched:>7} {deviating:>9} {failed:>6} {skipped:>7}"
        ));
    }
    let sum = |part: fn(&Tally) -> usize| tallies.values().map(part).sum::<usize>();
    say(format_args!(
        "{:<22} {:>7} {:>9} {:>6} {:>7}",
        "all",
        sum(|t| t.matched),
        sum(|t| t.deviating),
        sum(|t| t.failed),
        sum(|t| t.skipped)
    ));
}
