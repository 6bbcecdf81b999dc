//! One stream of `SubscribeTopicEvents`: events out, acknowledgements in.
//!
//! Little is kept for a client that does not read: a few events wait in the channel, the others stay
//! with the broker until there is room.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use layotto_core::{
    Error, ErrorKind, GoDuration, Metadata, Result as CoreResult,
    pubsub::{EPHEMERAL, Handler, Message, Outcome, PubSub, Subscribe},
};
use layotto_proto::runtime::v1::{
    SubscribeTopicEventsRequest, SubscribeTopicEventsRequestInitial, SubscribeTopicEventsRequestProcessed,
    SubscribeTopicEventsResponse, SubscribeTopicEventsResponseInitial, TopicEventRequest,
    subscribe_topic_events_request::SubscribeTopicEventsRequestType as Incoming,
    subscribe_topic_events_response::SubscribeTopicEventsResponseType as Outgoing,
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::{acks::Acks, outcome, topic_event};
use crate::{
    Runtime, Slot,
    ops::pubsub::{self, KIND, Live, Mode},
    runtime::{component_error, look_up},
    status::from_error,
};

/// Events sent and not acknowledged, on one stream.
pub(super) const WINDOW: usize = 100;
/// Events on their way to the connection. With fewer, the tasks of stream and connection would have to
/// take turns for each event.
pub(super) const AHEAD: usize = 8;
/// How soon a stream follows its component when that is opened anew.
const REFRESH: Duration = Duration::from_secs(1);
const DELIVERY: &str = "layotto-delivery";
const ACK_DEADLINE: &str = "ackDeadline";
/// Streams' group on a broker whose groups live in this process. There an application that has both
/// a callback and streams gets each event on both, as from upstream's in-memory broker; the group on
/// any other broker is the component's, as Go sidecars use it.
const STREAMS: &str = "streams";

type Item = Result<SubscribeTopicEventsResponse, Status>;

/// What the server sends on the stream.
pub struct Events(mpsc::Receiver<Item>);

impl Events {
    /// Ends at once, with OK.
    fn none() -> Self {
        Self(mpsc::channel(1).1)
    }
}

impl Stream for Events {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.0.poll_recv(cx)
    }
}

/// Takes the first message, subscribes, and starts the stream.
pub(super) async fn open<S>(runtime: Arc<Runtime>, mut requests: S) -> Result<Events, Status>
where
    S: Stream<Item = Result<SubscribeTopicEventsRequest, Status>> + Send + Unpin + 'static,
{
    let Some(Some(first)) = runtime.shutdown.run_until_cancelled(requests.next()).await else {
        return Ok(Events::none());
    };
    let initial = initial(first?).map_err(|error| from_error(&error))?;
    start(runtime, initial, requests)
        .await
        .map_err(|error| from_error(&error))
}

fn initial(first: SubscribeTopicEventsRequest) -> CoreResult<SubscribeTopicEventsRequestInitial> {
    let Some(Incoming::InitialRequest(initial)) = first.subscribe_topic_events_request_type else {
        return Err(Error::invalid("initial request is required"));
    };
    if initial.pubsub_name.is_empty() {
        return Err(Error::invalid("pubsubName is required"));
    }
    if initial.topic.is_empty() {
        return Err(Error::invalid("topic is required"));
    }
    Ok(initial)
}

