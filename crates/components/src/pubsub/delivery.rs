//! Delivers the messages of one subscription.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc, task::Poll, time::Duration};

use futures::FutureExt;
use layotto_core::{
    Error, ErrorKind,
    pubsub::{Handler, Message, Outcome},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    broker::{Journal, Stored},
    policy::Policy,
    queue::{Place, Queue, Taken},
};
use crate::clock::{Clock, is_over};

/// A subscription at work.
pub(super) struct Delivery<J: Journal> {
    pub(super) journal: Arc<J>,
    pub(super) queue: Arc<Queue<J::Body>>,
    pub(super) place: Place,
    pub(super) policy: Policy,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) clock: Clock,
    /// The subscriber went away: what its handler is doing no longer counts.
    pub(super) dropped: CancellationToken,
    /// The component closes: nothing new is delivered, what runs is finished.
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl<J: Journal> Delivery<J> {
    /// Delivers until the subscription is dropped or the component closes.
    pub(super) async fn run(self: Arc<Self>) {
        tokio::select! {
            biased;
            () = self.dropped.cancelled() => {}
            () = self.stop.cancelled() => {}
            () = self.deliver_all() => {}
        }
        if self.queue.is_ephemeral() {
            let left = self.journal.leave(&self.place).await;
            self.log(left, "cannot forget the group of a subscription that ended");
        }
    }

    async fn deliver_all(self: &Arc<Self>) {
        let slots = Arc::new(Semaphore::new(self.policy.concurrency));
        loop {
            let slot = Arc::clone(&slots).acquire_owned().await;
            let slot = slot.expect("invariant: nobody closes the slots");
            let taken = self.next().await;
            let (begun, beginning) = oneshot::channel();
            self.tasks.spawn(Arc::clone(self).deliver(taken, slot, begun));
            // The handler takes its place before it is asked whether there is another, and handlers
            // begin in the order of the messages.
            drop(beginning.await);
        }
    }

    /// Takes the next message. None is taken before the handler is ready for it.
    async fn next(&self) -> Taken<J::Body> {
        loop {
            self.queue.due(&self.clock).await;
            self.handler.ready().await;
            if let Some(taken) = self.queue.take(self.clock.now()) {
                return taken;
            }
        }
    }

    async fn deliver(
        self: Arc<Self>,
        taken: Taken<J::Body>,
        _slot: OwnedSemaphorePermit,
        begun: oneshot::Sender<()>,
    ) {
        let stored = match self.load(&taken) {
            Ok(Some(stored)) => stored,
            without => {
                drop(begun);
                return match without {
                    Ok(_) => self.settle(taken).await,
                    Err(error) => self.fail(taken, error).await,
                };
            }
        };
        let outcome = tokio::select! {
            // First, since a verdict that is there counts even if the subscriber went away right after.
            biased;
            outcome = self.handle(self.message(&taken, stored), begun) => outcome,
            // Dropping `taken` gives the message to the other subscribers of the group.
            () = self.dropped.cancelled() => return,
        };
        match outcome {
            Outcome::Ack => self.settle(taken).await,
            Outcome::Drop => self.give_up(taken).await,
            Outcome::Retry(error) => self.fail(taken, error).await,
        }
    }

    /// The message; `None` where it ended or is gone.
    fn load(&self, taken: &Taken<J::Body>) -> Result<Option<Stored>, Error> {
        if is_over(taken.entry().end, self.clock.now()) {
            return Ok(None);
        }
        self.journal.load(taken.entry())
    }

    fn message(&self, taken: &Taken<J::Body>, stored: Stored) -> Message {
        Message {
            id: taken.entry().id.to_string(),
            topic: stored.topic,
            data: stored.data,
            metadata: stored.metadata,
            attempt: taken.entry().attempts,
        }
    }

    async fn handle(&self, message: Message, begun: oneshot::Sender<()>) -> Outcome {
        // A panic counts as a failure, else it would be repeated at once and for ever.
        let handling = AssertUnwindSafe(self.handler.handle(message)).catch_unwind();
        let mut handling = pin!(handling.map(|outcome| outcome.unwrap_or_else(|_| panicked())));
        if let Poll::Ready(outcome) = futures::poll!(&mut handling) {
            return outcome;
        }
        drop(begun);
        if self.policy.ack_deadline.is_zero() {
            return handling.await;
        }
        time::timeout(self.policy.ack_deadline, handling)
            .await
            .unwrap_or_else(|_| {
                Outcome::Retry(Error::new(
                    ErrorKind::Timeout,
                    "the message was not acknowledged in time",
                ))
            })
    }

    async fn settle(&self, taken: Taken<J::Body>) {
        let settled = self.journal.settle(&self.place, taken.entry().id).await;
        // Not noted down means delivered again after a restart at worst: at least once.
        self.log(settled, "cannot note that a message is done");
        taken.settle();
    }

    async fn fail(&self, taken: Taken<J::Body>, error: Error) {
        let entry = taken.entry();
        if self.policy.gives_up(entry.attempts) {
            tracing::warn!(
                topic = self.place.topic, group = self.place.group, id = entry.id,
                attempts = entry.attempts, dead_letter_topic = self.policy.dead_letter_topic, %error,
                "a message is given up"
            );
            return self.give_up(taken).await;
        }
        tracing::debug!(
            topic = self.place.topic, group = self.place.group, id = entry.id,
            attempts = entry.attempts, %error, "a message will be delivered again"
        );
        let noted = self.journal.note_failure(&self.place, entry).await;
        self.log(noted, "cannot note that a delivery failed");
        let wait = self.policy.wait(entry.attempts);
        self.retry_after(taken, wait);
    }

    async fn give_up(&self, taken: Taken<J::Body>) {
        let to = &self.policy.dead_letter_topic;
        // A topic that is its own dead-letter topic would never be rid of the message.
        if to.is_empty() || *to == self.place.topic {
            return self.settle(taken).await;
        }
        let limit = self.policy.max_queued;
        match self.journal.move_to(to, &self.place, taken.entry(), limit).await {
            Ok(()) => taken.settle(),
            Err(error) => {
                tracing::warn!(
                    topic = self.place.topic, group = self.place.group, dead_letter_topic = to, %error,
                    "a message cannot be moved to the dead-letter topic and stays"
                );
                self.retry_after(taken, self.policy.backoff_max);
            }
        }
    }

    fn retry_after(&self, taken: Taken<J::Body>, wait: Duration) {
        taken.retry(self.clock.after(wait));
    }

    fn log(&self, outcome: Result<(), Error>, problem: &str) {
        if let Err(error) = outcome {
            tracing::warn!(topic = self.place.topic, group = self.place.group, %error, "{problem}");
        }
    }
}

fn panicked() -> Outcome {
    Outcome::Retry(Error::internal("the handler panicked"))
}
