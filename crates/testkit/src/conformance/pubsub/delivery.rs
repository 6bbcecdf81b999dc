//! Who gets a message, and how often when all goes well.

use std::collections::HashSet;

use futures::future::join_all;

use super::*;

pub(super) async fn a_message_is_delivered(broker: Broker) -> Verified {
    let inbox = Inbox::acking();
    let _subscription = broker.listen("t", "g", &inbox).await?;
    broker.send("t", "hello").await?;
    let message = inbox.wait_for(1).await?.remove(0);
    equal("topic", &message.topic, &broker.name("t"))?;
    equal("data", &message.data, &Bytes::from("hello"))?;
    equal("attempt", &message.attempt, &1)?;
    let all = inbox.settle(QUIET).await;
    equal("deliveries", &all.len(), &1)
}

pub(super) async fn payloads_come_through(broker: Broker) -> Verified {
    let payloads = [
        Bytes::from((0..=255).collect::<Vec<u8>>()),
        Bytes::from(r#"{"n": 1.50, "s": "✓"}"#),
        Bytes::from(vec![b'x'; 1 << 20]),
        Bytes::new(),
    ];
    let inbox = Inbox::acking();
    let _subscription = broker.listen("t", "g", &inbox).await?;
    for (number, payload) in payloads.iter().enumerate() {
        broker.send("t", payload.clone()).await?;
        let messages = inbox.wait_for(number + 1).await?;
        ensure!(
            messages[number].data == payload,
            "payload {number} did not come as published"
        );
    }
    Ok(())
}

pub(super) async fn ids_are_those_of_the_publisher(broker: Broker) -> Verified {
    let inbox = Inbox::acking();
    let _subscription = broker.listen("t", "g", &inbox).await?;
    let mut published = HashSet::new();
    for number in 0..10 {
        let id = broker.send("t", number.to_string()).await?;
        let message = inbox.wait_for(number + 1).await?.remove(number);
        ensure!(!message.id.is_empty(), "a message has no id");
        if let Some(id) = id {
            equal("id of the message", &message.id, &id)?;
        }
        ensure!(
            published.insert(message.id.clone()),
            "two messages have the id {}",
            message.id
        );
    }
    Ok(())
}

pub(super) async fn publishing_without_a_subscriber_is_no_error(broker: Broker) -> Verified {
    for _ in 0..20 {
        broker.send("lonely", "x").await?;
    }
    Ok(())
}

pub(super) async fn topics_are_kept_apart(broker: Broker) -> Verified {
    let (first, second) = (Inbox::acking(), Inbox::acking());
    let _subscriptions = (
        broker.listen("t", "g", &first).await?,
        broker.listen("t2", "g", &second).await?,
    );
    broker.send("t", "one").await?;
    broker.send("t2", "two").await?;
    broker.send("t3", "three").await?;
    first.wait_for(1).await?;
    second.wait_for(1).await?;
    equal(
        "messages of t",
        &texts(&first.settle(QUIET).await),
        &vec!["one".to_owned()],
    )?;
    equal(
        "messages of t2",
        &texts(&second.settle(QUIET).await),
        &vec!["two".to_owned()],
    )
}

fn numbers(count: usize) -> Vec<String> {
    sorted((0..count).map(|number| format!("m{number}")).collect())
}

pub(super) async fn each_group_gets_every_message(broker: Broker) -> Verified {
    let inboxes = [Inbox::acking(), Inbox::acking(), Inbox::acking()];
    let mut subscriptions = Vec::new();
    for (group, inbox) in ["g", "g2", ""].into_iter().zip(&inboxes) {
        subscriptions.push(broker.listen("t", group, inbox).await?);
    }
    broker.send_all("t", numbers(20)).await?;
    for inbox in &inboxes {
        inbox.wait_for(20).await?;
        equal(
            "messages of a group",
            &sorted(texts(&inbox.settle(QUIET).await)),
            &numbers(20),
        )?;
    }
    Ok(())
}

pub(super) async fn one_consumer_of_a_group_gets_a_message(broker: Broker) -> Verified {
    let inbox = Inbox::acking();
    let mut subscriptions = Vec::new();
    for _ in 0..3 {
        subscriptions.push(broker.listen("t", "g", &inbox).await?);
    }
    broker.send_all("t", numbers(30)).await?;
    inbox.wait_for(30).await?;
    equal(
        "messages of the group",
        &sorted(texts(&inbox.settle(QUIET).await)),
        &numbers(30),
    )
}

/// One consumer never ends its first message; the other gets the rest.
pub(super) async fn a_busy_consumer_does_not_hold_up_its_group(broker: Broker) -> Verified {
    let busy = Inbox::new(|_| Answer::Held);
    let _first = broker.listen("t", "g", &busy).await?;
    broker.send("t", "kept").await?;
    busy.wait_for(1).await?;
    let idle = Inbox::acking();
    let _second = broker.listen("t", "g", &idle).await?;
    broker
        .send_all("t", (0..200).map(|number| number.to_string()))
        .await?;
    idle.wait_for(1).await?;
    busy.open();
    let all = async {
        while busy.messages().len() + idle.messages().len() < 201 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(DEADLINE, "all messages of the group", all).await?;
    let together = [busy.settle(QUIET).await, idle.settle(QUIET).await].concat();
    equal("deliveries to the group", &together.len(), &201)
}

pub(super) async fn the_default_group_is_one(broker: Broker) -> Verified {
    let (first, second) = (Inbox::acking(), Inbox::acking());
    let _subscriptions = (
        broker.listen("t", "", &first).await?,
        broker.listen("t", "", &second).await?,
    );
    broker.send_all("t", numbers(20)).await?;
    let all = async {
        while first.messages().len() + second.messages().len() < 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(DEADLINE, "all messages of the default group", all).await?;
    let together = [first.settle(QUIET).await, second.settle(QUIET).await].concat();
    equal(
        "messages of the default group",
        &sorted(texts(&together)),
        &numbers(20),
    )
}

pub(super) async fn concurrent_publishers_lose_nothing(broker: Broker) -> Verified {
    let inbox = Inbox::acking();
    let _subscription = broker.listen("t", "g", &inbox).await?;
    let publishers = (0..8).map(|publisher| {
        let broker = broker.clone();
        tokio::spawn(async move {
            for number in 0..25 {
                broker.send("t", format!("{publisher}/{number}")).await?;
            }
            Ok::<_, String>(())
        })
    });
    for joined in join_all(publishers).await {
        joined.map_err(|error| error.to_string())??;
    }
    inbox.wait_for(200).await?;
    let found = texts(&inbox.settle(QUIET).await);
    let different: HashSet<_> = found.iter().collect();
    equal("different messages", &different.len(), &200)?;
    equal("deliveries", &found.len(), &200)
}

/// Many messages are in hand at once, but not all of them.
pub(super) async fn handlers_run_at_once(broker: Broker) -> Verified {
    let inbox = Inbox::new(|_| Answer::Held);
    let _subscription = broker.listen("t", "g", &inbox).await?;
    broker
        .send_all("t", (0..300).map(|number| number.to_string()))
        .await?;
    inbox.wait_for(2).await?;
    inbox.settle(QUIET).await;
    let most = inbox.most_at_once();
    ensure!(most > 1, "one message at a time is in hand");
    ensure!(most < 300, "all {most} messages are in hand at once");
    inbox.open();
    inbox.wait_for(300).await.map(drop)
}

pub(super) async fn unsubscribing_ends_its_own_deliveries_alone(broker: Broker) -> Verified {
    let (leaving, staying, other) = (Inbox::acking(), Inbox::acking(), Inbox::acking());
    let first = broker.listen("t", "g", &leaving).await?;
    let _second = broker.listen("t", "g", &staying).await?;
    let _third = broker.listen("t", "g2", &other).await?;
    drop(first);
    let before = leaving.settle(QUIET).await.len();
    broker.send_all("t", numbers(10)).await?;
    staying.wait_for(10).await?;
    other.wait_for(10).await?;
    equal(
        "deliveries after unsubscribing",
        &leaving.messages().len(),
        &before,
    )
}

pub(super) async fn messages_wait_for_their_group(broker: Broker) -> Verified {
    broker.introduce("t", "g").await?;
    broker.send_all("t", numbers(5)).await?;
    let inbox = Inbox::acking();
    let _subscription = broker.listen("t", "g", &inbox).await?;
    equal(
        "messages that waited",
        &sorted(texts(&inbox.wait_for(5).await?)),
        &numbers(5),
    )
}

pub(super) async fn unhandled_messages_survive_a_restart(broker: Broker) -> Verified {
    let own = broker.quick(&[]).await?;
    let stuck = Inbox::new(|_| Answer::Never);
    let subscription = own.listen("t", "g", &stuck).await?;
    own.send("t", "in hand").await?;
    stuck.wait_for(1).await?;
    drop(subscription);
    own.send("t", "waiting").await?;
    let own = own.reopen().await?;
    let inbox = Inbox::acking();
    let _subscription = own.listen("t", "g", &inbox).await?;
    let found = sorted(texts(&inbox.wait_for(2).await?));
    equal(
        "messages after a restart",
        &found,
        &["in hand", "waiting"].map(str::to_owned).into(),
    )
}

pub(super) async fn handled_messages_stay_handled_over_a_restart(broker: Broker) -> Verified {
    let own = broker.quick(&[]).await?;
    let inbox = Inbox::new(|message| {
        if message.data == "dropped" {
            Answer::Drop
        } else {
            Answer::Ack
        }
    });
    let subscription = own.listen("t", "g", &inbox).await?;
    for text in ["acked", "dropped"] {
        own.send("t", text).await?;
    }
    inbox.wait_for(2).await?;
    inbox.settle(QUIET).await;
    drop(subscription);
    let own = own.reopen().await?;
    let later = Inbox::acking();
    let _subscription = own.listen("t", "g", &later).await?;
    own.send("t", "new").await?;
    later.wait_for(1).await?;
    equal(
        "messages after a restart",
        &texts(&later.settle(QUIET).await),
        &vec!["new".to_owned()],
    )
}