async fn start<S>(
    runtime: Arc<Runtime>,
    initial: SubscribeTopicEventsRequestInitial,
    requests: S,
) -> CoreResult<Events>
where
    S: Stream<Item = Result<SubscribeTopicEventsRequest, Status>> + Send + Unpin + 'static,
{
    let name = initial.pubsub_name.clone();
    let missing = || format!("pubsub {name} is not initialized.");
    let slot = look_up(&runtime.components.pubsub, &name, missing, missing)?;
    let refused = |error: Error| component_error(KIND, &name, error.to_string(), error);
    let mode = mode(&initial.metadata)?;

    let (sender, receiver) = mpsc::channel(AHEAD);
    let delivery = Arc::new(Delivery {
        pubsub: name.clone(),
        topic: initial.topic.clone(),
        raw: pubsub::is_raw(&initial.metadata),
        deadline: ack_deadline(&initial.metadata)?,
        window: Semaphore::new(0),
        out: sender.downgrade(),
        acks: Acks::default(),
        ended: CancellationToken::new(),
    });
    let wish = wish(&runtime, slot, mode, initial, Arc::clone(&delivery)).map_err(refused)?;
    let mut live = Live::new(Arc::clone(slot), wish, mode, runtime.subscriptions.clone());
    live.refresh().await.map_err(refused)?;
    let confirmation = Outgoing::InitialResponse(SubscribeTopicEventsResponseInitial {});
    let sent = sender.send(Ok(response(confirmation))).await;
    sent.map_err(|_| Error::internal("invariant: the receiver is held here"))?;
    // Not before, so that no event overtakes the confirmation.
    delivery.window.add_permits(WINDOW);

    let shutdown = runtime.shutdown.clone();
    runtime
        .tasks
        .spawn(run(delivery, live, requests, sender, shutdown));
    Ok(Events(receiver))
}

fn mode(metadata: &Metadata) -> CoreResult<Mode> {
    match metadata.get(DELIVERY).map(String::as_str) {
        None | Some("" | "compete") => Ok(Mode::Compete),
        Some("each") => Ok(Mode::Each),
        Some(other) => Err(Error::invalid(format!(
            "{DELIVERY} must be compete or each, not {other:?}"
        ))),
    }
}

fn ack_deadline(metadata: &Metadata) -> CoreResult<Option<Duration>> {
    let Some(text) = metadata.get(ACK_DEADLINE).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let deadline: GoDuration = text
        .parse()
        .map_err(|error| Error::invalid(format!("{ACK_DEADLINE}: {error}")))?;
    if deadline.0.is_zero() {
        return Err(Error::invalid(format!("{ACK_DEADLINE} must be longer than zero")));
    }
    Ok(Some(deadline.0))
}

fn wish(
    runtime: &Runtime,
    slot: &Slot<dyn PubSub>,
    mode: Mode,
    initial: SubscribeTopicEventsRequestInitial,
    handler: Arc<Delivery>,
) -> CoreResult<Subscribe> {
    let mut metadata = initial.metadata;
    let group = match mode {
        Mode::Each => {
            metadata.insert(EPHEMERAL.to_owned(), "true".to_owned());
            format!("{}-{}", runtime.app_id, Uuid::new_v4())
        }
        _ if slot.get()?.features().durable => String::new(),
        _ => STREAMS.to_owned(),
    };
    let dead_letter_topic = initial
        .dead_letter_topic
        .filter(|topic| !topic.is_empty())
        .unwrap_or_else(|| pubsub::dead_letter_topic(&metadata));
    Ok(Subscribe {
        topic: initial.topic,
        group,
        dead_letter_topic,
        metadata,
        handler,
    })
}

fn response(outgoing: Outgoing) -> SubscribeTopicEventsResponse {
    SubscribeTopicEventsResponse {
        subscribe_topic_events_response_type: Some(outgoing),
    }
}

/// Serves a stream until it ends, from either side.
async fn run<S>(
    delivery: Arc<Delivery>,
    live: Live,
    requests: S,
    sender: mpsc::Sender<Item>,
    shutdown: CancellationToken,
) where
    S: Stream<Item = Result<SubscribeTopicEventsRequest, Status>> + Send + Unpin + 'static,
{
    let end = serve(&delivery, live, requests, &sender, &shutdown).await;
    // The subscription is gone by now: what is released here goes to another stream.
    delivery.ended.cancel();
    if let Err(error) = end {
        let last = sender.send(Err(from_error(&error)));
        // Nobody is left to read it where this fails.
        drop(shutdown.run_until_cancelled(last).await);
    }
}

