//! Strong writes whose connections are away, or were.

use layotto_testkit::fault_proxy::{Door, FaultProxy, Faults};

use super::*;

/// As many as a client has connections for.
const MANY: usize = 16;
/// How long what a connection knows of an outage counts, and a bit.
const LULL: Duration = Duration::from_millis(2300);
/// The longest wait for replicas, and what a machine that does much else takes longer.
const WAIT: Duration = Duration::from_millis(1700);

/// Writes `k` in so many calls at once.
async fn write(client: &Redis, number: usize) -> Vec<Result<Value>> {
    let script = Script::new("return redis.call('SET', KEYS[1], ARGV[1])");
    let call = Call {
        script: &script,
        keys: vec!["k"],
        arguments: vec![b"v"],
    };
    futures::future::join_all((0..number).map(|_| client.call_replicated(&call))).await
}

fn assert_away(outcomes: Vec<Result<Value>>) {
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}

#[tokio::test]
async fn a_server_that_one_connection_reached_is_away_for_none() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let client = client(&proxy.address().to_string(), &[]);
    proxy.set(Faults::door(Door::Shut)).await;
    assert_away(write(&client, MANY).await);
    proxy.heal().await;
    let begun = Instant::now();
    while write(&client, 1).await[0].is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5), "never back");
        sleep(Duration::from_millis(5)).await;
    }
    for outcome in write(&client, MANY).await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn what_a_connection_knows_of_an_outage_counts_for_a_while_only() {
    needs!(servers::PROGRAM);
    let mut server = servers::start(&[]).await.unwrap();
    let client = client(&server.address().to_string(), &[]);
    server.kill();
    assert_away(write(&client, MANY).await);
    server.resume().await.unwrap();
    sleep(LULL).await;
    for outcome in write(&client, MANY).await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn a_write_without_a_connection_is_not_written_and_leaves_the_time_for_replicas() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let client = client(&proxy.address().to_string(), &[]);
    proxy.set(Faults::blackhole()).await;
    let begun = Instant::now();
    let error = write(&client, 1).await.remove(0).unwrap_err();
    assert!(begun.elapsed() < WAIT, "{:?}", begun.elapsed());
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.message().starts_with("not written: "), "{error}");
    proxy.heal().await;
    // The connection that it waited for is there for the next one.
    write(&client, 1).await.remove(0).unwrap();
    assert_eq!(proxy.counts().total, 1);
}
