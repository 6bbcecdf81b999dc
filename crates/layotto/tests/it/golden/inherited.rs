//! What a Go sidecar left in a product is there for ours: the keys of a recording are written as they
//! were, and calls for them answer as a Go sidecar would have.

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::{StreamExt, stream};
use serde_json::{Value as Json, json};

use super::{PARALLEL, backend, case, cases, deviations, diff::Difference, name, redis};
use crate::sidecar::say;

const SERVICE: &str = "spec.proto.runtime.v1.Runtime";
const READS: [&str; 3] = ["GetConfiguration", "GetState", "GetBulkState"];
/// Nobody in the recordings.
const STRANGER: &str = "a stranger";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_go_sidecar_wrote_is_read_as_it_reads_it() {
    let (configurations, calls) = inherited(|product| product == "etcd").await;
    say(format_args!(
        "etcd of Go sidecars: {configurations} cases, {calls} calls"
    ));
    let is_here = backend::missing("${ETCD}").is_none();
    assert!(configurations > 5 || !is_here, "{configurations} were tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_go_sidecar_wrote_into_redis_is_taken_up() {
    let (cases, calls) = inherited(|product| product.starts_with("redis")).await;
    say(format_args!("redis of Go sidecars: {cases} cases, {calls} calls"));
    let is_here = backend::missing("${REDIS}").is_none();
    assert!(
        (cases > 40 && calls > 130) || !is_here,
        "{cases} and {calls} were tried"
    );
}

/// Tries all recordings of a product that is there; how many there were, and how many calls.
async fn inherited(is_meant: fn(&str) -> bool) -> (usize, usize) {
    let deviations = deviations();
    let heirs: Vec<_> = cases()
        .iter()
        .filter_map(|case| left_behind(case, is_meant))
        .collect();
    let outcomes = stream::iter(&heirs).map(async |case| (case, case::run(case).await));
    let outcomes: Vec<_> = outcomes.buffered(PARALLEL).collect().await;
    for (case, found) in outcomes {
        let is_listed =
            |difference: &&Difference| deviations.iter().any(|one| one.covers(name(case), difference));
        let unlisted: Vec<_> = found.iter().filter(|difference| !is_listed(difference)).collect();
        assert!(unlisted.is_empty(), "{}: {unlisted:#?}", name(case));
    }
    let calls = heirs
        .iter()
        .filter_map(|case| case["steps"].as_array().map(Vec::len));
    (heirs.len(), calls.sum())
}

/// A case that finds what another left, and asks for it.
fn left_behind(case: &Json, is_meant: fn(&str) -> bool) -> Option<Json> {
    let held = case.get("backend")?.as_object()?;
    if !held.keys().all(|product| is_meant(product)) || !super::needs_nothing_later(case) {
        return None;
    }
    let steps = case["steps"].as_array()?;
    let dump = steps.iter().rposition(|step| step.get("dump").is_some())?;
    let mut asked = reads(steps, dump);
    for entry in held
        .iter()
        .find_map(|(_, keys)| keys.as_array())
        .into_iter()
        .flatten()
    {
        asked.extend(questions(&case["config"], entry));
    }
    if asked.is_empty() {
        return None;
    }
    let mut heir = case.clone();
    heir["steps"] = asked.into();
    for (product, keys) in held {
        heir["setup"]["back_ends"][product] = match redis::is_product(product) {
            true => json!({"keys": keys, "db": steps[dump]["db"]}),
            false => keys.clone(),
        };
    }
    heir.as_object_mut()?.remove("backend");
    // Places in the steps as they were.
    heir.as_object_mut()?.remove("volatile");
    Some(heir)
}

/// The recorded reads of what was there when a step looked.
fn reads(steps: &[Json], dump: usize) -> Vec<Json> {
    let method = |step: &Json| {
        step["method"]
            .as_str()
            .and_then(|path| path.split('/').next_back())
            .map(str::to_owned)
    };
    let is_read = |step: &Json| method(step).is_some_and(|method| READS.contains(&method.as_str()));
    let is_write = |step: &&Json| method(step).is_some() && !is_read(step) || step.get("redis").is_some();
    let (before, after) = steps.split_at(dump);
    let first = before
        .iter()
        .rposition(|step| is_write(&step))
        .map_or(0, |last| last + 1);
    let until = after
        .iter()
        .position(|step| is_write(&step))
        .unwrap_or(after.len());
    let seen = before[first..].iter().chain(&after[..until]);
    seen.filter(|step| is_read(step)).cloned().collect()
}

/// What shows that a key of Redis is understood. The name of a key says what it is for.
fn questions(config: &Json, entry: &Json) -> Vec<Json> {
    let Some(key) = entry["key"].as_str().filter(|_| entry.get("ttl").is_some()) else {
        return Vec::new();
    };
    let name = key.rsplit_once("||").map_or(key, |(_, name)| name);
    let only = |section: &str| {
        let mut stores = config[section].as_object()?.keys();
        stores.next().filter(|_| stores.next().is_none()).cloned()
    };
    if let Some(store) = only("lock") {
        return of_lock(&store, name, &entry["value"]);
    }
    if let Some(store) = only("sequencer").filter(|_| key.starts_with("sequencer|||")) {
        return of_counter(&store, name, &entry["value"]);
    }
    match only("state") {
        Some(store) => of_item(&store, (key, name), &entry["value"]),
        None => Vec::new(),
    }
}

fn call(method: &str, request: &Json, response: &Json) -> Json {
    json!({"method": format!("{SERVICE}/{method}"), "request": request, "response": response})
}

/// Another cannot take it, nor give it back; the owner can give it back.
fn of_lock(store: &str, resource: &str, owner: &Json) -> Vec<Json> {
    let request = |owner: &Json| json!({"store_name": store, "resource_id": resource, "lock_owner": owner});
    let take = |response: &Json| {
        let mut request = request(&json!(STRANGER));
        request["expire"] = json!(10);
        call("TryLock", &request, response)
    };
    vec![
        take(&json!({})),
        call(
            "Unlock",
            &request(&json!(STRANGER)),
            &json!({"status": "LOCK_BELONG_TO_OTHERS"}),
        ),
        call("Unlock", &request(owner), &json!({})),
        take(&json!({"success": true})),
    ]
}

/// The next id follows the last.
fn of_counter(store: &str, key: &str, last: &Json) -> Vec<Json> {
    let last: i64 = last.as_str().unwrap().parse().unwrap();
    let request = json!({"store_name": store, "key": key, "options": {"increment": "STRONG"}});
    let next = json!({"next_id": (last + 1).to_string()});
    vec![call("GetNextId", &request, &next)]
}

/// It is read, with its etag, and written by that etag only.
fn of_item(store: &str, (full_key, key): (&str, &str), fields: &Json) -> Vec<Json> {
    let etag = fields["version"].as_str().unwrap();
    let next = (etag.parse::<i64>().unwrap() + 1).to_string();
    let get = |data: &Json, etag: &str| {
        let request = json!({"store_name": store, "key": key});
        call("GetState", &request, &json!({"data": data, "etag": etag}))
    };
    let item = json!({"key": key, "value": "bmV3", "etag": {"value": etag}});
    let save = json!({"store_name": store, "states": [item]});
    let mut late = call("SaveState", &save, &Json::Null);
    late["code"] = json!("ABORTED");
    let text = format!("possible etag mismatch. error from state store: key {full_key}");
    late["message"] = json!(format!("failed saving state in state store {store}: {text}"));
    vec![
        get(&json!(STANDARD.encode(redis::recorded(&fields["data"]))), etag),
        call("SaveState", &save, &json!({})),
        get(&json!("bmV3"), &next),
        late,
    ]
}