async fn serve<S>(
    delivery: &Delivery,
    mut live: Live,
    mut requests: S,
    sender: &mpsc::Sender<Item>,
    shutdown: &CancellationToken,
) -> CoreResult<()>
where
    S: Stream<Item = Result<SubscribeTopicEventsRequest, Status>> + Send + Unpin + 'static,
{
    let mut refresh = interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = sender.closed() => return Ok(()),
            request = requests.next() => match request {
                Some(Ok(request)) => delivery.acknowledge(request)?,
                // A half-close ends the stream well; after a broken connection nobody hears how it ends.
                Some(Err(_)) | None => return Ok(()),
            },
            _ = refresh.tick() => if let Err(error) = live.refresh().await {
                let Subscribe { topic, .. } = live.wish();
                tracing::warn!(target: "layotto::api", pubsub = delivery.pubsub, topic, %error, "stream has no broker");
            },
        }
    }
}

/// The broker's side of a stream.
struct Delivery {
    pubsub: String,
    topic: String,
    raw: bool,
    deadline: Option<Duration>,
    /// Places for events sent and not acknowledged; none before the subscription is confirmed.
    window: Semaphore,
    /// Weak, so that the stream ends although the broker still holds the handler.
    out: mpsc::WeakSender<Item>,
    acks: Acks,
    ended: CancellationToken,
}

#[async_trait]
impl Handler for Delivery {
    async fn handle(&self, message: Message) -> Outcome {
        let event = match pubsub::receive(&self.pubsub, message, self.raw) {
            Ok(event) => topic_event(event, &self.pubsub),
            Err(outcome) => return outcome,
        };
        self.ended
            .run_until_cancelled(self.deliver(event))
            .await
            .unwrap_or_else(|| self.gone())
    }

    async fn ready(&self) {
        self.ended.run_until_cancelled(self.room()).await;
    }
}

impl Delivery {
    async fn deliver(&self, event: TopicEventRequest) -> Outcome {
        let Ok(_place) = self.window.acquire().await else {
            return self.gone();
        };
        let id = event.id.clone();
        let mut expected = self.acks.expect(&id);
        if !self.send(event).await {
            return self.gone();
        }
        match self.within_deadline(expected.verdict()).await {
            Some(verdict) => outcome(verdict, &self.pubsub, &self.topic, &id),
            None => Outcome::Retry(Error::new(
                ErrorKind::Timeout,
                format!("no acknowledgement of pub/sub event {id} in time"),
            )),
        }
    }

    async fn send(&self, event: TopicEventRequest) -> bool {
        let Some(out) = self.out.upgrade() else {
            return false;
        };
        out.send(Ok(response(Outgoing::EventMessage(event))))
            .await
            .is_ok()
    }

    async fn within_deadline<T>(&self, verdict: impl Future<Output = T>) -> Option<T> {
        match self.deadline {
            Some(deadline) => tokio::time::timeout(deadline, verdict).await.ok(),
            None => Some(verdict.await),
        }
    }

    /// Waits for room in the window and in the channel.
    async fn room(&self) {
        drop(self.window.acquire().await);
        if let Some(out) = self.out.upgrade() {
            drop(out.reserve().await);
        }
    }

    fn acknowledge(&self, request: SubscribeTopicEventsRequest) -> CoreResult<()> {
        let Some(Incoming::EventProcessed(processed)) = request.subscribe_topic_events_request_type else {
            return Err(Error::invalid("duplicate initial request received"));
        };
        let SubscribeTopicEventsRequestProcessed { id, status } = processed;
        let verdict = status.unwrap_or_default().status;
        if !self.acks.settle(&id, verdict) {
            tracing::debug!(target: "layotto::api", pubsub = self.pubsub, topic = self.topic, event = id, "unexpected acknowledgement");
        }
        Ok(())
    }

    fn gone(&self) -> Outcome {
        let Self { pubsub, topic, .. } = self;
        Outcome::Retry(Error::unavailable(format!(
            "no streamer subscribed to pubsub {pubsub:?} topic {topic:?}"
        )))
    }
}
