//! What is in the server, and who shares it: consumers of other processes, and those of Go sidecars.

use super::*;
use crate::pubsub::queue::Place;

#[tokio::test(flavor = "multi_thread")]
async fn stream_group_and_field_are_those_of_go_sidecars() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let subject = on(&server, json!({})).await;
    let id = subject.publish("t1", "{}").await.unwrap();
    assert_eq!(
        ask(&server, &["xrange", "t1", "-", "+"]),
        format!("{id}\ndata\n{{}}")
    );
    // A group begins with all that the topic has.
    let mut subscriber = subject.subscribe("t1").await;
    let delivered = soon(subscriber.next()).await;
    assert_eq!((&delivered.message.id, delivered.message.attempt), (&id, 1));
    delivered.end(Outcome::Ack);
    until(0, || pending(&server, "t1")).await;
    let groups = ask(&server, &["xinfo", "groups", "t1"]);
    assert_eq!(groups.lines().take(2).collect::<Vec<_>>(), ["name", "app1"]);
    let named = on(&server, json!({"consumerID": "named"})).await;
    let of_another = named.subscribe("t1").await;
    let groups = ask(&server, &["xinfo", "groups", "t1"]);
    assert!(groups.lines().any(|line| line == "named"), "{groups}");
    drop((subscriber, of_another));
    named.end().await;
    subject.end().await;
    assert_eq!(ask(&server, &["keys", "*"]), "t1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_cut_to_about_the_length_of_the_settings() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    ask(&server, &["config", "set", "stream-node-max-entries", "10"]);
    let subject = on(&server, json!({"maxLenApprox": "20"})).await;
    for text in texts(0..100) {
        subject.publish("t", &text).await.unwrap();
    }
    let length: usize = ask(&server, &["xlen", "t"]).parse().unwrap();
    assert!((20..=40).contains(&length), "{length}");
    let whole = on(&server, json!({})).await;
    for text in texts(0..100) {
        whole.publish("whole", &text).await.unwrap();
    }
    assert_eq!(ask(&server, &["xlen", "whole"]), "100");
}

