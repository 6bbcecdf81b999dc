//! Delivers the messages of one subscription.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use layotto_core::{
    Error, ErrorKind, Metadata, Result,
    pubsub::{EPHEMERAL, Handler, Message, Outcome, Subscribe, Subscription},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::unconstrained,
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    policy::Policy,
    queue::{Entry, Place, Queue, Taken},
};
use crate::clock::{Clock, is_over};

/// A message as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    pub(super) topic: String,
    pub(super) data: Bytes,
    pub(super) metadata: Metadata,
}

/// Where the messages of a queue come from, and what hears of their end.
#[async_trait]
pub(super) trait Source: Send + Sync + 'static {
    /// What queues hold of a message.
    type Body: Clone + Send + Sync;

    /// The id that subscribers see.
    fn id(&self, entry: &Entry<Self::Body>) -> String {
        entry.id.to_string()
    }

    /// The message of `entry`, which is about to be delivered; `None` where it is gone. An error of
    /// kind [`ErrorKind::DataLoss`] says that it can never be delivered.
    fn load(&self, entry: &Entry<Self::Body>) -> Result<Option<Stored>>;

    /// Waits until the message belongs to somebody else, who delivers it from now on.
    async fn lost(&self, _: &Entry<Self::Body>) {
        std::future::pending().await
    }

    /// The group is done with a message.
    async fn settle(&self, place: &Place, entry: &Entry<Self::Body>) -> Result<()>;

    /// The delivery of `entry` failed.
    async fn note_failure(&self, place: &Place, entry: &Entry<Self::Body>) -> Result<()>;

    /// Moves a message of a group to topic `to`, of which a group may have `limit` queued.
    async fn move_to(&self, to: &str, place: &Place, entry: &Entry<Self::Body>, limit: usize) -> Result<()>;

    /// Forgets a group and what waits for it.
    async fn leave(&self, place: &Place) -> Result<()>;
}

/// A subscription that is to be made.
pub(super) struct Seeking {
    pub(super) place: Place,
    pub(super) is_ephemeral: bool,
    pub(super) policy: Policy,
    pub(super) handler: Arc<dyn Handler>,
}

impl Seeking {
    /// What `subscribe` asks for; the rest is as in `policy`, the component's.
    ///
    /// # Errors
    /// Where its metadata has a setting that cannot be read.
    pub(super) fn new(subscribe: Subscribe, policy: &Policy) -> Result<Self> {
        let metadata = &subscribe.metadata;
        let policy = policy.of(&subscribe.group, &subscribe.dead_letter_topic, metadata)?;
        Ok(Self {
            is_ephemeral: metadata.get(EPHEMERAL).is_some_and(|value| value == "true"),
            place: Place {
                topic: subscribe.topic,
                group: policy.group.clone(),
            },
            policy,
            handler: subscribe.handler,
        })
    }

    /// Delivers what comes into `queue`, as long as the subscription is held and `stop` is not
    /// cancelled. `seat` is held until the last handler has ended.
    pub(super) fn deliver<S: Source>(
        self,
        (source, queue): (Arc<S>, Arc<Queue<S::Body>>),
        seat: impl Send + 'static,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Subscription {
        let (dropped, running) = (CancellationToken::new(), TaskTracker::new());
        let delivery = Delivery {
            source,
            queue,
            place: self.place,
            policy: self.policy,
            handler: self.handler,
            clock: Clock::default(),
            dropped: dropped.clone(),
            stop: stop.clone(),
            tasks: running.clone(),
        };
        tasks.spawn(async move {
            Arc::new(delivery).run().await;
            running.close();
            running.wait().await;
            // Not before: what is being delivered belongs to whoever has the seat.
            drop(seat);
        });
        Subscription::new(dropped)
    }
}

/// A subscription at work.
pub(super) struct Delivery<S: Source> {
    pub(super) source: Arc<S>,
    pub(super) queue: Arc<Queue<S::Body>>,
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

impl<S: Source> Delivery<S> {
    /// Delivers until the subscription is dropped or the component closes.
    pub(super) async fn run(self: Arc<Self>) {
        tokio::select! {
            biased;
            () = self.dropped.cancelled() => {}
            () = self.stop.cancelled() => {}
            () = self.deliver_all() => {}
        }
        if self.queue.is_ephemeral() {
            let left = self.source.leave(&self.place).await;
            self.log(left, "cannot forget the group of a subscription that ended");
        }
    }

    async fn deliver_all(self: &Arc<Self>) {
        let slots = Arc::new(Semaphore::new(self.policy.concurrency));
        loop {
            let slot = Arc::clone(&slots).acquire_owned().await;
            let slot = slot.expect("invariant: nobody closes the slots");
            let taken = self.next().await;
            let mut delivering = Box::pin(Arc::clone(self).deliver(taken, slot));
            // Begun here, whatever is left of the task's budget: the handler takes its place before it is
            // asked whether there is another, handlers begin in the order of the messages, and messages
            // that wait together need no turn of the scheduler each.
            if futures::poll!(unconstrained(&mut delivering)).is_pending() {
                self.tasks.spawn(delivering);
            }
        }
    }

