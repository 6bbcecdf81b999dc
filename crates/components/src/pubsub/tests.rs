//! Both brokers must pass most of these: such a test runs them one after the other.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use layotto_core::{
    Context, Error, ErrorKind, Metadata, Open,
    pubsub::{EPHEMERAL, Outcome, PubSub, Publish, Subscribe},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{
    Embedded, Memory,
    probe::{Delivered, Probe, Subscriber, retry},
};

struct Subject {
    broker: Arc<dyn PubSub>,
    cx: Context,
    folder: TempDir,
}

async fn memory(settings: Value) -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let cx = Context::standalone("test", folder.path());
    let config = serde_json::from_value(settings).unwrap();
    let broker = Arc::new(Memory::open(config, cx.clone()).await.unwrap());
    Subject { broker, cx, folder }
}

async fn embedded(folder: TempDir, settings: Value) -> Subject {
    let cx = Context::standalone("test", folder.path());
    let config = serde_json::from_value(settings).unwrap();
    let broker = Arc::new(Embedded::open(config, cx.clone()).await.unwrap());
    Subject { broker, cx, folder }
}

async fn subjects(settings: Value) -> [Subject; 2] {
    let folder = tempfile::tempdir().unwrap();
    [memory(settings.clone()).await, embedded(folder, settings).await]
}

impl Subject {
    async fn publish(&self, topic: &str, text: &str) {
        self.try_publish(topic, text, &[]).await.unwrap();
    }

    /// Publishes once there is room: an acknowledged message leaves its queue a little later.
    async fn publish_when_room(&self, topic: &str, text: &str) {
        while let Err(refused) = self.try_publish(topic, text, &[]).await {
            assert_eq!(refused.kind(), ErrorKind::ResourceExhausted);
            tokio::task::yield_now().await;
        }
    }

    async fn try_publish(&self, topic: &str, text: &str, metadata: &[(&str, &str)]) -> Result<(), Error> {
        let pairs = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let message = Publish {
            topic: topic.to_owned(),
            data: Bytes::from(text.to_owned()),
            metadata: pairs.collect(),
        };
        let id = self.broker.publish(message).await?;
        assert!(!id.unwrap().is_empty());
        Ok(())
    }

    async fn subscribe(&self, topic: &str, group: &str) -> Subscriber {
        let (sender, deliveries) = mpsc::channel(1024);
        self.subscribe_with(topic, group, Metadata::new(), (Probe::new(sender), deliveries))
            .await
    }

    async fn subscribe_for_once(&self, topic: &str, group: &str) -> Subscriber {
        let (sender, deliveries) = mpsc::channel(1024);
        let metadata = Metadata::from([(EPHEMERAL.to_owned(), "true".to_owned())]);
        self.subscribe_with(topic, group, metadata, (Probe::new(sender), deliveries))
            .await
    }

    async fn subscribe_with(
        &self,
        topic: &str,
        group: &str,
        metadata: Metadata,
        (probe, deliveries): (Probe, mpsc::Receiver<Delivered>),
    ) -> Subscriber {
        let subscribe = Subscribe {
            topic: topic.to_owned(),
            group: group.to_owned(),
            dead_letter_topic: String::new(),
            metadata,
            handler: Arc::new(probe),
        };
        Subscriber {
            deliveries,
            _subscription: self.broker.subscribe(subscribe).await.unwrap(),
        }
    }

    /// Ends the process as far as the broker can tell.
    async fn restart(self, settings: Value) -> Self {
        self.cx.shutdown.cancel();
        self.cx.tasks.close();
        self.cx.tasks.wait().await;
        drop(self.broker);
        embedded(self.folder, settings).await
    }
}

fn numbers(to: usize) -> Vec<String> {
    (0..to).map(|n| format!("{n:02}")).collect()
}

