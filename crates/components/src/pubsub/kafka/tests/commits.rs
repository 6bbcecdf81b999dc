//! Offsets that the library tries to commit again, as a broker refused them at first.

use rdkafka::{
    mocking::MockCluster,
    producer::ProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio::time::sleep;

use super::*;
use crate::pubsub::kafka::{Config, Groups, InitialOffset};

/// How long the library waits here before it tries again: long enough for others to go before.
const AGAIN: Duration = Duration::from_secs(1);

/// A broker that refuses offsets once: the library keeps them on their way for as long as above.
const BUSY: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS;

/// A component whose library is in no hurry.
async fn patient(brokers: &str) -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let cx = Context::standalone("test", folder.path());
    let config: Config = serde_json::from_value(json!({"brokers": [brokers]})).unwrap();
    let mut client = config.connection().unwrap().config(&cx).unwrap();
    for name in ["retry.backoff.ms", "retry.backoff.max.ms"] {
        client.set(name, AGAIN.as_millis().to_string());
    }
    let mut broker = Kafka::open(config, cx.clone()).await.unwrap();
    let producer = Arc::clone(&broker.producer);
    broker.groups = Groups::new(client, producer, InitialOffset::Newest, cx.clone());
    Subject {
        broker: Arc::new(broker),
        cx,
        _folder: folder,
    }
}

/// A subscriber of the topic `t` whose first event's offset is on its way, and its second event.
async fn with_one_on_its_way(
    cluster: &MockCluster<'_, impl ProducerContext>,
) -> (Subject, Subscriber, Delivered) {
    cluster.create_topic("t", 1, 1).unwrap();
    let subject = patient(&cluster.bootstrap_servers()).await;
    let mut subscriber = subject.subscribe("t", "g").await;
    for text in ["first", "second"] {
        subject.publish("t", text).await.unwrap();
    }
    let first = soon(subscriber.next()).await;
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[BUSY]);
    first.end(Outcome::Ack);
    let second = soon(subscriber.next()).await;
    // Nobody tells that the first offset was refused.
    sleep(AGAIN / 4).await;
    (subject, subscriber, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_are_tried_again_do_not_overtake_later_ones() {
    let cluster = MockCluster::new(1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let (subject, _subscriber, second) = with_one_on_its_way(&cluster).await;
    second.end(Outcome::Ack);
    let noted = || committed_at(&brokers, "g", "t", 0);
    soon(async {
        while noted() != Some(2) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Nor that none is tried again any more.
    sleep(2 * AGAIN).await;
    assert_eq!(noted(), Some(2), "an earlier offset came later");
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_behind_others_that_are_on_their_way_are_sent_before_the_end() {
    let cluster = MockCluster::new(1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let (subject, _subscriber, second) = with_one_on_its_way(&cluster).await;
    second.end(Outcome::Ack);
    subject.end().await;
    assert_eq!(committed_at(&brokers, "g", "t", 0), Some(2));
}
