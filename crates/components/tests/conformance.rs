//! Runs the conformance suites over every registered component, and over broken ones.

use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use layotto_core::{Component, Kind, Registry};
use layotto_testkit::{
    broken::{self, Defect},
    conformance::{self, Assertion, subject::Source},
    fixture,
    matrix::{self, Verdict, results},
};

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance.json");

fn registry() -> Arc<Registry> {
    // The process chooses how TLS is done; another test may have done so before.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut registry = Registry::default();
    layotto_components::register(&mut registry);
    Arc::new(registry)
}

/// Prints past the capture of the test harness: the matrix is a result, passed or not.
fn print(text: &str) {
    writeln!(io::stdout().lock(), "\n{text}").expect("stdout takes the matrix");
}

/// Held by the suite that runs: products that start, and leases of a second, take their time where
/// all suites run at once.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn conforms<T: ?Sized + Component>(kind: fn(&Registry) -> &Kind<T>, assertions: Vec<Assertion<T>>) {
    let turn = TURN.lock().await;
    let matrix = matrix::run(&registry(), kind, &assertions).await;
    drop(turn);
    print(&matrix.to_string());
    assert_eq!(matrix.failures(), [], "assertions of {} do not hold", matrix.kind);
    if let Err(wrong) = results::check(&matrix, Path::new(RESULTS)) {
        panic!("{wrong}");
    }
}

/// Every defect, put around the in-memory component, is found by each assertion that it names.
async fn catches<T: ?Sized + Component>(
    kind: fn(&Registry) -> &Kind<T>,
    assertions: Vec<Assertion<T>>,
    defects: Vec<Defect<T>>,
) {
    let trials = defects.iter().map(async |defect| {
        let named = |assertion: &&Assertion<T>| defect.caught_by.contains(&assertion.name);
        let chosen: Vec<_> = assertions.iter().filter(named).copied().collect();
        assert_eq!(
            chosen.len(),
            defect.caught_by.len(),
            "{} names an unknown assertion",
            defect.name
        );
        let source = Source {
            registry: registry(),
            kind,
            type_name: "in-memory",
            wrap: defect.wrap,
        };
        let fixture = fixture::of("", "in-memory")
            .await
            .expect("in-memory needs nothing");
        (
            defect,
            chosen.clone(),
            matrix::column(source, fixture, &chosen).await,
        )
    });
    let mut missed = Vec::new();
    for (defect, chosen, column) in futures::future::join_all(trials).await {
        let mut text = format!("{}:", defect.name);
        for (assertion, verdict) in chosen.iter().zip(&column.verdicts) {
            match verdict {
                Verdict::Failed(wrong) => {
                    text.push_str(&format!("\n  caught by {}: {wrong}", assertion.name))
                }
                other => missed.push(format!("{}: {} says {other:?}", defect.name, assertion.name)),
            }
        }
        print(&text);
    }
    assert_eq!(missed, [""; 0], "defects went unnoticed");
}

macro_rules! suites {
    ($($test:ident: $field:ident, $suite:ident);* $(;)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $test() {
            conforms(|registry| &registry.$field, conformance::$suite::assertions()).await;
        })*
    };
}

suites! {
    bindings: binding, binding;
    configuration_stores: configuration, configuration;
    file_stores: file, file;
    greeters: hello, hello;
    lock_stores: lock, lock;
    brokers: pubsub, pubsub;
    callers_of_services: rpc, rpc;
    secret_stores: secret, secret;
    sequencers: sequencer, sequencer;
    state_stores: state, state;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn components_of_custom_kinds() {
    assert_eq!(registry().custom.keys().collect::<Vec<_>>(), [&"helloworld"]);
    conforms(
        |registry| &registry.custom["helloworld"],
        conformance::custom::assertions(),
    )
    .await;
}

macro_rules! negative_controls {
    ($($test:ident: $field:ident, $defects:ident);* $(;)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $test() {
            let assertions = conformance::$field::assertions();
            catches(|registry| &registry.$field, assertions, broken::$defects()).await;
        })*
    };
}

negative_controls! {
    broken_configuration_stores_are_caught: configuration, configurations;
    broken_lock_stores_are_caught: lock, locks;
    broken_queues_are_caught: pubsub, queues;
    broken_sequencers_are_caught: sequencer, sequencers;
    broken_state_stores_are_caught: state, states;
}
