//! Brokers of messages.

mod delivery;
mod inbox;
mod limits;
mod redelivery;
mod time;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::try_join_all;
use layotto_core::{
    Metadata,
    pubsub::{Message, PubSub, Publish, Subscribe, Subscription},
};

use self::inbox::{Answer, Inbox};
use super::{
    Assertion, DEADLINE, Subject, Verified, always, assertions,
    check::{OrSay, ensure, equal, within},
    common, durable,
};

type Broker = Subject<dyn PubSub>;

/// How long an assertion waits for something that must not happen.
const QUIET: Duration = Duration::from_millis(300);

/// The assertions of a broker.
pub fn assertions() -> Vec<Assertion<dyn PubSub>> {
    let own: Vec<Assertion<dyn PubSub>> = assertions! {
        always => [
            delivery::a_message_is_delivered,
            delivery::payloads_come_through,
            delivery::ids_are_those_of_the_publisher,
            delivery::publishing_without_a_subscriber_is_no_error,
            delivery::topics_are_kept_apart,
            delivery::each_group_gets_every_message,
            delivery::one_consumer_of_a_group_gets_a_message,
            delivery::a_busy_consumer_does_not_hold_up_its_group,
            delivery::the_default_group_is_one,
            delivery::concurrent_publishers_lose_nothing,
            delivery::handlers_run_at_once,
            delivery::unsubscribing_ends_its_own_deliveries_alone,
            delivery::messages_wait_for_their_group,
            redelivery::retry_comes_again_and_counts,
            redelivery::ack_and_drop_never_come_again,
            redelivery::failures_lose_no_later_message,
            redelivery::an_unfinished_delivery_goes_to_the_next_subscriber,
        ],
        backoff => [
            redelivery::retries_wait_longer_each_time,
            redelivery::a_message_that_waits_holds_up_no_other,
        ],
        ack_deadline => [
            redelivery::a_handler_that_never_ends_is_overtaken,
            redelivery::a_subscription_has_its_own_deadline,
        ],
        concurrency => [limits::as_many_handlers_run_as_set, limits::one_at_a_time_keeps_the_order],
        max_deliveries => [redelivery::deliveries_without_limit_go_on],
        dead_letters => [
            limits::too_many_failures_go_to_the_dead_letter_topic,
            limits::a_dropped_message_goes_to_the_dead_letter_topic,
            limits::the_dead_letter_topic_of_the_settings_is_used,
            limits::without_a_dead_letter_topic_deliveries_end,
        ],
        max_queued => [
            limits::a_full_queue_refuses_and_recovers,
            limits::a_refused_message_reaches_nobody,
        ],
        message_ttl => [time::expired_messages_are_not_delivered],
        delayed => [time::delayed_messages_come_later],
        durable_and_delayed => [time::delayed_messages_survive_a_restart],
        durable => [
            redelivery::attempts_count_over_a_restart,
            delivery::unhandled_messages_survive_a_restart,
            delivery::handled_messages_stay_handled_over_a_restart,
        ],
    };
    own.into_iter().chain(common::assertions()).collect()
}

fn needs_setting(broker: &Broker, key: &str, missing: &'static str) -> Option<&'static str> {
    (!broker.reads_setting(key)).then_some(missing)
}

fn backoff(broker: &Broker) -> Option<&'static str> {
    needs_setting(broker, "redeliveryBackoff", "leaves redelivery to the product")
}

fn ack_deadline(broker: &Broker) -> Option<&'static str> {
    needs_setting(broker, "ackDeadline", "leaves redelivery to the product")
}

fn max_deliveries(broker: &Broker) -> Option<&'static str> {
    needs_setting(broker, "maxDeliveries", "does not limit deliveries")
}

fn concurrency(broker: &Broker) -> Option<&'static str> {
    needs_setting(broker, "concurrency", "leaves concurrency to the product")
}

fn max_queued(broker: &Broker) -> Option<&'static str> {
    needs_setting(broker, "maxQueued", "leaves the queue's bound to the product")
}

fn dead_letters(broker: &Broker) -> Option<&'static str> {
    (!broker.features().dead_letter).then_some("has no dead-letter topics")
}

fn message_ttl(broker: &Broker) -> Option<&'static str> {
    (!broker.features().message_ttl).then_some("leaves the TTL to the reader of the envelope")
}

fn delayed(broker: &Broker) -> Option<&'static str> {
    (!broker.features().delayed).then_some("has no delayed delivery")
}

fn durable_and_delayed(broker: &Broker) -> Option<&'static str> {
    durable(broker).or_else(|| delayed(broker))
}

impl Broker {
    /// Another broker of this type whose retries come quickly.
    async fn quick(&self, settings: &[(&str, serde_json::Value)]) -> Result<Self, String> {
        let mut all = vec![
            ("redeliveryBackoff", serde_json::json!("5ms")),
            ("redeliveryBackoffMax", serde_json::json!("20ms")),
        ];
        all.retain(|(key, _)| self.reads_setting(key) && !settings.iter().any(|(own, _)| own == key));
        all.extend(settings.iter().cloned());
        self.fresh(all).await
    }

    async fn send(&self, topic: &str, data: impl Into<Bytes>) -> Result<Option<String>, String> {
        self.send_with(topic, data, &[]).await.or_say("publish")
    }

    /// Publishes all at once.
    async fn send_all(&self, topic: &str, texts: impl IntoIterator<Item = String>) -> Verified {
        try_join_all(texts.into_iter().map(|text| self.send(topic, text)))
            .await
            .map(drop)
    }

    async fn send_with(
        &self,
        topic: &str,
        data: impl Into<Bytes>,
        metadata: &[(&str, &str)],
    ) -> layotto_core::Result<Option<String>> {
        let metadata = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let message = Publish {
            topic: self.name(topic),
            data: data.into(),
            metadata: metadata.collect(),
        };
        self.publish(message).await
    }

    fn wish(&self, topic: &str, group: &str, inbox: &Arc<Inbox>) -> Subscribe {
        let group = if group.is_empty() {
            String::new()
        } else {
            self.name(group)
        };
        Subscribe {
            topic: self.name(topic),
            group,
            dead_letter_topic: String::new(),
            metadata: Metadata::new(),
            handler: inbox.clone(),
        }
    }

    async fn listen(&self, topic: &str, group: &str, inbox: &Arc<Inbox>) -> Result<Subscription, String> {
        let subscribing = self.subscribe(self.wish(topic, group, inbox));
        within(DEADLINE, "subscribe", subscribing)
            .await?
            .or_say("subscribe")
    }

    /// Makes the group known to the broker, so that messages wait for it.
    async fn introduce(&self, topic: &str, group: &str) -> Verified {
        self.listen(topic, group, &Inbox::acking()).await.map(drop)
    }
}

fn texts(messages: &[Message]) -> Vec<String> {
    messages
        .iter()
        .map(|message| String::from_utf8_lossy(&message.data).into_owned())
        .collect()
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}
