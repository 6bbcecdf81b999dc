//! Fifty clients at once: correct components pass the checkers of histories, broken ones do not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use layotto_core::{
    Component, Context, Kind, Registry, Settings, lock::LockStore, pubsub::PubSub, sequencer::Sequencer,
    state::StateStore,
};
use layotto_testkit::{
    broken::{self, Defect},
    history::{Report, delivery, etag, lock, register, sequence},
    load::{self, Load},
};

/// How long clients go on; with paused time it costs next to nothing.
const LONG: Duration = Duration::from_secs(3);
const SHORT: Duration = Duration::from_millis(1500);

async fn in_memory<T: ?Sized + Component>(kind: fn(&Registry) -> &Kind<T>) -> Arc<T> {
    // The process chooses how TLS is done; another test may have done so before.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut registry = Registry::default();
    layotto_components::register(&mut registry);
    let known = kind(&registry).get("in-memory").unwrap();
    let context = Context::standalone("c", std::env::temp_dir());
    known.open(&Settings::default(), context).await.unwrap()
}

/// Has the clients go on for so long.
fn load(span: Duration) -> Load {
    let load = Load::new("k", 20);
    let stop = load.stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(span).await;
        stop.cancel();
    });
    load
}

async fn locks(store: Arc<dyn LockStore>, span: Duration) -> Report {
    let history = lock::History::default();
    load::locks(store, &load(span), &history).await;
    lock::check(&history.operations(), true)
}

async fn sequences(sequencer: Arc<dyn Sequencer>, span: Duration) -> Report {
    let history = sequence::History::default();
    load::sequences(Arc::new(load::Direct(sequencer)), &load(span), &history).await;
    sequence::check(&history.operations())
}

async fn etags(store: Arc<dyn StateStore>, span: Duration) -> Report {
    let (history, load) = (register::History::default(), load(span));
    load::by_etag(store.clone(), &load, &history).await;
    load::settle(store, &load, &history).await;
    etag::check(&history.operations(), etag::Reads::Latest)
}

async fn registers(store: Arc<dyn StateStore>, span: Duration) -> Report {
    let (history, load) = (register::History::default(), load(span));
    load::without_condition(store.clone(), &load, &history).await;
    load::settle(store, &load, &history).await;
    register::check(&history.operations())
}

async fn messages(broker: Arc<dyn PubSub>, span: Duration) -> Report {
    let (history, inbox) = (delivery::History::default(), delivery::Inbox::default());
    let patience = Duration::from_secs(10);
    load::messages(broker, &load(span), (&history, &inbox), patience)
        .await
        .unwrap();
    delivery::check(&history.operations(), &inbox.deliveries())
}

fn is_well(report: &Report, happened: &[&str]) {
    println!("{report}");
    assert!(report.violations.is_empty(), "{report}");
    for what in happened {
        assert!(report.count(what) > 20, "{what}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn locks_in_memory_are_well() {
    let report = locks(in_memory(|registry| &registry.lock).await, SHORT).await;
    is_well(&report, &["grants"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sequences_in_memory_are_well() {
    let report = sequences(in_memory(|registry| &registry.sequencer).await, SHORT).await;
    is_well(&report, &["ids"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn state_in_memory_is_well() {
    let report = etags(in_memory(|registry| &registry.state).await, SHORT).await;
    is_well(&report, &["versions", "conflicts"]);
    let report = registers(in_memory(|registry| &registry.state).await, SHORT).await;
    is_well(&report, &["written", "read"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_in_memory_are_well() {
    let report = messages(in_memory(|registry| &registry.pubsub).await, SHORT).await;
    is_well(&report, &["deliveries"]);
    assert_eq!(report.count("duplicates"), 0, "{report}");
}

/// Every defect is found, but for those `beside` the point, which no history shows.
async fn finds<T: ?Sized + Component, F: Future<Output = Report>>(
    kind: fn(&Registry) -> &Kind<T>,
    defects: Vec<Defect<T>>,
    beside: &[&str],
    run: impl Fn(Arc<T>, Duration) -> F,
    is_wrong: fn(&Report) -> bool,
) {
    for name in beside {
        assert!(
            defects.iter().any(|defect| defect.name == *name),
            "no such defect: {name}"
        );
    }
    for defect in defects.iter().filter(|defect| !beside.contains(&defect.name)) {
        let report = run((defect.wrap)(in_memory(kind).await), LONG).await;
        let first = report.violations.first();
        println!(
            "{}: {} violations, {first:?}",
            defect.name,
            report.violations.len()
        );
        assert!(is_wrong(&report), "{}: {report}", defect.name);
    }
}

fn has_violations(report: &Report) -> bool {
    !report.violations.is_empty()
}

#[tokio::test(start_paused = true)]
async fn broken_locks_are_found() {
    // Nobody is ever harmed by a lock that stays held.
    let beside = ["a lock whose lease never ends"];
    finds(
        |registry| &registry.lock,
        broken::locks(),
        &beside,
        locks,
        has_violations,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn broken_sequences_are_found() {
    let beside = ["a sequencer that ignores lower bounds"];
    finds(
        |registry| &registry.sequencer,
        broken::sequencers(),
        &beside,
        sequences,
        has_violations,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn stores_that_do_not_mind_etags_are_found() {
    let beside = [
        "a store that leaves half a transaction",
        "a store that carries out a transaction backwards",
        "a store that never lets an item expire",
        "a store that takes values for text",
    ];
    finds(
        |registry| &registry.state,
        broken::states(),
        &beside,
        etags,
        has_violations,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_loses_writes_is_found_without_etags_too() {
    let defects = broken::states().into_iter();
    let defects = defects.filter(|defect| defect.name == "a store that loses a write");
    finds(
        |registry| &registry.state,
        defects.collect(),
        &[],
        registers,
        has_violations,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn broken_queues_are_found() {
    let beside = [
        "a queue that does not count attempts",
        "a queue without dead letters that claims to have them",
        "a queue that ignores TTL and delay",
        "a queue that says yes when it is full",
    ];
    let is_wrong = |report: &Report| has_violations(report) || report.count("duplicates") > 0;
    finds(
        |registry| &registry.pubsub,
        broken::queues(),
        &beside,
        messages,
        is_wrong,
    )
    .await;
}
