//! Clients that publish, and subscribers that share the messages.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use layotto_core::{
    Error, Metadata, Result,
    pubsub::{Handler, Message, Outcome, PubSub, Publish, Subscribe, Subscription},
};

use super::{Load, answer};
use crate::history::delivery::{History, Inbox, missing};

/// Subscribers of one group.
const SUBSCRIBERS: usize = 2;
/// Between two looks at what is still missing.
const PAUSE: Duration = Duration::from_millis(200);

/// Publishes until the load is stopped, with subscribers that fail now and then; then waits until
/// they are done with everything that was acknowledged, but no longer than `patience`.
///
/// # Errors
/// Where there can be no subscription.
pub async fn messages(
    broker: Arc<dyn PubSub>,
    load: &Load,
    (history, inbox): (&History, &Inbox),
    patience: Duration,
) -> Result<()> {
    let mut subscriptions = Vec::new();
    for _ in 0..SUBSCRIBERS {
        subscriptions.push(subscribe(&*broker, &load.name, inbox).await?);
    }
    load.run(|mut client| {
        let (broker, history) = (broker.clone(), history.clone());
        async move {
            for number in 0.. {
                if !client.goes_on().await {
                    return;
                }
                let text = client.name(number);
                let pending = history.begin(client.number, text.clone());
                let message = Publish {
                    topic: client.load.name.clone(),
                    data: Bytes::from(text),
                    metadata: Metadata::new(),
                };
                if answer(broker.publish(message).await).is_some() {
                    pending.end(());
                }
            }
        }
    })
    .await;
    let published = history.operations();
    let all_done = async {
        while !missing(&published, &inbox.deliveries()).is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    // What is missing then, the checker says.
    drop(tokio::time::timeout(patience, all_done).await);
    Ok(())
}

async fn subscribe(broker: &dyn PubSub, topic: &str, inbox: &Inbox) -> Result<Subscription> {
    let handler = Subscriber { inbox: inbox.clone() };
    let subscribe = Subscribe {
        topic: topic.to_owned(),
        group: String::new(),
        dead_letter_topic: String::new(),
        metadata: Metadata::new(),
        handler: Arc::new(handler),
    };
    broker.subscribe(subscribe).await
}

struct Subscriber {
    inbox: Inbox,
}

#[async_trait]
impl Handler for Subscriber {
    async fn handle(&self, message: Message) -> Outcome {
        let text = String::from_utf8_lossy(&message.data).into_owned();
        let fails = self.inbox.is_new(&text) && text.ends_with('7');
        // A moment, so that several are handled at once.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.inbox.note(text, !fails);
        if fails {
            return Outcome::Retry(Error::unavailable("once more"));
        }
        Outcome::Ack
    }
}
