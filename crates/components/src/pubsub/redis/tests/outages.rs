//! Servers that are away, killed, frozen, emptied.

use layotto_testkit::fault_proxy::{Door, FaultProxy, Faults, Flow};

use super::*;

/// The server hears everything, and nothing of it is heard.
fn unanswered() -> Faults {
    Faults {
        to_client: Flow {
            stops_after: Some(0),
            ..Flow::default()
        },
        ..Faults::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_connected_before_the_first_use() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let subject = on(&server, json!({})).await;
    let clients = ask(&server, &["client", "list"]);
    assert_eq!(clients.lines().count(), 1, "the question's own and {clients}");
    subject.end().await;
}

// deviation: D124
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_no_hindrance_to_opening_and_is_found_when_it_comes() {
    needs!(servers::PROGRAM);
    let mut server = servers::start_durable().await.unwrap();
    server.kill();
    let subject = on(&server, json!({})).await;
    assert_eq!(kind(subject.broker.ping().await), Some(ErrorKind::Unavailable));
    assert_eq!(
        kind(subject.publish("t", "x").await),
        Some(ErrorKind::Unavailable)
    );
    let refused = subject.try_subscribe("t", "", Metadata::new()).await;
    assert_eq!(kind(refused), Some(ErrorKind::Unavailable));
    server.resume().await.unwrap();
    let begun = Instant::now();
    while subject.publish("t", "x").await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5), "not found");
        sleep(Duration::from_millis(20)).await;
    }
    let mut subscriber = subject.subscribe("t").await;
    assert_eq!(soon(subscriber.ack()).await, "x");
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_loses_nothing_and_repeats_nothing_that_is_done() {
    needs!(servers::PROGRAM);
    let mut server = servers::start_durable().await.unwrap();
    let subject = on(&server, json!({"redeliveryBackoff": "1ms"})).await;
    let mut subscriber = subject.subscribe("t").await;
    let (mut wanted, mut seen) = (BTreeSet::new(), BTreeSet::new());
    // What the publisher was not told of, it publishes again.
    let note = |seen: &mut BTreeSet<String>, text: String| {
        assert!(text == "back" || !seen.contains(&text), "{text} came twice");
        seen.insert(text);
    };
    for round in 0..3 {
        for number in 0..50 {
            let text = format!("{round}-{number:03}");
            subject.publish("t", &text).await.unwrap();
            wanted.insert(text);
        }
        note(&mut seen, soon(subscriber.ack()).await);
        let in_hand = soon(subscriber.next()).await;
        server.kill();
        // Its end is told to the next server.
        note(&mut seen, in_hand.end(Outcome::Ack));
        server.resume().await.unwrap();
        let begun = Instant::now();
        while subject.publish("t", "back").await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        while !seen.is_superset(&wanted) {
            note(&mut seen, soon(subscriber.ack()).await);
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    let rest = async {
        loop {
            note(&mut seen, subscriber.ack().await);
        }
    };
    tokio::select! {
        () = until(0, || pending(&server, "t")) => {}
        () = rest => {}
    }
    subject.end().await;
}

// deviation: D125
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_the_server_lost_is_made_again_and_misses_nothing() {
    needs!(servers::PROGRAM);
    let mut server = servers::start(&[]).await.unwrap();
    let subject = on(&server, json!({})).await;
    let mut subscriber = subject.subscribe("t").await;
    subject.publish("t", "before").await.unwrap();
    assert_eq!(soon(subscriber.ack()).await, "before");
    // Emptied, while the server waits for entries.
    ask(&server, &["flushall"]);
    subject.publish("t", "flushed").await.unwrap();
    assert_eq!(soon(subscriber.ack()).await, "flushed");
    until(0, || pending(&server, "t")).await;
    // Started again with nothing.
    server.kill();
    server.resume().await.unwrap();
    ask(&server, &["xadd", "t", "*", "data", "restarted"]);
    assert_eq!(soon(subscriber.ack()).await, "restarted");
    until(0, || pending(&server, "t")).await;
    // Only the group is gone.
    ask(&server, &["xgroup", "destroy", "t", "app1"]);
    subject.publish("t", "destroyed").await.unwrap();
    while soon(subscriber.ack()).await != "destroyed" {}
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_over_a_lost_connection_comes_at_once() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let subject = at(&proxy.address().to_string(), json!({})).await;
    let mut subscriber = subject.subscribe("t").await;
    subject.publish("t", "seen").await.unwrap();
    assert_eq!(soon(subscriber.ack()).await, "seen");
    until(0, || pending(&server, "t")).await;
    proxy.set(unanswered()).await;
    ask(&server, &["xadd", "t", "*", "data", "swallowed"]);
    // The server believes that the consumer has it.
    until(1, || pending(&server, "t")).await;
    proxy.reset();
    proxy.heal().await;
    let begun = Instant::now();
    let delivered = soon(subscriber.next()).await;
    assert_eq!(
        (delivered.text().as_str(), delivered.message.attempt),
        ("swallowed", 1)
    );
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    delivered.end(Outcome::Ack);
    until(0, || pending(&server, "t")).await;
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_answer_is_lost_is_unavailable_and_not_published_again() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let subject = at(&proxy.address().to_string(), json!({})).await;
    subject.publish("t", "first").await.unwrap();
    proxy.set(unanswered()).await;
    let losing = async {
        until("2".to_owned(), || ask(&server, &["xlen", "t"])).await;
        proxy.reset();
        // From now on it could be published again.
        proxy.heal().await;
    };
    let (published, ()) = tokio::join!(subject.publish("t", "second"), losing);
    assert_eq!(kind(published), Some(ErrorKind::Unavailable));
    while subject.publish("t", "third").await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ask(&server, &["xlen", "t"]), "3", "it was published again");
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_does_not_wait_for_readers_and_ends_with_its_caller() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let subject = on(&server, json!({})).await;
    let _subscribers = [subject.subscribe("a").await, subject.subscribe("b").await];
    until(2, || {
        let clients = ask(&server, &["client", "list"]);
        clients.lines().filter(|line| line.contains("flags=b")).count()
    })
    .await;
    let begun = Instant::now();
    for _ in 0..20 {
        subject.publish("c", "x").await.unwrap();
    }
    // Each of the readers has the server wait for a second.
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    server.freeze().unwrap();
    let waiting = timeout(Duration::from_millis(200), subject.publish("c", "x")).await;
    assert!(waiting.is_err(), "a frozen server answered: {waiting:?}");
    server.thaw().unwrap();
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_kind_is_an_error_and_subscriptions_wait_for_its_end() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let subject = on(&server, json!({})).await;
    ask(&server, &["set", "t", "text"]);
    let refused = subject.try_subscribe("t", "", Metadata::new()).await;
    assert_eq!(kind(refused), Some(ErrorKind::Internal));
    assert_eq!(kind(subject.publish("t", "x").await), Some(ErrorKind::Internal));
    ask(&server, &["del", "t"]);
    let mut subscriber = subject.subscribe("t").await;
    ask(&server, &["del", "t"]);
    ask(&server, &["set", "t", "text"]);
    sleep(Duration::from_millis(1200)).await;
    ask(&server, &["del", "t"]);
    subject.publish("t", "x").await.unwrap();
    assert_eq!(soon(subscriber.ack()).await, "x");
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_does_not_wait_for_a_server_that_says_nothing() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let subject = on(&server, json!({"readTimeout": "-1"})).await;
    let mut subscriber = subject.subscribe("t").await;
    subject.publish("t", "x").await.unwrap();
    assert_eq!(soon(subscriber.ack()).await, "x");
    server.freeze().unwrap();
    drop(subscriber);
    let begun = Instant::now();
    subject.end().await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    server.thaw().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_tried_no_more_than_ten_times_a_second_whatever_reads_from_it() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let subject = at(&proxy.address().to_string(), json!({})).await;
    let mut subscribers = Vec::new();
    for topic in 0..20 {
        subscribers.push(subject.subscribe(&topic.to_string()).await);
    }
    proxy.wait_for(|counts| counts.live > 20).await;
    proxy.set(Faults::door(Door::Slams)).await;
    proxy.reset();
    let before = proxy.counts().turned_away;
    sleep(Duration::from_secs(2)).await;
    let tries = proxy.counts().turned_away - before;
    // A connection that was being made when the door shut counts, too.
    assert!((2..=25).contains(&tries), "{tries} tries in two seconds");
    proxy.heal().await;
    let begun = Instant::now();
    for (topic, subscriber) in subscribers.iter_mut().enumerate() {
        while subject.publish(&topic.to_string(), "back").await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(soon(subscriber.ack()).await, "back");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_said_on_the_connection_for_reading_too() {
    needs!(servers::PROGRAM);
    let server = servers::start(&["--requirepass", "p4ss"]).await.unwrap();
    let subject = on(&server, json!({"redisPassword": "p4ss"})).await;
    let mut subscriber = subject.subscribe("t").await;
    subject.publish("t", "x").await.unwrap();
    assert_eq!(soon(subscriber.ack()).await, "x");
    subject.end().await;
    let stranger = on(&server, json!({"redisPassword": "wrong"})).await;
    let refused = stranger.try_subscribe("t", "", Metadata::new()).await;
    assert_eq!(kind(refused), Some(ErrorKind::Unauthenticated));
    assert_eq!(
        kind(stranger.publish("t", "x").await),
        Some(ErrorKind::Unauthenticated)
    );
}