// deviation: D128
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_shared_with_a_go_sidecar() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let settings = json!({"processingTimeout": "400ms", "redeliverInterval": "100ms", "ackDeadline": "0"});
    let subject = on(&server, settings).await;
    for text in ["theirs", "ours"] {
        subject.publish("t", text).await.unwrap();
    }
    // As the Go sidecar does: a consumer with the name of the group reads, and then says nothing.
    ask(&server, &["xgroup", "create", "t", "app1", "0"]);
    let read = [
        "xreadgroup",
        "group",
        "app1",
        "app1",
        "count",
        "1",
        "streams",
        "t",
        ">",
    ];
    assert!(ask(&server, &read).ends_with("theirs"));
    let mut subscriber = subject.subscribe("t").await;
    let ours = soon(subscriber.next()).await;
    assert_eq!((ours.text().as_str(), ours.message.attempt), ("ours", 1));
    let theirs = soon(subscriber.next()).await;
    assert_eq!((theirs.text().as_str(), theirs.message.attempt), ("theirs", 2));
    // Both are being handled for longer than the Go sidecar waits, which finds none of them idle.
    sleep(Duration::from_millis(800)).await;
    assert_eq!(
        ask(&server, &["xpending", "t", "app1", "idle", "400", "-", "+", "10"]),
        ""
    );
    assert_eq!(pending(&server, "t"), 2);
    ours.end(Outcome::Ack);
    theirs.end(Outcome::Ack);
    until(0, || pending(&server, "t")).await;
    assert!(subscriber.deliveries.try_recv().is_err(), "one came twice");
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_consumer_had_goes_to_another_with_its_attempts() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let settings = json!({
        "processingTimeout": "500ms", "redeliverInterval": "100ms", "redeliveryBackoff": "1ms", "ackDeadline": "0"
    });
    // It has a runtime of its own, and so all that it has running ends with it.
    let process = tokio::runtime::Runtime::new().unwrap();
    let (server_of_dead, settings_of_dead) = (server.address().to_string(), settings.clone());
    let living = process.spawn(async move {
        let dead = at(&server_of_dead, settings_of_dead).await;
        (dead.subscribe("t").await, dead)
    });
    let (mut doomed, dead) = living.await.unwrap();
    let second = on(&server, settings).await;
    second.publish("t", "again").await.unwrap();
    soon(doomed.next()).await.end(retry());
    let in_hand = soon(doomed.next()).await;
    assert_eq!(in_hand.message.attempt, 2);
    let mut subscriber = second.subscribe("t").await;
    // As long as it lives, nobody takes over what it has.
    sleep(Duration::from_millis(1000)).await;
    assert!(subscriber.deliveries.try_recv().is_err(), "it was taken over");
    process.shutdown_background();
    drop(dead);
    let taken = soon(subscriber.next()).await;
    assert_eq!(taken.message.id, in_hand.message.id);
    assert_eq!(taken.message.attempt, 3);
    taken.end(Outcome::Ack);
    until(0, || pending(&server, "t")).await;
    second.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_another_consumer_took_over_is_let_go() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let subject = on(&server, json!({"processingTimeout": "150ms", "ackDeadline": "0"})).await;
    let mut subscriber = subject.subscribe("t").await;
    let id = subject.publish("t", "slow").await.unwrap();
    let mut held = soon(subscriber.next()).await;
    ask(&server, &["xclaim", "t", "app1", "other", "0", &id]);
    soon(held.verdict.closed()).await;
    // It is the other one's, and stays that.
    sleep(Duration::from_millis(200)).await;
    let told = ask(&server, &["xpending", "t", "app1", "-", "+", "10"]);
    assert_eq!(told.lines().nth(1), Some("other"), "{told}");
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_subscription_leaves_nothing_running_and_its_events_to_others() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let settings = json!({"redeliverInterval": "100ms", "concurrency": "1"});
    let (first, second) = (on(&server, settings.clone()).await, on(&server, settings).await);
    let mut leaving = first.subscribe("t").await;
    for text in texts(0..5) {
        first.publish("t", &text).await.unwrap();
    }
    let unfinished = soon(leaving.next()).await;
    until(5, || pending(&server, "t")).await;
    let mut staying = second.subscribe("t").await;
    drop(leaving);
    drop(unfinished);
    let begun = Instant::now();
    let mut seen = BTreeSet::new();
    while seen.len() < 5 {
        let delivered = soon(staying.next()).await;
        let attempt = if delivered.text() == "000" { 2 } else { 1 };
        assert_eq!(delivered.message.attempt, attempt, "{}", delivered.text());
        seen.insert(delivered.end(Outcome::Ack));
    }
    // Long before it would count as dead.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    until(0, || pending(&server, "t")).await;
    until(true, || first.cx.tasks.is_empty()).await;
    // The one that stays, and the one that what was left goes through.
    let left = consumers(&server, "t");
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.contains(&"app1".to_owned()), "{left:?}");
    let clients = ask(&server, &["client", "list"]);
    let reading = clients
        .lines()
        .filter(|line| line.contains("cmd=xreadgroup"))
        .count();
    assert_eq!(reading, 1, "{clients}");
    first.end().await;
    second.end().await;
    assert_eq!(consumers(&server, "t"), ["app1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_crashed_long_ago_are_forgotten_and_others_are_not() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let subject = on(&server, json!({})).await;
    subject.publish("t", "x").await.unwrap();
    ask(&server, &["xgroup", "create", "t", "app1", "0"]);
    for consumer in ["layotto-busy", "layotto-fresh", "app1"] {
        ask(&server, &["xgroup", "createconsumer", "t", "app1", consumer]);
    }
    let read = ["xreadgroup", "group", "app1", "layotto-busy", "streams", "t", ">"];
    ask(&server, &read);
    let place = Place {
        topic: "t".to_owned(),
        group: "app1".to_owned(),
    };
    subject
        .broker
        .streams
        .sweep(&place, Duration::from_secs(600))
        .await
        .unwrap();
    assert_eq!(consumers(&server, "t").len(), 3);
    subject
        .broker
        .streams
        .sweep(&place, Duration::ZERO)
        .await
        .unwrap();
    let mut left = consumers(&server, "t");
    left.sort();
    assert_eq!(left, ["app1", "layotto-busy"]);
}

// deviation: D127
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_event_comes_again_soon_and_ends_in_the_dead_letter_topic() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let subject = on(&server, json!({"maxDeliveries": "3", "redeliveryBackoff": "1ms"})).await;
    let mut subscriber = subject.try_subscribe("t", "dead", Metadata::new()).await.unwrap();
    let id = subject.publish("t", "hopeless").await.unwrap();
    let begun = Instant::now();
    for attempt in 1..=3 {
        let delivered = soon(subscriber.next()).await;
        assert_eq!((&delivered.message.id, delivered.message.attempt), (&id, attempt));
        // The server knows of those that failed, and perhaps of the one that began since.
        if attempt == 3 {
            until(true, || {
                let told = ask(&server, &["xpending", "t", "app1", "-", "+", "10"]);
                matches!(told.lines().nth(3), Some("2" | "3"))
            })
            .await;
        }
        delivered.end(retry());
    }
    until("1".to_owned(), || ask(&server, &["xlen", "dead"])).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(ask(&server, &["xrange", "dead", "-", "+"]).ends_with("data\nhopeless"));
    until(0, || pending(&server, "t")).await;
    assert!(subscriber.deliveries.try_recv().is_err(), "it came again");
    subject.end().await;
}

