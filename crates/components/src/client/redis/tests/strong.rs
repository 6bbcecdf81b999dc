//! Strong writes while a replica does not answer.

use layotto_testkit::server::Server;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// What a machine that does much else takes longer.
const SLACK: Duration = Duration::from_millis(700);
/// More than a client has connections for them.
const MANY: usize = 40;

/// A primary and its replica.
async fn pair() -> [Server; 2] {
    let primary = servers::start(&[]).await.unwrap();
    let port = primary.address().port().to_string();
    let replica = servers::start(&["--replicaof", "127.0.0.1", &port])
        .await
        .unwrap();
    while !servers::cli(&primary, &["info", "replication"])
        .unwrap()
        .contains("state=online")
    {
        sleep(Duration::from_millis(10)).await;
    }
    [primary, replica]
}

/// Waits until somebody waits for the replica.
async fn until_some_wait(primary: &Server) {
    while !servers::cli(primary, &["client", "list"])
        .unwrap()
        .contains("cmd=wait")
    {
        sleep(Duration::from_millis(5)).await;
    }
}

fn script() -> Script {
    Script::new("return redis.call('SET', KEYS[1], ARGV[1])")
}

fn call<'a>(script: &'a Script, key: &'a str, value: &'static str) -> Call<'a> {
    Call {
        script,
        keys: vec![key],
        arguments: vec![value.as_bytes()],
    }
}

#[tokio::test]
async fn nobody_waits_longer_than_a_second_and_nothing_is_written_later() {
    needs!(servers::PROGRAM);
    let [primary, replica] = pair().await;
    let client = client(&primary.address().to_string(), &[]);
    let write = script();
    client.call_replicated(&call(&write, "warm", "v")).await.unwrap();
    let keys: Vec<_> = (0..MANY).map(|number| format!("k{number}")).collect();
    replica.freeze().unwrap();
    let (first, later) = keys.split_at(MANY / 2);
    let write_all = async |keys: &[String]| {
        let writes = keys.iter().map(|key| {
            let (client, write) = (&client, &write);
            async move { timeout(SECOND + SLACK, client.call_replicated(&call(write, key, "old"))).await }
        });
        futures::future::join_all(writes).await
    };
    let (mut outcomes, others) = tokio::join!(write_all(first), async {
        until_some_wait(&primary).await;
        write_all(later).await
    });
    outcomes.extend(others);
    for key in &keys {
        client.say(&["SET", key, "new"]).await.unwrap();
    }
    replica.thaw().unwrap();
    // What is behind others comes to its end before these do.
    let again = (0..MANY).map(|_| async { client.call_replicated(&call(&write, "warm", "w")).await });
    for outcome in futures::future::join_all(again).await {
        outcome.unwrap();
    }
    for key in &keys {
        assert_eq!(text(&client.say(&["GET", key]).await.unwrap()), "new", "{key}");
    }
    for outcome in outcomes {
        let error = outcome.expect("within a second").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
}

#[tokio::test]
async fn who_goes_away_while_waiting_holds_up_nobody() {
    needs!(servers::PROGRAM);
    let [primary, replica] = pair().await;
    let client = client(&primary.address().to_string(), &[]);
    let write = script();
    client.call_replicated(&call(&write, "warm", "v")).await.unwrap();
    replica.freeze().unwrap();
    let writes = (0..MANY).map(|_| async {
        let waiting = call(&write, "k", "v");
        timeout(SECOND / 4, client.call_replicated(&waiting))
            .await
            .unwrap_err()
    });
    futures::future::join_all(writes).await;
    let late = call(&write, "late", "v");
    let writing = client.call_replicated(&late);
    let written = async {
        while client.say(&["GET", "late"]).await.unwrap() == Value::Nil {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        biased;
        () = written => {}
        outcome = writing => panic!("not written before {outcome:?}"),
        () = sleep(SECOND / 2) => panic!("behind those that went away"),
    }
    replica.thaw().unwrap();
}

#[tokio::test]
async fn a_short_patience_is_not_at_an_end_while_replicas_are_waited_for() {
    needs!(servers::PROGRAM);
    let [primary, replica] = pair().await;
    let client = client(&primary.address().to_string(), &[("readTimeout", "200ms")]);
    let write = script();
    client.call_replicated(&call(&write, "k", "v")).await.unwrap();
    replica.freeze().unwrap();
    let error = client.call_replicated(&call(&write, "k", "w")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    replica.thaw().unwrap();
}
