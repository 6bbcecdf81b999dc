//! The suites of what Redis serves, over sentinels and over a cluster.

use std::{
    io::{self, Write},
    sync::Arc,
};

use layotto_core::{Component, Kind, Registry};
use layotto_testkit::{
    conformance::{self, Assertion, subject::Source},
    fixture::Fixture,
    matrix::{self, Column, Matrix, Verdict},
    needs,
    server::redis as servers,
};

/// Why a cluster cannot do what these assertions of a state store try.
const SLOTS: &str = "a transaction of a cluster takes keys of one slot, and these lie in several";
const ACROSS_SLOTS: [&str; 8] = [
    "operations_apply_in_order",
    "deleting_a_missing_key_is_no_error",
    "large_transaction_is_whole",
    "bad_etag_changes_nothing",
    "right_etags_pass",
    "first_write_in_a_transaction",
    "transfers_keep_the_sum",
    "ttl_in_a_transaction",
];

fn registry() -> Arc<Registry> {
    let mut registry = Registry::default();
    layotto_components::register(&mut registry);
    Arc::new(registry)
}

/// A primary with a replica, watched by sentinels.
async fn sentinels() -> Fixture {
    let watched = servers::start_sentinels().await.expect("sentinels start");
    let addresses = watched
        .sentinels
        .iter()
        .map(|server| server.address().to_string());
    let mut fixture = Fixture::plain().expect("a temporary directory");
    fixture
        .settings
        .set("redisHost", addresses.collect::<Vec<_>>().join(","));
    fixture.settings.set("failover", "true");
    fixture.settings.set("sentinelMasterName", servers::PRIMARY_NAME);
    fixture.servers = watched.servers.into_iter().chain(watched.sentinels).collect();
    fixture.facts.durable = true;
    fixture
}

/// Three primaries that share the slots.
async fn cluster() -> Fixture {
    let nodes = servers::start_cluster().await.expect("a cluster starts");
    let first = nodes.first().expect("a cluster has nodes").address().to_string();
    let mut fixture = Fixture::plain().expect("a temporary directory");
    fixture.settings.set("redisHost", first);
    fixture.settings.set("redisType", "cluster");
    fixture.servers = nodes;
    fixture.facts.durable = true;
    fixture.facts.quirks = ACROSS_SLOTS.map(|name| (name, SLOTS)).into();
    fixture
}

async fn column<T: ?Sized + Component>(
    name: &'static str,
    kind: fn(&Registry) -> &Kind<T>,
    fixture: Fixture,
    assertions: &[Assertion<T>],
) -> Column {
    let source = Source {
        registry: registry(),
        kind,
        type_name: "redis",
        wrap: |component| component,
    };
    let column = matrix::column(source, fixture, assertions).await;
    Column {
        type_name: name,
        ..column
    }
}

/// Runs the suite of a kind over both; `ignored` of its assertions do not apply, over sentinels and
/// over a cluster.
async fn conforms<T: ?Sized + Component>(
    kind: fn(&Registry) -> &Kind<T>,
    assertions: Vec<Assertion<T>>,
    ignored: [usize; 2],
) {
    needs!(servers::PROGRAM);
    let matrix = Matrix {
        kind: kind(&registry()).section(),
        assertions: assertions.iter().map(|assertion| assertion.name).collect(),
        columns: vec![
            column("redis, sentinels", kind, sentinels().await, &assertions).await,
            column("redis, cluster", kind, cluster().await, &assertions).await,
        ],
        planned: Vec::new(),
    };
    writeln!(io::stdout().lock(), "\n{matrix}").expect("stdout takes the matrix");
    assert_eq!(matrix.failures(), [], "assertions of {} do not hold", matrix.kind);
    for (column, ignored) in matrix.columns.iter().zip(ignored) {
        let found = column.verdicts.iter();
        let found = found
            .filter(|verdict| matches!(verdict, Verdict::Ignored(_)))
            .count();
        assert_eq!(found, ignored, "ignored assertions of {}", column.type_name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn state_stores() {
    let assertions = conformance::state::assertions();
    conforms(|registry| &registry.state, assertions, [0, ACROSS_SLOTS.len()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lock_stores() {
    conforms(|registry| &registry.lock, conformance::lock::assertions(), [0, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sequencers() {
    conforms(
        |registry| &registry.sequencer,
        conformance::sequencer::assertions(),
        [0, 0],
    )
    .await;
}

/// Without those about `maxQueued` and `ttlInSeconds`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn brokers() {
    conforms(
        |registry| &registry.pubsub,
        conformance::pubsub::assertions(),
        [3, 3],
    )
    .await;
}