    /// Takes the next message. None is taken before the handler is ready for it.
    async fn next(&self) -> Taken<S::Body> {
        loop {
            self.queue.due(&self.clock).await;
            self.handler.ready().await;
            // What is put back when the subscriber leaves would be taken again in the same turn.
            if self.dropped.is_cancelled() || self.stop.is_cancelled() {
                std::future::pending::<()>().await;
            }
            if let Some(taken) = self.queue.take(self.clock.now()) {
                return taken;
            }
        }
    }

    async fn deliver(self: Arc<Self>, taken: Taken<S::Body>, _slot: OwnedSemaphorePermit) {
        let stored = match self.load(&taken) {
            Ok(Some(stored)) => stored,
            Ok(None) => return self.settle(taken).await,
            Err(error) if error.kind() == ErrorKind::DataLoss => return self.discard(taken, &error).await,
            Err(error) => return self.fail(taken, error).await,
        };
        let outcome = tokio::select! {
            // First, since a verdict that is there counts even if the subscriber went away right after.
            biased;
            outcome = self.handle(self.message(&taken, stored)) => outcome,
            // Dropping `taken` gives the message to the other subscribers of the group.
            () = self.dropped.cancelled() => return,
            () = self.source.lost(taken.entry()) => return taken.settle(),
        };
        match outcome {
            Outcome::Ack => self.settle(taken).await,
            Outcome::Drop => self.give_up(taken).await,
            Outcome::Retry(error) => self.fail(taken, error).await,
        }
    }

    /// The message; `None` where it ended or is gone.
    fn load(&self, taken: &Taken<S::Body>) -> Result<Option<Stored>> {
        if is_over(taken.entry().end, self.clock.now()) {
            return Ok(None);
        }
        self.source.load(taken.entry())
    }

    fn message(&self, taken: &Taken<S::Body>, stored: Stored) -> Message {
        Message {
            id: self.source.id(taken.entry()),
            topic: stored.topic,
            data: stored.data,
            metadata: stored.metadata,
            attempt: taken.entry().attempts,
        }
    }

    async fn handle(&self, message: Message) -> Outcome {
        // A panic counts as a failure, else it would be repeated at once and for ever.
        let handling = AssertUnwindSafe(self.handler.handle(message)).catch_unwind();
        let handling = handling.map(|outcome| outcome.unwrap_or_else(|_| panicked()));
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

    async fn settle(&self, taken: Taken<S::Body>) {
        let settled = self.source.settle(&self.place, taken.entry()).await;
        // Not noted down means delivered again after a restart at worst: at least once.
        self.log(settled, "cannot note that a message is done");
        taken.settle();
    }

    async fn fail(&self, taken: Taken<S::Body>, error: Error) {
        let entry = taken.entry();
        if self.policy.gives_up(entry.attempts) {
            return self.discard(taken, &error).await;
        }
        tracing::debug!(
            topic = self.place.topic, group = self.place.group, id = self.source.id(entry),
            attempts = entry.attempts, %error, "a message will be delivered again"
        );
        let noted = self.source.note_failure(&self.place, entry).await;
        self.log(noted, "cannot note that a delivery failed");
        let wait = self.policy.wait(entry.attempts);
        self.retry_after(taken, wait);
    }

    async fn discard(&self, taken: Taken<S::Body>, error: &Error) {
        let entry = taken.entry();
        tracing::warn!(
            topic = self.place.topic, group = self.place.group, id = self.source.id(entry),
            attempts = entry.attempts, dead_letter_topic = self.policy.dead_letter_topic, %error,
            "a message is given up"
        );
        self.give_up(taken).await;
    }

    async fn give_up(&self, taken: Taken<S::Body>) {
        let to = &self.policy.dead_letter_topic;
        // A topic that is its own dead-letter topic would never be rid of the message.
        if to.is_empty() || *to == self.place.topic {
            return self.settle(taken).await;
        }
        let limit = self.policy.max_queued;
        match self.source.move_to(to, &self.place, taken.entry(), limit).await {
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

    fn retry_after(&self, taken: Taken<S::Body>, wait: Duration) {
        taken.retry(self.clock.after(wait));
    }

    fn log(&self, outcome: Result<()>, problem: &str) {
        if let Err(error) = outcome {
            tracing::warn!(topic = self.place.topic, group = self.place.group, %error, "{problem}");
        }
    }
}

fn panicked() -> Outcome {
    Outcome::Retry(Error::internal("the handler panicked"))
}