#[tokio::test]
async fn each_group_gets_every_message_and_shares_them_out_within() {
    for subject in subjects(json!({})).await {
        let mut one = subject.subscribe("t", "g").await;
        let mut two = subject.subscribe("t", "g").await;
        let mut other = subject.subscribe("t", "h").await;
        let mut elsewhere = subject.subscribe("another", "g").await;
        for text in numbers(30) {
            subject.publish("t", &text).await;
        }
        let (mut shared, mut alone) = (Vec::new(), Vec::new());
        for _ in 0..30 {
            alone.push(other.ack().await);
            shared.push(tokio::select! {
                delivered = one.next() => delivered.end(Outcome::Ack),
                delivered = two.next() => delivered.end(Outcome::Ack),
            });
        }
        shared.sort_unstable();
        alone.sort_unstable();
        assert_eq!((shared, alone), (numbers(30), numbers(30)));
        assert!(elsewhere.deliveries.try_recv().is_err());
    }
}

#[tokio::test]
async fn one_at_a_time_is_in_order() {
    for subject in subjects(json!({"concurrency": 1})).await {
        let mut subscriber = subject.subscribe("t", "g").await;
        for text in numbers(20) {
            subject.publish("t", &text).await;
        }
        for text in numbers(20) {
            assert_eq!(subscriber.ack().await, text);
        }
    }
}

#[tokio::test]
async fn a_failed_message_comes_again_with_its_attempts_counted() {
    for subject in subjects(json!({"redeliveryBackoff": "1ms", "concurrency": 1})).await {
        let mut subscriber = subject.subscribe("t", "g").await;
        subject.publish("t", "m").await;
        let mut ids = std::collections::HashSet::new();
        for attempt in 1..=3 {
            let delivered = subscriber.next().await;
            assert_eq!(delivered.message.attempt, attempt);
            ids.insert(delivered.message.id.clone());
            delivered.end(if attempt < 3 { retry() } else { Outcome::Ack });
        }
        assert_eq!(ids.len(), 1);
        subject.publish("t", "next").await;
        assert_eq!(subscriber.ack().await, "next");
    }
}

#[tokio::test]
async fn what_fails_too_often_or_is_dropped_goes_to_the_dead_letter_topic() {
    let settings = json!({"redeliveryBackoff": "1ms", "maxDeliveries": 2, "deadLetterTopic": "dead"});
    for subject in subjects(settings).await {
        let mut dead = subject.subscribe("dead", "g").await;
        let mut subscriber = subject.subscribe("t", "g").await;
        subject.publish("t", "fails").await;
        subscriber.next().await.end(retry());
        subscriber.next().await.end(retry());
        let buried = dead.next().await;
        assert_eq!(
            (buried.text().as_str(), buried.message.topic.as_str()),
            ("fails", "dead")
        );
        buried.end(Outcome::Ack);
        subject.publish("t", "dropped").await;
        subscriber.next().await.end(Outcome::Drop);
        assert_eq!(dead.ack().await, "dropped");
        subject.publish("t", "next").await;
        assert_eq!(subscriber.ack().await, "next");
    }
}

