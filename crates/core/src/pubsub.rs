//! Topics: at-least-once delivery to consumer groups.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Component, Error, Metadata, Result};

/// What a broker can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Honours metadata `ttlInSeconds` itself.
    pub message_ttl: bool,
    /// Honours metadata `delayInSeconds`.
    pub delayed: bool,
    /// Keeps undelivered messages over a restart of the process.
    pub durable: bool,
    /// Counts attempts and sends what fails too often to a dead-letter topic.
    pub dead_letter: bool,
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// The topic.
    pub topic: String,
    /// The payload, as it goes to the broker.
    pub data: Bytes,
    /// `ttlInSeconds`, `delayInSeconds`, `partitionKey` and the like.
    pub metadata: Metadata,
}

/// A message delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The broker's id of the message.
    pub id: String,
    /// The topic it was published to.
    pub topic: String,
    /// The payload.
    pub data: Bytes,
    /// What the broker says of it.
    pub metadata: Metadata,
    /// 1 at the first delivery, then one more each time.
    pub attempt: u32,
}

/// What became of a delivery.
#[derive(Debug)]
pub enum Outcome {
    /// Done; never deliver it again.
    Ack,
    /// Deliver it again later.
    Retry(Error),
    /// Never deliver it again; goes to the dead-letter topic where there is one.
    Drop,
}

/// Key of [`Subscribe::metadata`]: `true` for a group of this one subscription, which starts with
/// the messages published from now on and leaves nothing behind in the broker.
pub const EPHEMERAL: &str = "ephemeral";

/// Whoever handles the messages of a subscription.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Handles one message. Several calls may run at once. Dropping the future means that the
    /// message was not handled.
    async fn handle(&self, message: Message) -> Outcome;

    /// Waits until a message could be handled at all, such as while the application is away.
    /// Awaited before a message is taken, so that waiting costs neither an attempt nor a part of
    /// the message's deadline.
    async fn ready(&self) {}
}

/// A wish to get the messages of a topic.
#[derive(Clone)]
pub struct Subscribe {
    /// The topic.
    pub topic: String,
    /// The consumer group; messages are shared out within a group. Empty: the component's own.
    pub group: String,
    /// Where messages go that failed too often or were dropped; empty: the component's own setting.
    pub dead_letter_topic: String,
    /// Settings of this subscription. `ackDeadline` overrides the component's; with [`EPHEMERAL`]
    /// the group is forgotten when the subscription ends.
    pub metadata: Metadata,
    /// Who handles the messages.
    pub handler: Arc<dyn Handler>,
}

/// A live subscription; dropping it stops new deliveries.
#[derive(Debug)]
#[must_use = "dropping a subscription ends it"]
pub struct Subscription {
    _guard: DropGuard,
}

impl Subscription {
    /// A subscription that cancels `token` when it is dropped.
    pub fn new(token: CancellationToken) -> Self {
        Self {
            _guard: token.drop_guard(),
        }
    }
}

/// A broker of messages.
#[async_trait]
pub trait PubSub: Component {
    /// What this broker can do.
    fn features(&self) -> Features;

    /// Publishes a message; done when the broker has it safely. Returns the broker's id of it.
    async fn publish(&self, message: Publish) -> Result<Option<String>>;

    /// Starts delivering the messages of a topic; done when the subscription exists.
    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription>;
}
