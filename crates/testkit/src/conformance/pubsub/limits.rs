//! Where messages end that fail too often, and what happens when a queue is full.

use layotto_core::ErrorKind::ResourceExhausted;
use serde_json::json;

use super::*;
use crate::conformance::check::{fails, poll};

/// Fails unless the dead letter has the message as it was published.
async fn arrives(dead: &Arc<Inbox>, text: &str) -> Verified {
    let letter = dead
        .wait_for(1)
        .await
        .map_err(|wrong| format!("dead-letter topic: {wrong}"))?
        .remove(0);
    equal(
        "data of the dead letter",
        &letter.data,
        &Bytes::copy_from_slice(text.as_bytes()),
    )?;
    equal("dead letters", &dead.settle(QUIET).await.len(), &1)
}

async fn listen_with_dead_letters(broker: &Broker, inbox: &Arc<Inbox>) -> Result<Subscription, String> {
    let wish = Subscribe {
        dead_letter_topic: broker.name("dead"),
        ..broker.wish("t", "g", inbox)
    };
    broker
        .subscribe(wish)
        .await
        .or_say("subscribe with a dead-letter topic")
}

pub(super) async fn too_many_failures_go_to_the_dead_letter_topic(broker: Broker) -> Verified {
    let own = broker.quick(&[("maxDeliveries", json!("3"))]).await?;
    let (inbox, dead) = (Inbox::new(|_| Answer::Retry), Inbox::acking());
    let _letters = own.listen("dead", "g", &dead).await?;
    let _subscription = listen_with_dead_letters(&own, &inbox).await?;
    own.send("t", "hopeless").await?;
    arrives(&dead, "hopeless").await?;
    let attempts: Vec<_> = inbox.messages().iter().map(|message| message.attempt).collect();
    equal("attempts", &attempts, &vec![1, 2, 3])
}

pub(super) async fn a_dropped_message_goes_to_the_dead_letter_topic(broker: Broker) -> Verified {
    let own = broker.quick(&[]).await?;
    let (inbox, dead) = (Inbox::new(|_| Answer::Drop), Inbox::acking());
    let _letters = own.listen("dead", "g", &dead).await?;
    let _subscription = listen_with_dead_letters(&own, &inbox).await?;
    own.send("t", "unwanted").await?;
    arrives(&dead, "unwanted").await?;
    equal("deliveries", &inbox.messages().len(), &1)
}

pub(super) async fn the_dead_letter_topic_of_the_settings_is_used(broker: Broker) -> Verified {
    let topic = json!(broker.name("dead"));
    let own = broker
        .quick(&[("maxDeliveries", json!("2")), ("deadLetterTopic", topic)])
        .await?;
    let (inbox, dead) = (Inbox::new(|_| Answer::Retry), Inbox::acking());
    let _letters = own.listen("dead", "g", &dead).await?;
    let _subscription = own.listen("t", "g", &inbox).await?;
    own.send("t", "hopeless").await?;
    arrives(&dead, "hopeless").await?;
    equal("deliveries", &inbox.messages().len(), &2)
}

pub(super) async fn without_a_dead_letter_topic_deliveries_end(broker: Broker) -> Verified {
    let own = broker.quick(&[("maxDeliveries", json!("3"))]).await?;
    let inbox = Inbox::new(|message| {
        if message.data == "fine" {
            Answer::Ack
        } else {
            Answer::Retry
        }
    });
    let _subscription = own.listen("t", "g", &inbox).await?;
    own.send("t", "hopeless").await?;
    inbox.wait_for(3).await?;
    own.send("t", "fine").await?;
    inbox.wait_for(4).await?;
    equal("deliveries", &inbox.settle(QUIET).await.len(), &4)
}

/// The subscriber holds on to what it gets, so that the queue fills up.
pub(super) async fn a_full_queue_refuses_and_recovers(broker: Broker) -> Verified {
    let own = broker.quick(&[("maxQueued", json!("5"))]).await?;
    let inbox = Inbox::new(|_| Answer::Held);
    let _subscription = own.listen("t", "g", &inbox).await?;
    let mut accepted = 0;
    let refusal = loop {
        match own.send_with("t", accepted.to_string(), &[]).await {
            Ok(_) => accepted += 1,
            refused => break refused,
        }
        ensure!(
            accepted < 500,
            "a queue of 5 took {accepted} messages that nobody handled"
        );
    };
    fails("publishing to a full queue", refusal, &[ResourceExhausted])?;
    ensure!(accepted >= 5, "a queue of 5 took {accepted} messages");
    inbox.open();
    inbox.wait_for(accepted).await?;
    let ask = async || Ok(own.send_with("t", "after", &[]).await.ok().map(drop));
    poll(DEADLINE, "room in the queue once all is handled", ask).await?;
    let messages = inbox.wait_for(accepted + 1).await?;
    equal(
        "the last message",
        &texts(&messages).last(),
        &Some(&"after".to_owned()),
    )
}

/// One group is full; the other must not get what the publisher was told is refused.
pub(super) async fn a_refused_message_reaches_nobody(broker: Broker) -> Verified {
    let own = broker.quick(&[("maxQueued", json!("5"))]).await?;
    let (held, other) = (Inbox::new(|_| Answer::Held), Inbox::acking());
    let _first = own.listen("t", "g", &held).await?;
    let _second = own.listen("t", "g2", &other).await?;
    let mut accepted = 0;
    for number in 0..100 {
        accepted += usize::from(own.send_with("t", number.to_string(), &[]).await.is_ok());
    }
    ensure!(
        accepted < 100,
        "a queue of 5 took {accepted} messages that nobody handled"
    );
    other.wait_for(accepted).await?;
    equal(
        "messages of the other group",
        &other.settle(QUIET).await.len(),
        &accepted,
    )
}

pub(super) async fn as_many_handlers_run_as_set(broker: Broker) -> Verified {
    let own = broker.quick(&[("concurrency", json!("3"))]).await?;
    let inbox = Inbox::new(|_| Answer::Held);
    let _subscription = own.listen("t", "g", &inbox).await?;
    own.send_all("t", (0..20).map(|number| number.to_string()))
        .await?;
    inbox.wait_for(3).await?;
    inbox.settle(QUIET).await;
    equal("handlers at once", &inbox.most_at_once(), &3)?;
    inbox.open();
    inbox.wait_for(20).await?;
    equal("handlers at once in the end", &inbox.most_at_once(), &3)
}

/// Some products keep the order of messages that have the same key only.
pub(super) async fn one_at_a_time_keeps_the_order(broker: Broker) -> Verified {
    let own = broker.quick(&[("concurrency", json!("1"))]).await?;
    let send = async |text: &String| {
        let key = [("partitionKey", "k")];
        own.send_with("t", text.clone(), &key)
            .await
            .or_say("publish with a key")
    };
    let inbox = Inbox::acking();
    own.introduce("t", "g").await?;
    let wanted: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    let (before, after) = wanted.split_at(25);
    for text in before {
        send(text).await?;
    }
    let _subscription = own.listen("t", "g", &inbox).await?;
    for text in after {
        send(text).await?;
    }
    equal("order of messages", &texts(&inbox.wait_for(50).await?), &wanted)
}
