//! Against a broker that is killed, frozen and asked for a login. Skipped where Kafka is not there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use layotto_core::{
    Component, Context, Error, ErrorKind, Metadata, Open,
    pubsub::{EPHEMERAL, Outcome},
};
use layotto_testkit::{
    needs,
    process::free_address,
    server::{Server, kafka},
    soon::{PATIENCE, soon},
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{Kafka, consumer::Client};
use crate::{
    client::kafka::{Connection, Reach, Told},
    pubsub::probe::{self, Delivered, Subscriber, kind, retry, texts},
};

mod commits;

/// How long an end may take, whatever the broker does.
const FAREWELL: Duration = Duration::from_secs(3);

type Subject = probe::Subject<Kafka>;

async fn on(server: &Server, settings: Value) -> Subject {
    at(&server.address().to_string(), settings).await
}

async fn at(brokers: &str, settings: Value) -> Subject {
    try_at(brokers, settings).await.unwrap()
}

async fn try_at(brokers: &str, mut settings: Value) -> Result<Subject, Error> {
    settings["brokers"] = json!([brokers]);
    let folder = tempfile::tempdir().unwrap();
    let cx = Context::standalone("test", folder.path());
    let config = serde_json::from_value(settings).unwrap();
    let broker = Arc::new(Kafka::open(config, cx.clone()).await?);
    Ok(Subject {
        broker,
        cx,
        _folder: folder,
    })
}

impl Subject {
    async fn publish_with_key(&self, topic: &str, text: &str, key: &str) -> Result<String, Error> {
        let id = self.publish_with(topic, text, &[("partitionKey", key)]).await?;
        Ok(id.unwrap())
    }

    async fn try_subscribe(&self, topic: &str, group: &str, metadata: Metadata) -> Result<Subscriber, Error> {
        self.subscribe_with(topic, (group, ""), metadata).await
    }

    async fn subscribe(&self, topic: &str, group: &str) -> Subscriber {
        self.try_subscribe(topic, group, Metadata::new()).await.unwrap()
    }

    async fn subscribe_for_once(&self, topic: &str) -> Subscriber {
        let metadata = Metadata::from([(EPHEMERAL.to_owned(), "true".to_owned())]);
        self.try_subscribe(topic, "once", metadata).await.unwrap()
    }
}

/// A client that is not ours.
fn client(brokers: impl ToString, group: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers.to_string())
        .set("group.id", group);
    config.create().unwrap()
}

/// What `group` committed for a partition.
fn committed(server: &Server, group: &str, topic: &str, partition: i32) -> Option<i64> {
    committed_at(server.address(), group, topic, partition)
}

fn committed_at(brokers: impl ToString, group: &str, topic: &str, partition: i32) -> Option<i64> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, partition);
    let answer = client(brokers, group).committed_offsets(asked, PATIENCE).unwrap();
    match answer.find_partition(topic, partition).unwrap().offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

/// A client that belongs to `group` as soon as it wants a topic.
pub(super) fn member_of(group: &str, brokers: &str) -> Client {
    let connection = Connection {
        brokers: vec![brokers.to_owned()],
        ..Connection::default()
    };
    let cx = Context::standalone("test", "/");
    let told = Told {
        component: cx.name.clone(),
        reach: Reach::new(&connection, &cx),
    };
    Client::start(&connection.config(&cx).unwrap(), group, told).unwrap()
}

