//! A broker in memory that does what its trait says and nothing more, for tests.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use layotto_core::{
    Component, Error, Metadata, Result,
    health::{Health, Required},
    key_prefix::{KeyPrefix, Scope},
    pubsub::{EPHEMERAL, Features, Handler, Message, Outcome, PubSub, Publish, Subscribe, Subscription},
};
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Components, Runtime, Slot};

/// How often what happened to messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) taken: usize,
    pub(crate) acked: usize,
    pub(crate) retried: usize,
    pub(crate) dead: usize,
}

#[derive(Default)]
pub(crate) struct Broker {
    pub(crate) features: Features,
    /// 0 for ever.
    pub(crate) max_deliveries: u32,
    pub(crate) refuse: Option<fn() -> Error>,
    pub(crate) ids: bool,
    pub(crate) shared: Arc<Shared>,
}

#[derive(Default)]
pub(crate) struct Shared {
    published: Mutex<Vec<Publish>>,
    topics: Mutex<HashMap<String, HashMap<String, Arc<Group>>>>,
    next_id: AtomicU64,
    counts: watch::Sender<Counts>,
}

struct Group {
    queue: Mutex<VecDeque<Message>>,
    ready: Semaphore,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            ready: Semaphore::new(0),
        }
    }
}

impl Group {
    fn push(&self, message: Message) {
        self.queue.lock().unwrap().push_back(message);
        self.ready.add_permits(1);
    }

    async fn pop(&self) -> Message {
        self.ready.acquire().await.unwrap().forget();
        self.queue.lock().unwrap().pop_front().unwrap()
    }
}

/// Puts a message back whose handler was dropped.
struct InHand {
    group: Arc<Group>,
    message: Option<Message>,
}

impl Drop for InHand {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            self.group.push(message);
        }
    }
}

impl Shared {
    fn push(&self, topic: &str, data: Bytes, metadata: Metadata) -> String {
        let id = format!("m{}", self.next_id.fetch_add(1, Ordering::Relaxed));
        let topics = self.topics.lock().unwrap();
        for group in topics.get(topic).into_iter().flat_map(HashMap::values) {
            let (data, metadata) = (data.clone(), metadata.clone());
            group.push(Message {
                id: id.clone(),
                topic: topic.to_owned(),
                data,
                metadata,
                attempt: 1,
            });
        }
        id
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }
}

impl Broker {
    /// Puts bytes on a topic that no publisher of ours would.
    pub(crate) fn inject(&self, topic: &str, data: &[u8]) {
        self.shared
            .push(topic, Bytes::copy_from_slice(data), Metadata::new());
    }

    pub(crate) fn published(&self) -> Vec<Publish> {
        self.shared.published.lock().unwrap().clone()
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }

    /// Waits until the counts are as `wanted` says.
    pub(crate) async fn until(&self, wanted: impl FnMut(&Counts) -> bool) -> Counts {
        *self.shared.counts.subscribe().wait_for(wanted).await.unwrap()
    }

    /// The names of the groups of a topic.
    pub(crate) fn groups(&self, topic: &str) -> Vec<String> {
        let topics = self.shared.topics.lock().unwrap();
        topics
            .get(topic)
            .into_iter()
            .flat_map(HashMap::keys)
            .cloned()
            .collect()
    }
}

impl Component for Broker {}

#[async_trait]
impl PubSub for Broker {
    fn features(&self) -> Features {
        self.features
    }

    async fn publish(&self, message: Publish) -> Result<Option<String>> {
        if let Some(refuse) = self.refuse {
            return Err(refuse());
        }
        self.shared.published.lock().unwrap().push(message.clone());
        let id = self.shared.push(&message.topic, message.data, message.metadata);
        Ok(self.ids.then_some(id))
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        let token = CancellationToken::new();
        let group = {
            let mut topics = self.shared.topics.lock().unwrap();
            let groups = topics.entry(subscribe.topic.clone()).or_default();
            Arc::clone(groups.entry(subscribe.group.clone()).or_default())
        };
        let member = Member {
            shared: Arc::clone(&self.shared),
            group,
            subscribe,
            max_deliveries: self.max_deliveries,
        };
        tokio::spawn(member.run(token.clone()));
        Ok(Subscription::new(token))
    }
}

struct Member {
    shared: Arc<Shared>,
    group: Arc<Group>,
    subscribe: Subscribe,
    max_deliveries: u32,
}

impl Member {
    async fn run(self, token: CancellationToken) {
        let member = Arc::new(self);
        let handling = CancellationToken::new();
        token.run_until_cancelled(member.take(&handling)).await;
        handling.cancel();
        if member.subscribe.metadata.contains_key(EPHEMERAL) {
            let mut topics = member.shared.topics.lock().unwrap();
            topics
                .get_mut(&member.subscribe.topic)
                .unwrap()
                .remove(&member.subscribe.group);
        }
    }

    async fn take(self: &Arc<Self>, handling: &CancellationToken) {
        loop {
            self.subscribe.handler.ready().await;
            let message = self.group.pop().await;
            self.shared.count(|counts| counts.taken += 1);
            let in_hand = InHand {
                group: Arc::clone(&self.group),
                message: Some(message),
            };
            let (member, handling) = (Arc::clone(self), handling.clone());
            tokio::spawn(async move { handling.run_until_cancelled(member.handle(in_hand)).await });
            // Lets the handler take its place before it is asked whether there is another.
            tokio::task::yield_now().await;
        }
    }

    async fn handle(&self, mut in_hand: InHand) {
        let outcome = self
            .subscribe
            .handler
            .handle(in_hand.message.clone().unwrap())
            .await;
        let mut message = in_hand.message.take().unwrap();
        match outcome {
            Outcome::Ack => self.shared.count(|counts| counts.acked += 1),
            Outcome::Retry(_) if self.max_deliveries == 0 || message.attempt < self.max_deliveries => {
                message.attempt += 1;
                self.group.push(message);
                self.shared.count(|counts| counts.retried += 1);
            }
            Outcome::Retry(_) | Outcome::Drop => {
                self.shared
                    .push(&self.subscribe.dead_letter_topic, message.data, message.metadata);
                self.shared.count(|counts| counts.dead += 1);
            }
        }
    }
}

/// A handler that keeps what it gets.
#[derive(Default)]
pub(crate) struct Kept(pub(crate) Mutex<Vec<Message>>);

#[async_trait]
impl Handler for Kept {
    async fn handle(&self, message: Message) -> Outcome {
        self.0.lock().unwrap().push(message);
        Outcome::Ack
    }
}

/// A slot called `p` that holds `broker`.
pub(crate) fn slot(broker: Option<Arc<Broker>>) -> Arc<Slot<dyn PubSub>> {
    let indicator = Health::default().indicator("p", Required::No);
    let prefix = KeyPrefix::new(Scope::State, None, "", "p").unwrap();
    let slot: Slot<dyn PubSub> = Slot::new("p", "fake", prefix, indicator);
    if let Some(broker) = broker {
        slot.fill(broker);
    }
    Arc::new(slot)
}

/// A runtime of application `app1` whose only component is `slot`.
pub(crate) fn runtime(slot: Arc<Slot<dyn PubSub>>) -> Arc<Runtime> {
    let mut components = Components::default();
    components.pubsub.insert(slot);
    Arc::new(Runtime::new(
        "app1",
        components,
        Arc::default(),
        CancellationToken::new(),
        TaskTracker::new(),
    ))
}
