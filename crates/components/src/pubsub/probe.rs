//! A broker for tests, and a handler that lets the test give the verdicts.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use layotto_core::{
    Context, Error, ErrorKind, Metadata, Result,
    pubsub::{Handler, Message, Outcome, PubSub, Publish, Subscribe, Subscription},
};
use layotto_testkit::soon::soon;
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// A component in a process of its own, as far as its product can tell.
pub(super) struct Subject<B> {
    pub(super) broker: Arc<B>,
    pub(super) cx: Context,
    pub(super) _folder: TempDir,
}

impl<B: PubSub> Subject<B> {
    pub(super) async fn publish_with(
        &self,
        topic: &str,
        text: &str,
        metadata: &[(&str, &str)],
    ) -> Result<Option<String>> {
        let metadata = metadata.iter();
        let metadata = metadata.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let message = Publish {
            topic: topic.to_owned(),
            data: text.to_owned().into(),
            metadata: metadata.collect(),
        };
        soon(self.broker.publish(message)).await
    }

    pub(super) async fn publish(&self, topic: &str, text: &str) -> Result<String> {
        Ok(self.publish_with(topic, text, &[]).await?.unwrap())
    }

    /// Subscribes for a group, with a topic for dead letters where one is named.
    pub(super) async fn subscribe_with(
        &self,
        topic: &str,
        (group, dead): (&str, &str),
        metadata: Metadata,
    ) -> Result<Subscriber> {
        let (sender, deliveries) = mpsc::channel(1024);
        let subscribe = Subscribe {
            topic: topic.to_owned(),
            group: group.to_owned(),
            dead_letter_topic: dead.to_owned(),
            metadata,
            handler: Arc::new(Probe::new(sender)),
        };
        Ok(Subscriber {
            deliveries,
            _subscription: soon(self.broker.subscribe(subscribe)).await?,
        })
    }

    /// Ends the process in order.
    pub(super) async fn end(&self) {
        self.broker.close().await.unwrap();
        self.cx.shutdown.cancel();
        self.cx.tasks.close();
        soon(self.cx.tasks.wait()).await;
    }
}

pub(super) fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Texts that are in the order of their numbers.
pub(super) fn texts(range: Range<usize>) -> Vec<String> {
    range.map(|number| format!("{number:03}")).collect()
}

/// A delivery that waits for its verdict; dropped without one, the handler panics.
pub(super) struct Delivered {
    pub(super) message: Message,
    pub(super) verdict: oneshot::Sender<Outcome>,
}

pub(super) struct Probe {
    deliveries: mpsc::Sender<Delivered>,
    /// Without a permit while the handler is not ready.
    pub(super) ready: Arc<Semaphore>,
}

impl Probe {
    pub(super) fn new(deliveries: mpsc::Sender<Delivered>) -> Self {
        Self {
            deliveries,
            ready: Arc::new(Semaphore::new(1)),
        }
    }
}

#[async_trait]
impl Handler for Probe {
    async fn ready(&self) {
        drop(self.ready.acquire().await);
    }

    async fn handle(&self, message: Message) -> Outcome {
        let (verdict, outcome) = oneshot::channel();
        drop(self.deliveries.send(Delivered { message, verdict }).await);
        outcome.await.expect("the test gave no verdict")
    }
}

/// A subscription and what it is delivered.
pub(super) struct Subscriber {
    pub(super) deliveries: mpsc::Receiver<Delivered>,
    pub(super) _subscription: Subscription,
}

impl Subscriber {
    pub(super) async fn next(&mut self) -> Delivered {
        self.deliveries.recv().await.unwrap()
    }

    /// Acknowledges the next message and returns its payload.
    pub(super) async fn ack(&mut self) -> String {
        self.next().await.end(Outcome::Ack)
    }
}

impl Delivered {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.message.data.to_vec()).unwrap()
    }

    pub(super) fn end(self, outcome: Outcome) -> String {
        let text = self.text();
        self.verdict.send(outcome).unwrap();
        text
    }
}

pub(super) fn retry() -> Outcome {
    Outcome::Retry(Error::unavailable("not now"))
}
