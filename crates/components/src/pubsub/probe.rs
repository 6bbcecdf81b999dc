//! A handler for tests, which lets the test give the verdicts.

use std::sync::Arc;

use async_trait::async_trait;
use layotto_core::{
    Error,
    pubsub::{Handler, Message, Outcome, Subscription},
};
use tokio::sync::{Semaphore, mpsc, oneshot};

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
