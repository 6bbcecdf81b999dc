//! Metadata `ttlInSeconds` and `delayInSeconds`.

use std::time::Instant;

use super::*;

/// The group is away while one of its messages expires.
pub(super) async fn expired_messages_are_not_delivered(broker: Broker) -> Verified {
    broker.introduce("t", "g").await?;
    broker
        .send_with("t", "short", &[("ttlInSeconds", "1")])
        .await
        .or_say("publish with a TTL")?;
    broker
        .send_with("t", "long", &[("ttlInSeconds", "100")])
        .await
        .or_say("publish with a TTL")?;
    broker.send("t", "endless").await?;
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let inbox = Inbox::acking();
    let _subscription = broker.listen("t", "g", &inbox).await?;
    inbox.wait_for(2).await?;
    let wanted = ["endless", "long"].map(str::to_owned).into();
    equal(
        "messages after a second",
        &sorted(texts(&inbox.settle(QUIET).await)),
        &wanted,
    )
}

pub(super) async fn delayed_messages_come_later(broker: Broker) -> Verified {
    let inbox = Inbox::acking();
    let _subscription = broker.listen("t", "g", &inbox).await?;
    let started = Instant::now();
    broker
        .send_with("t", "later", &[("delayInSeconds", "1")])
        .await
        .or_say("publish with a delay")?;
    let life = [("delayInSeconds", "4"), ("ttlInSeconds", "4")];
    broker
        .send_with("t", "last", &life)
        .await
        .or_say("publish with a delay and a TTL")?;
    broker.send("t", "now").await?;
    inbox.wait_for(1).await?;
    equal(
        "first message",
        &texts(&inbox.messages()),
        &vec!["now".to_owned()],
    )?;
    inbox.wait_for(2).await?;
    let late = inbox.deliveries()[1].at - started;
    ensure!(late >= Duration::from_millis(900), "a delay of 1 s took {late:?}");
    ensure!(late < Duration::from_secs(6), "a delay of 1 s took {late:?}");
    // A life begins when the message is due.
    inbox.wait_for(3).await?;
    equal(
        "deliveries",
        &texts(&inbox.settle(QUIET).await),
        &["now", "later", "last"].map(str::to_owned).into(),
    )
}

pub(super) async fn delayed_messages_survive_a_restart(broker: Broker) -> Verified {
    let own = broker.quick(&[]).await?;
    own.introduce("t", "g").await?;
    own.send_with("t", "later", &[("delayInSeconds", "2")])
        .await
        .or_say("publish with a delay")?;
    let started = Instant::now();
    let own = own.reopen().await?;
    let inbox = Inbox::acking();
    let _subscription = own.listen("t", "g", &inbox).await?;
    inbox.wait_for(1).await?;
    let late = inbox.deliveries()[0].at - started;
    ensure!(
        late >= Duration::from_millis(1800),
        "a delay of 2 s took {late:?} over a restart"
    );
    equal(
        "deliveries",
        &texts(&inbox.settle(QUIET).await),
        &vec!["later".to_owned()],
    )
}
