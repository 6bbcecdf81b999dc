//! Defective brokers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use layotto_core::{
    Component, Error, Result,
    pubsub::{Features, Handler, Message, Outcome, PubSub, Publish, Subscribe, Subscription},
};

use super::Defect;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    DropsOnRetry,
    ServesTwoOfAGroup,
    LosesMessages,
    AcksBeforeHandling,
    RedeliversAcked,
    CountsNoAttempts,
    HasNoDeadLetters,
    IgnoresTimes,
    RefusesNothing,
}

pub(super) fn defects() -> Vec<Defect<dyn PubSub>> {
    vec![
        Defect {
            name: "a queue that drops a message on retry",
            wrap: |inner| Faulty::around(inner, Fault::DropsOnRetry),
            caught_by: &["retry_comes_again_and_counts", "failures_lose_no_later_message"],
        },
        Defect {
            name: "a queue that delivers to two consumers of a group",
            wrap: |inner| Faulty::around(inner, Fault::ServesTwoOfAGroup),
            caught_by: &[
                "one_consumer_of_a_group_gets_a_message",
                "the_default_group_is_one",
            ],
        },
        Defect {
            name: "a queue that loses a message",
            wrap: |inner| Faulty::around(inner, Fault::LosesMessages),
            caught_by: &[
                "concurrent_publishers_lose_nothing",
                "each_group_gets_every_message",
            ],
        },
        Defect {
            name: "a queue that acknowledges before the handler is done",
            wrap: |inner| Faulty::around(inner, Fault::AcksBeforeHandling),
            caught_by: &[
                "an_unfinished_delivery_goes_to_the_next_subscriber",
                "retry_comes_again_and_counts",
            ],
        },
        Defect {
            name: "a queue that delivers again what was acknowledged",
            wrap: |inner| Faulty::around(inner, Fault::RedeliversAcked),
            caught_by: &["a_message_is_delivered", "ack_and_drop_never_come_again"],
        },
        Defect {
            name: "a queue that does not count attempts",
            wrap: |inner| Faulty::around(inner, Fault::CountsNoAttempts),
            caught_by: &["retry_comes_again_and_counts"],
        },
        Defect {
            name: "a queue without dead letters that claims to have them",
            wrap: |inner| Faulty::around(inner, Fault::HasNoDeadLetters),
            caught_by: &["too_many_failures_go_to_the_dead_letter_topic"],
        },
        Defect {
            name: "a queue that ignores TTL and delay",
            wrap: |inner| Faulty::around(inner, Fault::IgnoresTimes),
            caught_by: &[
                "expired_messages_are_not_delivered",
                "delayed_messages_come_later",
            ],
        },
        Defect {
            name: "a queue that says yes when it is full",
            wrap: |inner| Faulty::around(inner, Fault::RefusesNothing),
            caught_by: &[
                "a_full_queue_refuses_and_recovers",
                "a_refused_message_reaches_nobody",
            ],
        },
    ]
}

struct Faulty {
    inner: Arc<dyn PubSub>,
    fault: Fault,
    published: AtomicUsize,
    subscribed: AtomicUsize,
}

impl Faulty {
    fn around(inner: Arc<dyn PubSub>, fault: Fault) -> Arc<dyn PubSub> {
        Arc::new(Self {
            inner,
            fault,
            published: AtomicUsize::new(0),
            subscribed: AtomicUsize::new(0),
        })
    }
}

#[async_trait]
impl Component for Faulty {
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[async_trait]
impl PubSub for Faulty {
    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn publish(&self, mut message: Publish) -> Result<Option<String>> {
        let published = self.published.fetch_add(1, Ordering::Relaxed);
        if self.fault == Fault::LosesMessages && published % 10 == 9 {
            return Ok(None);
        }
        if self.fault == Fault::IgnoresTimes {
            message.metadata.clear();
        }
        match self.inner.publish(message).await {
            Err(_) if self.fault == Fault::RefusesNothing => Ok(None),
            published => published,
        }
    }

    async fn subscribe(&self, mut subscribe: Subscribe) -> Result<Subscription> {
        let number = self.subscribed.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::ServesTwoOfAGroup => subscribe.group = format!("{}-{number}", subscribe.group),
            Fault::HasNoDeadLetters => subscribe.dead_letter_topic.clear(),
            _ => {}
        }
        let (handler, fault) = (subscribe.handler, self.fault);
        subscribe.handler = Arc::new(FaultyHandler { handler, fault });
        self.inner.subscribe(subscribe).await
    }
}

struct FaultyHandler {
    handler: Arc<dyn Handler>,
    fault: Fault,
}

#[async_trait]
impl Handler for FaultyHandler {
    async fn handle(&self, mut message: Message) -> Outcome {
        let attempt = message.attempt;
        if self.fault == Fault::CountsNoAttempts {
            message.attempt = 1;
        }
        if self.fault == Fault::AcksBeforeHandling {
            let handler = self.handler.clone();
            tokio::spawn(async move { handler.handle(message).await });
            return Outcome::Ack;
        }
        match (self.handler.handle(message).await, self.fault) {
            (Outcome::Retry(_), Fault::DropsOnRetry) => Outcome::Ack,
            (Outcome::Ack, Fault::RedeliversAcked) if attempt == 1 => {
                Outcome::Retry(Error::unavailable("once more"))
            }
            (outcome, _) => outcome,
        }
    }
}