// deviation: D126
#[tokio::test(flavor = "multi_thread")]
async fn entries_that_are_no_events_go_to_the_dead_letter_topic_as_they_are() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let subject = on(&server, json!({"maxDeliveries": "0"})).await;
    let mut subscriber = subject.try_subscribe("t", "dead", Metadata::new()).await.unwrap();
    ask(&server, &["xadd", "t", "*", "other", "1", "fields", "2"]);
    subject.publish("t", "event").await.unwrap();
    assert_eq!(soon(subscriber.ack()).await, "event");
    until("1".to_owned(), || ask(&server, &["xlen", "dead"])).await;
    let dead = ask(&server, &["xrange", "dead", "-", "+"]);
    assert!(dead.ends_with("other\n1\nfields\n2"), "{dead}");
    until(0, || pending(&server, "t")).await;
    // Where there is no such topic, they are done.
    let mut without = subject.subscribe("t2").await;
    ask(&server, &["xadd", "t2", "*", "other", "1"]);
    subject.publish("t2", "event").await.unwrap();
    assert_eq!(soon(without.ack()).await, "event");
    until(0, || pending(&server, "t2")).await;
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_moved_once_however_often_that_is_asked() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let subject = on(&server, json!({})).await;
    let mut subscriber = subject.subscribe("t").await;
    let id = subject.publish("t", "dead").await.unwrap();
    let held = soon(subscriber.next()).await;
    let place = Place {
        topic: "t".to_owned(),
        group: "app1".to_owned(),
    };
    for _ in 0..2 {
        let fields = [&b"data"[..], b"dead"];
        let moving = subject.broker.streams.transfer(&place, &id, &fields, "dead");
        moving.await.unwrap();
        assert_eq!(
            (ask(&server, &["xlen", "dead"]).as_str(), pending(&server, "t")),
            ("1", 0)
        );
    }
    drop(held);
    // Where it cannot be added, it is not done either.
    let id = subject.publish("t", "more").await.unwrap();
    let held = soon(subscriber.next()).await;
    ask(&server, &["set", "text", "x"]);
    let refused = subject
        .broker
        .streams
        .transfer(&place, &id, &[b"data", b"x"], "text")
        .await;
    assert_eq!(kind(refused), Some(ErrorKind::Internal));
    assert_eq!(pending(&server, "t"), 1);
    drop((held, subscriber));
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_for_once_begins_now_and_leaves_nothing_behind() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let subject = on(&server, json!({"redeliveryBackoff": "1ms"})).await;
    subject.publish("t", "before").await.unwrap();
    let once = || Metadata::from([(EPHEMERAL.to_owned(), "true".to_owned())]);
    let mut one = subject.try_subscribe("t", "", once()).await.unwrap();
    let mut two = subject.try_subscribe("t", "", once()).await.unwrap();
    for text in texts(0..5) {
        subject.publish("t", &text).await.unwrap();
    }
    for subscriber in [&mut one, &mut two] {
        let first = soon(subscriber.next()).await;
        let text = first.end(retry());
        let mut seen = BTreeSet::new();
        while seen.len() < 5 {
            let delivered = soon(subscriber.next()).await;
            let attempt = if delivered.text() == text { 2 } else { 1 };
            assert_eq!(delivered.message.attempt, attempt);
            seen.insert(delivered.end(Outcome::Ack));
        }
        assert!(seen.into_iter().eq(texts(0..5)));
    }
    assert_eq!(ask(&server, &["xinfo", "groups", "t"]), "");
    drop((one, two));
    until(true, || subject.cx.tasks.is_empty()).await;
}