/// Two keys whose records go to different partitions.
async fn two_keys(subject: &Subject, topic: &str) -> (String, String) {
    let mut first: Option<(String, String)> = None;
    for number in 0..100 {
        let key = format!("k{number}");
        let id = subject.publish_with_key(topic, "warm-up", &key).await.unwrap();
        let partition = id.split('/').nth(1).unwrap().to_owned();
        match &first {
            None => first = Some((key, partition)),
            Some((known, other)) if *other != partition => return (known.clone(), key),
            Some(_) => {}
        }
    }
    panic!("all keys go to one partition");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_event_holds_up_its_partition_and_no_other() {
    needs!(kafka::PROGRAM);
    let server = kafka::start(3).await.unwrap();
    let subject = on(&server, json!({"redeliveryBackoff": "1ms"})).await;
    let (slow, quick) = two_keys(&subject, "t").await;
    let mut subscriber = subject.subscribe("t", "g").await;
    for (key, text) in [(&slow, "first"), (&slow, "second"), (&quick, "other")] {
        subject.publish_with_key("t", text, key).await.unwrap();
    }
    let (mut seen, mut attempts) = (Vec::new(), Vec::new());
    while seen.len() < 3 {
        let delivered = soon(subscriber.next()).await;
        if delivered.text() == "first" {
            attempts.push(delivered.message.attempt);
            let is_over = attempts.len() > 2 && seen.contains(&"other".to_owned());
            if !is_over {
                delivered.end(retry());
                continue;
            }
        }
        seen.push(delivered.end(Outcome::Ack));
    }
    assert_eq!(seen, ["other", "first", "second"]);
    assert!(
        attempts.iter().copied().eq(1..=attempts.len() as u32),
        "{attempts:?}"
    );
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_what_other_clients_expect() {
    needs!(kafka::PROGRAM);
    let server = kafka::start(1).await.unwrap();
    let subject = on(&server, json!({})).await;
    let id = subject.publish_with_key("t", "data", "key").await.unwrap();
    assert_eq!(id, "t/0/0");
    let other = client(server.address(), "other");
    let mut all = TopicPartitionList::new();
    all.add_partition_offset("t", 0, Offset::Beginning).unwrap();
    other.assign(&all).unwrap();
    let record = other.poll(PATIENCE).unwrap().unwrap();
    assert_eq!(
        (record.key(), record.payload()),
        (Some(&b"key"[..]), Some(&b"data"[..]))
    );
    assert!(record.headers().is_none());
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_for_once_leaves_nothing_behind() {
    needs!(kafka::PROGRAM);
    let server = kafka::start(2).await.unwrap();
    let subject = on(&server, json!({"initialOffset": "oldest"})).await;
    subject.publish("t", "before").await.unwrap();
    let (mut one, mut two) = (
        subject.subscribe_for_once("t").await,
        subject.subscribe_for_once("t").await,
    );
    for text in texts(0..5) {
        subject.publish("t", &text).await.unwrap();
    }
    for subscriber in [&mut one, &mut two] {
        let mut seen = BTreeSet::new();
        while seen.len() < 5 {
            seen.insert(soon(subscriber.ack()).await);
        }
        assert!(seen.into_iter().eq(texts(0..5)));
    }
    let looking = client(server.address(), "looking");
    let groups = soon(async {
        // The broker may not have begun to look after groups.
        loop {
            if let Ok(groups) = looking.fetch_group_list(None, PATIENCE) {
                return groups;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let names: Vec<_> = groups
        .groups()
        .iter()
        .map(|group| group.name().to_owned())
        .collect();
    assert_eq!(names, [""; 0]);
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_a_topic_gets_later_is_read_from_its_beginning() {
    needs!(kafka::PROGRAM);
    let server = kafka::start(1).await.unwrap();
    let subject = on(&server, json!({})).await;
    let mut subscribers = [
        subject.subscribe("t", "g").await,
        subject.subscribe_for_once("t").await,
    ];
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", server.address().to_string());
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let more = [NewPartitions::new("t", 2)];
    admin
        .create_partitions(&more, &AdminOptions::new())
        .await
        .unwrap();
    // By a process that knows of the new partition, which has no more records than this one.
    let id = async |key: &str| {
        let publisher = on(&server, json!({})).await;
        publisher.publish_with_key("t", "early", key).await.unwrap()
    };
    let mut number = 0;
    while !id(&format!("k{number}")).await.starts_with("t/1/") {
        number += 1;
    }
    for subscriber in &mut subscribers {
        loop {
            let delivered = soon(subscriber.next()).await;
            let is_it = delivered.message.id == "t/1/0";
            delivered.end(Outcome::Ack);
            if is_it {
                break;
            }
        }
    }
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_the_partitions_and_lose_nothing_when_one_comes_or_goes() {
    needs!(kafka::PROGRAM);
    let server = kafka::start(4).await.unwrap();
    let settings = json!({"redeliveryBackoff": "1ms"});
    let (first, second) = (on(&server, settings.clone()).await, on(&server, settings).await);
    let mut one = first.subscribe("t", "g").await;
    let send = async |range| {
        for text in texts(range) {
            first.publish("t", &text).await.unwrap();
        }
    };
    send(0..40).await;
    let mut seen = BTreeSet::new();
    // What is taken away from a member meanwhile comes again.
    let mut note = |delivered: Delivered| {
        let text = delivered.text();
        if delivered.verdict.send(Outcome::Ack).is_ok() {
            seen.insert(text);
        }
        seen.len()
    };
    while note(soon(one.next()).await) < 10 {}
    let mut two = second.subscribe("t", "g").await;
    send(40..80).await;
    let (mut count, mut by_second) = (0, 0);
    while count < 80 {
        count = tokio::select! {
            delivered = soon(one.next()) => note(delivered),
            delivered = two.next() => {
                by_second += 1;
                note(delivered)
            }
        };
    }
    assert!(by_second > 0, "the second member got nothing");
    drop(one);
    send(80..100).await;
    while note(soon(two.next()).await) < 100 {}
    assert!(seen.into_iter().eq(texts(0..100)));
    first.end().await;
    second.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_does_not_finish_in_time_goes_to_another_with_its_attempts() {
    needs!(kafka::PROGRAM);
    let server = kafka::start(2).await.unwrap();
    let (first, second) = (on(&server, json!({})).await, on(&server, json!({})).await);
    let (a, b) = two_keys(&first, "t").await;
    let mut one = first.subscribe("t", "g").await;
    for key in [&a, &b] {
        first.publish_with_key("t", "slow", key).await.unwrap();
    }
    let mut held = [soon(one.next()).await, soon(one.next()).await];
    // Each of the two members gets one partition, and so one of the two events.
    let mut two = second.subscribe("t", "g").await;
    let moved = soon(two.next()).await;
    assert_eq!(moved.message.attempt, 2);
    let (gone, kept) = held
        .iter_mut()
        .partition::<Vec<_>, _>(|held| held.message.id == moved.message.id);
    assert_eq!((gone.len(), kept.len()), (1, 1));
    for held in gone {
        soon(held.verdict.closed()).await;
    }
    let id = moved.message.id.clone();
    moved.end(Outcome::Ack);
    // The other one stays in the first member's hand.
    let kept = held.into_iter().find(|held| held.message.id != id).unwrap();
    assert!(!kept.verdict.is_closed());
    kept.end(Outcome::Ack);
    drop((one, two));
    first.end().await;
    second.end().await;
    for partition in 0..2 {
        let end = client(server.address(), "g")
            .fetch_watermarks("t", partition, PATIENCE)
            .unwrap()
            .1;
        assert_eq!(committed(&server, "g", "t", partition), Some(end));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_in_hand_at_the_end_is_not_committed_before_it_is_done() {
    needs!(kafka::PROGRAM);
    let server = kafka::start(2).await.unwrap();
    let subject = on(&server, json!({"ackDeadline": "0"})).await;
    let (slow, other) = two_keys(&subject, "t").await;
    let mut subscriber = subject.subscribe("t", "g").await;
    for (key, text) in [(&slow, "done"), (&slow, "in hand"), (&other, "other")] {
        subject.publish_with_key("t", text, key).await.unwrap();
    }
    let mut held = BTreeMap::new();
    while held.len() < 2 {
        let delivered = soon(subscriber.next()).await;
        match delivered.text().as_str() {
            "done" => drop(delivered.end(Outcome::Ack)),
            _ => drop(held.insert(delivered.text(), delivered)),
        }
    }
    let (in_hand, other) = (held.remove("in hand").unwrap(), held.remove("other").unwrap());
    subject.broker.close().await.unwrap();
    subject.cx.shutdown.cancel();
    // The component waits for the handlers, and meanwhile says of each partition what is done.
    let ((slow, offset), (quick, last)) = (position(&in_hand), position(&other));
    other.end(Outcome::Ack);
    soon(until_committed(&server, "t", quick, last + 1)).await;
    assert_eq!(committed(&server, "g", "t", slow), Some(offset));
    in_hand.end(Outcome::Ack);
    subject.end().await;
    assert_eq!(committed(&server, "g", "t", slow), Some(offset + 1));
}

/// The partition and the offset of a record.
fn position(delivered: &Delivered) -> (i32, i64) {
    let mut parts = delivered.message.id.rsplit('/');
    let (offset, partition) = (parts.next().unwrap(), parts.next().unwrap());
    (partition.parse().unwrap(), offset.parse().unwrap())
}

/// Waits until group `g` has come so far in a partition.
async fn until_committed(server: &Server, topic: &str, partition: i32, offset: i64) {
    while committed(server, "g", topic, partition) != Some(offset) {
        tokio::task::yield_now().await;
    }
}

// deviation: D090
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_no_hindrance_to_opening_and_is_found_when_it_comes() {
    needs!(kafka::PROGRAM);
    let mut server = kafka::start(1).await.unwrap();
    // A topic that is made anew may take seconds.
    let earlier = on(&server, json!({})).await;
    earlier.publish("t", "x").await.unwrap();
    server.kill();
    let subject = on(&server, json!({})).await;
    let begun = Instant::now();
    assert_eq!(kind(subject.broker.ping().await), Some(ErrorKind::Unavailable));
    assert_eq!(
        kind(subject.publish("t", "x").await),
        Some(ErrorKind::Unavailable)
    );
    let refused = subject.try_subscribe("t", "g", Metadata::new()).await;
    assert_eq!(kind(refused), Some(ErrorKind::Unavailable));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "took {:?}",
        begun.elapsed()
    );
    // Known to be away: at once.
    let refused = subject
        .publish("t", "x")
        .now_or_never()
        .expect("it was tried again");
    assert_eq!(kind(refused), Some(ErrorKind::Unavailable));
    server.resume().await.unwrap();
    soon(until_published(&subject, "here")).await;
    subject.broker.ping().await.unwrap();
    subject.end().await;
}

/// Publishes until it works; how long that took.
async fn until_published(subject: &Subject, text: &str) -> Duration {
    let begun = Instant::now();
    while let Err(error) = subject.publish("t", text).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_is_reported_and_taken_up_again() {
    needs!(kafka::PROGRAM);
    let mut server = kafka::start(1).await.unwrap();
    let subject = on(&server, json!({})).await;
    let mut subscriber = subject.subscribe("t", "g").await;
    subject.publish("t", "before").await.unwrap();
    assert_eq!(soon(subscriber.ack()).await, "before");
    server.kill();
    let begun = Instant::now();
    assert_eq!(
        kind(subject.publish("t", "lost").await),
        Some(ErrorKind::Unavailable)
    );
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "took {:?}",
        begun.elapsed()
    );
    server.resume().await.unwrap();
    let other = on(&server, json!({})).await;
    // When it takes work again, found out by a client without a past.
    until_published(&other, "from another").await;
    let late = until_published(&subject, "after").await;
    assert!(
        late < Duration::from_secs(1),
        "took {late:?} longer than a new client"
    );
    let mut seen = BTreeSet::new();
    while !(seen.contains("after") && seen.contains("from another")) {
        seen.insert(soon(subscriber.ack()).await);
    }
    subject.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_costs_a_caller_its_deadline_and_no_more() {
    needs!(kafka::PROGRAM);
    let server = kafka::start(1).await.unwrap();
    let subject = on(&server, json!({"maxQueuedBytes": 1 << 20})).await;
    let mut subscriber = subject.subscribe("t", "g").await;
    subject.publish("t", "before").await.unwrap();
    assert_eq!(soon(subscriber.ack()).await, "before");
    server.freeze().unwrap();
    let hung = timeout(Duration::from_millis(300), subject.publish("t", "hung")).await;
    assert!(hung.is_err(), "a frozen broker answered {hung:?}");
    assert_eq!(kind(subject.broker.ping().await), Some(ErrorKind::Unavailable));
    // What waits for the broker is bounded.
    let large = "x".repeat(100_000);
    let many = (0..20).map(|_| timeout(Duration::from_millis(300), subject.publish("t", &large)));
    let outcomes = futures::future::join_all(many).await;
    let full = outcomes.iter().flatten().filter(|outcome| {
        outcome
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::ResourceExhausted)
    });
    assert!(full.count() > 0, "{outcomes:?}");
    server.thaw().unwrap();
    soon(until_published(&subject, "after")).await;
    while soon(subscriber.ack()).await != "after" {}
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_does_not_wait_for_a_broker_that_says_nothing() {
    needs!(kafka::PROGRAM);
    let server = kafka::start(1).await.unwrap();
    let subject = on(&server, json!({})).await;
    let mut subscriber = subject.subscribe("t", "g").await;
    subject.publish("t", "x").await.unwrap();
    let in_hand = soon(subscriber.next()).await;
    server.freeze().unwrap();
    // There is something to commit, too.
    in_hand.end(Outcome::Ack);
    drop(subscriber);
    let begun = Instant::now();
    subject.end().await;
    let took = begun.elapsed();
    server.thaw().unwrap();
    // What still waits for the broker leaves the group now, and another member has the partition.
    let other = on(&server, json!({})).await;
    let mut subscriber = other.subscribe("t", "g").await;
    other.publish("t", "y").await.unwrap();
    while soon(subscriber.ack()).await != "y" {}
    other.end().await;
    assert!(took < FAREWELL + Duration::from_millis(500), "took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_asked_for_and_refused_when_it_is_wrong() {
    needs!(kafka::PROGRAM);
    let server = kafka::start_with_login("alice", "s3cret-p4ss").await.unwrap();
    let login =
        |password: &str| json!({"authRequired": true, "saslUsername": "alice", "saslPassword": password});
    let subject = on(&server, login("s3cret-p4ss")).await;
    let mut subscriber = subject.subscribe("t", "g").await;
    subject.publish("t", "m").await.unwrap();
    assert_eq!(soon(subscriber.ack()).await, "m");

    let stranger = on(&server, login("wr0ng-p4ss")).await;
    let begun = Instant::now();
    let refused = stranger.publish("t", "m").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
    let unseated = stranger
        .try_subscribe("t", "g2", Metadata::new())
        .await
        .err()
        .unwrap();
    assert_eq!(unseated.kind(), ErrorKind::Unauthenticated);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "took {:?}",
        begun.elapsed()
    );
    for error in [refused, unseated] {
        assert!(!format!("{error:?}").contains("wr0ng-p4ss"));
    }
    subject.end().await;
    stranger.end().await;
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_at_once() {
    let brokers = free_address().to_string();
    for (settings, reason) in [
        (
            json!({"authRequired": true, "saslUsername": "alice"}),
            "saslPassword",
        ),
        (json!({"clientCert": "/a.pem"}), "clientKey"),
        (json!({"maxMessageBytes": 1}), "message.max.bytes"),
        #[cfg(not(feature = "kafka-tls"))]
        (json!({"caCert": "/a.pem"}), "--features kafka-tls"),
        #[cfg(feature = "kafka-tls")]
        (json!({"caCert": "/no/such.pem"}), "/no/such.pem"),
    ] {
        let error = try_at(&brokers, settings).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(reason), "{error}");
    }
    let nowhere = try_at(" ", json!({})).await.err().unwrap();
    assert!(nowhere.message().contains("brokers"), "{nowhere}");
}

#[tokio::test]
async fn a_password_is_in_no_text() {
    let settings =
        json!({"brokers": ["b:1"], "authRequired": true, "saslUsername": "u", "saslPassword": "s3cret"});
    let config: super::Config = serde_json::from_value(settings).unwrap();
    let connection = config.connection().unwrap();
    let cx = Context::standalone("test", "/");
    let made = connection.config(&cx).unwrap();
    for text in [
        format!("{config:?}"),
        format!("{connection:?}"),
        connection.identity(),
        format!("{made:?}"),
    ] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[tokio::test]
async fn an_unused_component_has_no_client() {
    let subject = at(&free_address().to_string(), json!({})).await;
    assert_eq!(kind(subject.broker.ping().await), Some(ErrorKind::Unavailable));
    assert!(!subject.broker.producer.has_client());
}