#[tokio::test]
async fn without_a_dead_letter_topic_what_is_given_up_is_gone() {
    for subject in subjects(json!({"maxDeliveries": 1, "concurrency": 1})).await {
        let mut subscriber = subject.subscribe("t", "g").await;
        for (text, outcome) in [("fails", retry()), ("dropped", Outcome::Drop)] {
            subject.publish("t", text).await;
            assert_eq!(subscriber.next().await.end(outcome), text);
        }
        subject.publish("t", "next").await;
        assert_eq!(subscriber.ack().await, "next");
    }
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_dropped_and_the_message_comes_again() {
    for subject in subjects(json!({"ackDeadline": "20ms", "redeliveryBackoff": "1ms"})).await {
        let mut subscriber = subject.subscribe("t", "g").await;
        subject.publish("t", "m").await;
        let mut late = subscriber.next().await;
        late.verdict.closed().await;
        let again = subscriber.next().await;
        assert_eq!((again.text().as_str(), again.message.attempt), ("m", 2));
        again.end(Outcome::Ack);
    }
}

#[tokio::test]
async fn what_a_dropped_subscription_was_handling_goes_to_another_at_once() {
    for subject in subjects(json!({"redeliveryBackoff": "1h", "ackDeadline": "0"})).await {
        let mut gone = subject.subscribe("t", "g").await;
        subject.publish("t", "m").await;
        let mut unfinished = gone.next().await;
        drop(gone);
        unfinished.verdict.closed().await;
        let mut other = subject.subscribe("t", "g").await;
        assert_eq!(other.next().await.end(Outcome::Ack), "m");
    }
}

#[tokio::test]
async fn a_handler_that_panics_loses_no_message() {
    for subject in subjects(json!({})).await {
        let mut subscriber = subject.subscribe("t", "g").await;
        subject.publish("t", "m").await;
        drop(subscriber.next().await.verdict);
        assert_eq!(subscriber.ack().await, "m");
    }
}

#[tokio::test]
async fn a_handler_that_panics_each_time_is_not_asked_for_ever() {
    let settings = json!({"redeliveryBackoff": "1ms", "maxDeliveries": 2, "deadLetterTopic": "dead"});
    for subject in subjects(settings).await {
        let mut dead = subject.subscribe("dead", "g").await;
        let mut subscriber = subject.subscribe("t", "g").await;
        subject.publish("t", "m").await;
        for _ in 0..2 {
            drop(subscriber.next().await.verdict);
        }
        tokio::select! {
            text = dead.ack() => assert_eq!(text, "m"),
            _ = subscriber.next() => panic!("delivered a third time"),
        }
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_more_when_there_is_room() {
    for subject in subjects(json!({"maxQueued": 2, "concurrency": 1})).await {
        let mut slow = subject.subscribe("t", "slow").await;
        let mut quick = subject.subscribe("t", "quick").await;
        for text in ["1", "2"] {
            subject.publish("t", text).await;
            assert_eq!(quick.ack().await, text);
        }
        // Taken out and not acknowledged: it still counts.
        let taken = slow.next().await;
        let refused = subject.try_publish("t", "3", &[]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ResourceExhausted);
        taken.end(Outcome::Ack);
        assert_eq!(slow.ack().await, "2");
        subject.publish_when_room("t", "4").await;
        assert_eq!(slow.ack().await, "4");
        // Refused for one group means taken in for none.
        assert_eq!(quick.ack().await, "4");
    }
}

#[tokio::test]
async fn a_closed_component_delivers_nothing_new_and_finishes_what_runs() {
    for subject in subjects(json!({"concurrency": 1})).await {
        let mut subscriber = subject.subscribe("t", "g").await;
        subject.publish("t", "running").await;
        subject.publish("t", "waiting").await;
        let running = subscriber.next().await;
        subject.broker.close().await.unwrap();
        running.end(Outcome::Ack);
        subject.cx.tasks.close();
        subject.cx.shutdown.cancel();
        subject.cx.tasks.wait().await;
        assert!(subscriber.deliveries.try_recv().is_err());
    }
}

#[tokio::test]
async fn metadata_arrives_and_a_bad_delay_or_deadline_is_refused() {
    for subject in subjects(json!({})).await {
        let mut subscriber = subject.subscribe("t", "g").await;
        subject
            .try_publish("t", "m", &[("partitionKey", "p")])
            .await
            .unwrap();
        let delivered = subscriber.next().await;
        assert_eq!(delivered.message.metadata["partitionKey"], "p");
        delivered.end(Outcome::Ack);
        let refused = subject
            .try_publish("t", "m", &[("delayInSeconds", "soon")])
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
        let (sender, _deliveries) = mpsc::channel(1);
        let subscribe = Subscribe {
            topic: "t".to_owned(),
            group: String::new(),
            dead_letter_topic: String::new(),
            metadata: Metadata::from([("ackDeadline".to_owned(), "5".to_owned())]),
            handler: Arc::new(Probe::new(sender)),
        };
        let refused = subject.broker.subscribe(subscribe).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_arrives_when_it_is_due_and_holds_up_nobody() {
    let subject = memory(json!({"concurrency": 1})).await;
    let mut subscriber = subject.subscribe("t", "g").await;
    let start = tokio::time::Instant::now();
    subject
        .try_publish("t", "later", &[("delayInSeconds", "5")])
        .await
        .unwrap();
    subject.publish("t", "now").await;
    assert_eq!(subscriber.ack().await, "now");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(subscriber.ack().await, "later");
    assert!(start.elapsed() >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_ended_is_never_delivered_and_takes_no_room() {
    let subject = memory(json!({"maxQueued": 2})).await;
    drop(subject.subscribe("t", "g").await);
    subject
        .try_publish("t", "brief", &[("ttlInSeconds", "1")])
        .await
        .unwrap();
    subject.publish("t", "lasting").await;
    assert!(subject.try_publish("t", "full", &[]).await.is_err());
    tokio::time::advance(Duration::from_secs(2)).await;
    subject.publish("t", "more").await;
    let mut subscriber = subject.subscribe("t", "g").await;
    assert_eq!(subscriber.ack().await, "lasting");
    assert_eq!(subscriber.ack().await, "more");
}

#[tokio::test]
async fn a_payload_that_waits_does_not_keep_the_request_that_it_came_in() {
    for subject in subjects(json!({})).await {
        drop(subject.subscribe("t", "g").await);
        let request = Bytes::from(vec![b'm'; 4096]);
        let message = Publish {
            topic: "t".to_owned(),
            data: request.slice(..3),
            metadata: Metadata::new(),
        };
        subject.broker.publish(message).await.unwrap();
        assert!(request.is_unique());
    }
}

#[tokio::test]
async fn a_topic_in_memory_without_a_group_keeps_nothing() {
    let subject = memory(json!({})).await;
    subject.publish("t", "lost").await;
    let mut subscriber = subject.subscribe("t", "g").await;
    subject.publish("t", "heard").await;
    assert_eq!(subscriber.ack().await, "heard");
}

#[tokio::test]
async fn an_embedded_topic_keeps_its_messages_for_its_first_group() {
    let subject = embedded(tempfile::tempdir().unwrap(), json!({"concurrency": 1})).await;
    subject.publish("t", "1").await;
    let subject = subject.restart(json!({"concurrency": 1})).await;
    subject.publish("t", "2").await;
    let mut first = subject.subscribe("t", "first").await;
    let mut second = subject.subscribe("t", "second").await;
    subject.publish("t", "3").await;
    for text in numbers(4).iter().skip(1) {
        assert_eq!(first.ack().await, text.trim_start_matches('0'));
    }
    assert_eq!(second.ack().await, "3");
}

#[tokio::test]
async fn an_embedded_group_collects_while_its_subscriber_is_away() {
    let settings = || json!({"concurrency": 1, "redeliveryBackoff": "1ms", "consumerID": "g"});
    let subject = embedded(tempfile::tempdir().unwrap(), settings()).await;
    let mut subscriber = subject.subscribe("t", "").await;
    subject.publish("t", "done").await;
    subject.publish("t", "failed").await;
    assert_eq!(subscriber.ack().await, "done");
    subscriber.next().await.end(retry());
    let unfinished = subscriber.next().await;
    assert_eq!(unfinished.message.attempt, 2);
    drop(subscriber);
    let subject = subject.restart(settings()).await;
    subject.publish("t", "while away").await;
    let mut subscriber = subject.subscribe("t", "g").await;
    let again = subscriber.next().await;
    assert_eq!((again.text().as_str(), again.message.attempt), ("failed", 2));
    again.end(Outcome::Ack);
    assert_eq!(subscriber.ack().await, "while away");
}

#[tokio::test]
async fn components_of_one_file_hand_out_each_message_once() {
    let subject = embedded(tempfile::tempdir().unwrap(), json!({})).await;
    let config = serde_json::from_value(json!({})).unwrap();
    let twin = Embedded::open(config, subject.cx.clone()).await.unwrap();
    let twin = Subject {
        broker: Arc::new(twin),
        cx: subject.cx.clone(),
        folder: tempfile::tempdir().unwrap(),
    };
    let mut subscriber = subject.subscribe("t", "g").await;
    twin.publish("t", "m").await;
    assert_eq!(subscriber.ack().await, "m");
    let mut other = twin.subscribe("t", "g").await;
    subject.publish("t", "n").await;
    let text = tokio::select! {
        delivered = subscriber.next() => delivered.end(Outcome::Ack),
        delivered = other.next() => delivered.end(Outcome::Ack),
    };
    assert_eq!(text, "n");
    assert!(subscriber.deliveries.try_recv().is_err() && other.deliveries.try_recv().is_err());
}

#[tokio::test]
async fn a_published_message_is_found_by_whoever_opens_what_a_killed_process_left() {
    let subject = embedded(tempfile::tempdir().unwrap(), json!({})).await;
    subject.publish("t", "m").await;
    let left = tempfile::tempdir().unwrap();
    std::fs::copy(
        subject.folder.path().join("layotto.db"),
        left.path().join("layotto.db"),
    )
    .unwrap();
    let heir = embedded(left, json!({})).await;
    let mut subscriber = heir.subscribe("t", "g").await;
    assert_eq!(subscriber.ack().await, "m");
}

#[tokio::test]
async fn no_message_is_taken_from_the_others_for_a_handler_that_is_not_ready() {
    for subject in subjects(json!({})).await {
        let (sender, deliveries) = mpsc::channel(8);
        let probe = Probe::new(sender);
        let ready = Arc::clone(&probe.ready);
        ready.forget_permits(1);
        let unready = (probe, deliveries);
        let mut unready = subject.subscribe_with("t", "g", Metadata::new(), unready).await;
        let mut other = subject.subscribe("t", "g").await;
        for text in ["1", "2"] {
            subject.publish("t", text).await;
            assert_eq!(other.ack().await, text);
        }
        assert!(unready.deliveries.try_recv().is_err());
        drop(other);
        subject.publish("t", "3").await;
        ready.add_permits(1);
        let first = unready.next().await;
        assert_eq!((first.text().as_str(), first.message.attempt), ("3", 1));
        first.end(Outcome::Ack);
    }
}

#[tokio::test]
async fn an_ephemeral_group_hears_what_comes_and_leaves_nothing_behind() {
    for subject in subjects(json!({"maxQueued": 2})).await {
        subject.publish("t", "before").await;
        let mut lasting = subject.subscribe("t", "lasting").await;
        let mut brief = subject.subscribe_for_once("t", "brief").await;
        if subject.broker.features().durable {
            assert_eq!(lasting.ack().await, "before");
        }
        subject.publish("t", "m").await;
        assert_eq!((brief.ack().await, lasting.ack().await), ("m".into(), "m".into()));
        drop(brief);
        // More than a group that is still there could hold.
        for text in ["1", "2", "3", "4"] {
            subject.publish_when_room("t", text).await;
            assert_eq!(lasting.ack().await, text);
        }
        let mut again = subject.subscribe_for_once("t", "brief").await;
        subject.publish_when_room("t", "new").await;
        assert_eq!(again.ack().await, "new");
    }
}

#[tokio::test]
async fn an_ephemeral_group_does_not_claim_what_waits_for_the_first_real_one() {
    let subject = embedded(tempfile::tempdir().unwrap(), json!({"concurrency": 1})).await;
    let mut brief = subject.subscribe_for_once("t", "brief").await;
    subject.publish("t", "m").await;
    let left = tempfile::tempdir().unwrap();
    std::fs::copy(
        subject.folder.path().join("layotto.db"),
        left.path().join("layotto.db"),
    )
    .unwrap();
    assert_eq!(brief.ack().await, "m");
    // Another process that finds the group of a subscription that is gone.
    for subject in [embedded(left, json!({})).await, subject] {
        let mut first = subject.subscribe("t", "first").await;
        assert_eq!(first.ack().await, "m");
        let mut brief = subject.subscribe_for_once("t", "brief 2").await;
        subject.publish("t", "n").await;
        assert_eq!(brief.ack().await, "n");
    }
}

#[tokio::test]
async fn a_subscriber_that_goes_away_before_it_is_one_leaves_nothing_behind() {
    let subject = embedded(tempfile::tempdir().unwrap(), json!({"maxQueued": 1})).await;
    let mut lasting = subject.subscribe("t", "lasting").await;
    tokio::select! {
        biased;
        _ = subject.subscribe_for_once("t", "brief") => panic!("there was no time for it"),
        () = std::future::ready(()) => {}
    }
    for text in ["1", "2", "3"] {
        subject.publish_when_room("t", text).await;
        assert_eq!(lasting.ack().await, text);
    }
}
