//! The library's client of one consumer group, and the task that serves it.

use std::{ops::Deref, sync::Arc};

use layotto_core::Result;
use rdkafka::{
    ClientConfig, ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, StreamConsumer},
    error::KafkaError,
    types::RDKafkaRespErr,
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::offsets::Partition;
use crate::client::kafka::{Told, create};

/// How long the group takes a silent member for alive; as upstream's client.
const SESSION_MS: &str = "10000";
/// How often new partitions are looked for.
const REFRESH_MS: &str = "10000";
/// KiB of one partition that are fetched ahead, beyond which the next fetch waits.
const AHEAD_KIB: &str = "256";
/// Bytes of one partition that a fetch brings at most, or one record.
const FETCH: &str = "262144";
/// How long a fetch waits that must not be made yet.
const FETCH_PAUSE_MS: &str = "20";
/// Events on their way, and how many of them may be failures: the others must not be lost, and are
/// never more than one.
const EVENTS: usize = 16;
const FAILURES: usize = 14;

pub(super) type GroupConsumer = StreamConsumer<Events>;

/// What a group's client says.
#[derive(Debug)]
pub(super) enum Event {
    /// The member has these partitions from now on, and must say where to begin.
    Assigned(Vec<Partition>),
    /// The member has no partitions any more, and must say that it let go of them.
    Revoked,
    /// Something went wrong.
    Failed(KafkaError),
    /// A record came past the queue of its partition, and is gone.
    Strayed,
}

/// Passes on what the library says.
pub(super) struct Events {
    told: Told,
    to: mpsc::Sender<Event>,
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.told.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.told.error(error, reason);
    }
}

impl ConsumerContext for Events {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let event = match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Event::Assigned(
                partitions
                    .elements()
                    .iter()
                    .map(|element| (element.topic().to_owned(), element.partition()))
                    .collect(),
            ),
            _ => Event::Revoked,
        };
        // The library waits for an answer, also while it is being closed.
        if self.to.try_send(event).is_err()
            && let Err(error) = consumer.unassign()
        {
            tracing::warn!(component = self.told.component, %error, "cannot give up partitions");
        }
    }
}

/// A client of a group, which is served until it is closed.
pub(super) struct Client {
    // Dropped first: the consumer ends only once its questions are answered.
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) consumer: Arc<GroupConsumer>,
    served: JoinHandle<()>,
    stop: CancellationToken,
    lent: TaskTracker,
}

/// The consumer in the hands of a thread, whose end the end of the client waits for.
#[derive(Clone)]
pub(super) struct Lent {
    // Dropped first: whoever waits for the other is to be the last to hold it.
    consumer: Arc<GroupConsumer>,
    _until_then: TaskTrackerToken,
}

impl Deref for Lent {
    type Target = GroupConsumer;

    fn deref(&self) -> &Self::Target {
        &self.consumer
    }
}

impl Client {
    /// Starts a client of `group`, which does not belong to it yet.
    pub(super) fn start(config: &ClientConfig, group: &str, told: Told) -> Result<Self> {
        let mut config = config.clone();
        config
            .set("group.id", group)
            .set("session.timeout.ms", SESSION_MS)
            // What upstream's client has, too: members of both kinds can share a group.
            .set("partition.assignment.strategy", "range")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Where to begin is always said; this is for records that are gone.
            .set("auto.offset.reset", "earliest")
            .set("allow.auto.create.topics", "true")
            .set("topic.metadata.refresh.interval.ms", REFRESH_MS)
            .set("queued.max.messages.kbytes", AHEAD_KIB)
            .set("fetch.message.max.bytes", FETCH)
            .set("fetch.queue.backoff.ms", FETCH_PAUSE_MS);
        let (to, events) = mpsc::channel(EVENTS);
        let context = Events { told, to: to.clone() };
        let consumer: Arc<GroupConsumer> = Arc::new(create(&config, context)?);
        let stop = CancellationToken::new();
        let (serving, until) = (serve(Arc::clone(&consumer), to), stop.clone());
        Ok(Self {
            consumer,
            events,
            served: tokio::spawn(async move {
                until.run_until_cancelled(serving).await;
            }),
            stop,
            lent: TaskTracker::new(),
        })
    }

    /// The consumer, for a thread.
    pub(super) fn lend(&self) -> Lent {
        Lent {
            consumer: Arc::clone(&self.consumer),
            _until_then: self.lent.token(),
        }
    }

    /// Leaves the group, and waits for that until then: a thread waits longer for a broker that says
    /// nothing. What else holds the consumer must be gone.
    pub(super) async fn close(self, until: Instant) {
        self.stop.cancel();
        if let Err(panic) = self.served.await {
            tracing::error!(%panic, "the task that serves a consumer group ended");
        }
        // From here on the library's questions are answered at once.
        drop(self.events);
        self.lent.close();
        let (lent, consumer) = (self.lent, self.consumer);
        // Goes on where nobody waits for it any more.
        let closing = tokio::spawn(async move {
            lent.wait().await;
            // Waits for the broker's answer, and for the library's threads.
            tokio::task::spawn_blocking(move || drop(consumer)).await
        });
        if timeout_at(until, closing).await.is_err() {
            tracing::warn!("a Kafka broker did not hear in time that a member leaves its group");
        }
    }
}

/// Lets the library speak. Records come from the queues of their partitions, not from here.
async fn serve(consumer: Arc<GroupConsumer>, to: mpsc::Sender<Event>) {
    loop {
        let event = match consumer.recv().await {
            Ok(_) => Event::Strayed,
            Err(error) => Event::Failed(error),
        };
        if to.capacity() > EVENTS - FAILURES {
            to.try_send(event).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use layotto_testkit::soon::soon;
    use rdkafka::mocking::MockCluster;
    use tokio::time::timeout;

    use super::*;
    use crate::pubsub::kafka::tests::member_of;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_end_waits_for_whoever_holds_the_consumer() {
        let cluster = MockCluster::new(1).unwrap();
        let client = member_of("g", &cluster.bootstrap_servers());
        let (lent, consumer) = (client.lend(), Arc::downgrade(&client.consumer));
        let mut closing = tokio::spawn(client.close(Instant::now() + Duration::from_secs(60)));
        let early = timeout(Duration::from_millis(100), &mut closing).await;
        assert!(early.is_err(), "a thread still has the consumer");
        drop(lent);
        soon(closing).await.unwrap();
        assert_eq!(consumer.strong_count(), 0);
    }
}
