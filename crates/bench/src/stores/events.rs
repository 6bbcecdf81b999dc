//! Events from publisher to subscriber, through the sidecar and with the client alone.
//!
//! Both ways the same number of publishes are under way, each awaited; an event carries the time
//! at which its publish began.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use layotto_peers::load::percentile;
use layotto_proto::runtime::v1::{
    PublishEventRequest, SubscribeTopicEventsRequest, SubscribeTopicEventsRequestInitial,
    SubscribeTopicEventsRequestProcessed, runtime_client::RuntimeClient,
    subscribe_topic_events_request::SubscribeTopicEventsRequestType as Said,
    subscribe_topic_events_response::SubscribeTopicEventsResponseType as Heard,
};
use layotto_testkit::server;
use rdkafka::{
    ClientConfig, Message as _,
    consumer::{Consumer, StreamConsumer},
    producer::{FutureProducer, FutureRecord},
};
use redis::{
    AsyncCommands,
    aio::MultiplexedConnection,
    streams::{StreamReadOptions, StreamReadReply},
};
use serde_json::json;
use tokio::{
    sync::mpsc::{self, Sender},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{Sidecar, medians};
use crate::{
    cases::{Options, Row},
    load,
};

const PUBSUB: &str = "events";
const SIZE: usize = 1024;
/// Publishes under way.
const PUBLISHERS: usize = 32;
/// Events between the subscriber and what counts them.
const QUEUE: usize = 1 << 16;
/// Partitions of a topic in Kafka.
const PARTITIONS: u32 = 8;
/// Events that Redis hands over at once, and that are handled at once.
const BATCH: usize = 100;
/// About how many events Redis keeps, which holds them in memory.
const KEPT: usize = 100_000;
/// Longest wait for the last events.
const PATIENCE: Duration = Duration::from_secs(10);

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What one round saw.
struct Flow {
    /// Events received in a second.
    rate: f64,
    /// Microseconds that 99 of 100 keep, from the begin of the publish to the subscriber.
    p99: f64,
    /// Published, acknowledged and not received.
    lost: u64,
}

/// An event received: its number, and how long it took.
type Received = (u64, Duration);

#[derive(Clone)]
enum Publisher {
    Sidecar(RuntimeClient<Channel>),
    Kafka(FutureProducer),
    Redis(MultiplexedConnection),
}

impl Publisher {
    async fn publish(&mut self, topic: &str, payload: String) -> Result<()> {
        match self {
            Self::Sidecar(client) => {
                let request = PublishEventRequest {
                    pubsub_name: PUBSUB.to_owned(),
                    topic: topic.to_owned(),
                    data: Bytes::from(payload),
                    data_content_type: "text/plain".to_owned(),
                    ..PublishEventRequest::default()
                };
                client.publish_event(request).await?;
            }
            Self::Kafka(producer) => {
                let record = FutureRecord::<(), _>::to(topic).payload(&payload);
                producer
                    .send(record, PATIENCE)
                    .await
                    .map_err(|(error, _)| error)?;
            }
            Self::Redis(connection) => {
                let length = redis::streams::StreamMaxlen::Approx(KEPT);
                let _id: String = connection
                    .xadd_maxlen(topic, length, "*", &[("data", payload)])
                    .await?;
            }
        }
        Ok(())
    }
}

/// The number of an event and the time of its publish, filled up to [`SIZE`] bytes.
fn payload(number: u64) -> String {
    let head = format!("{number} {} ", EPOCH.elapsed().as_nanos());
    let filler = "x".repeat(SIZE.saturating_sub(head.len()));
    head + &filler
}

fn received(payload: &[u8]) -> Result<Received> {
    let text = std::str::from_utf8(payload)?;
    let mut fields = text.split(' ');
    let mut field = || {
        fields
            .next()
            .context("not an event of ours")?
            .parse::<u64>()
            .map_err(anyhow::Error::from)
    };
    let number = field()?;
    let begun = Duration::from_nanos(field()?);
    Ok((number, EPOCH.elapsed().saturating_sub(begun)))
}

/// Publishes for a round; `events` is what the subscriber hears.
async fn round(
    publisher: &Publisher,
    topic: &str,
    events: &mut mpsc::Receiver<Received>,
    time: Duration,
) -> Result<Flow> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let (begun, first) = (Instant::now(), NUMBER.load(Ordering::Relaxed));
    let mut publishers = JoinSet::new();
    let topic: Arc<str> = topic.into();
    for _ in 0..PUBLISHERS {
        let (mut publisher, topic) = (publisher.clone(), topic.clone());
        publishers.spawn(async move {
            let mut numbers = Vec::new();
            while begun.elapsed() < time {
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                publisher.publish(&topic, payload(number)).await?;
                numbers.push(number);
            }
            anyhow::Ok(numbers)
        });
    }
    let mut latencies = Vec::new();
    let mut seen = HashSet::new();
    let mut last = begun;
    let mut missing: Option<HashSet<u64>> = None;
    let mut published = 0;
    loop {
        if missing.as_ref().is_some_and(HashSet::is_empty) {
            break;
        }
        tokio::select! {
            event = events.recv() => {
                let (number, latency) = event.context("the subscriber ended")?;
                last = Instant::now();
                // Again: at least once is what is promised.
                if seen.insert(number) {
                    latencies.push(latency);
                }
                if let Some(missing) = &mut missing {
                    missing.remove(&number);
                }
            }
            Some(numbers) = publishers.join_next() => {
                let numbers = numbers??;
                published += numbers.len();
                if publishers.is_empty() {
                    let numbers = first..NUMBER.load(Ordering::Relaxed);
                    missing = Some(numbers.filter(|number| !seen.contains(number)).collect());
                }
            }
            () = tokio::time::sleep(PATIENCE) => break,
        }
    }
    latencies.sort_unstable();
    ensure!(!latencies.is_empty(), "no event was received");
    Ok(Flow {
        rate: latencies.len() as f64 / (last - begun).as_secs_f64(),
        p99: percentile(&latencies, 0.99).as_secs_f64() * 1e6,
        lost: (published as u64).saturating_sub(latencies.len() as u64),
    })
}

/// Rounds of both ways in turns, as rows.
async fn rows(
    options: &Options,
    product: &str,
    ours: (Publisher, mpsc::Receiver<Received>),
    bare: (Publisher, mpsc::Receiver<Received>),
) -> Result<Vec<Row>> {
    let ((our_publisher, mut our_events), (bare_publisher, mut bare_events)) = (ours, bare);
    let (mut rates, mut latencies, mut lost) = (Vec::new(), Vec::new(), 0);
    // The first round warms up.
    for number in 0..=options.rounds {
        let time = options.counted().mul_f64(if number == 0 { 0.25 } else { 1.0 });
        let bare = round(&bare_publisher, "bench-bare", &mut bare_events, time).await?;
        let ours = round(&our_publisher, "bench", &mut our_events, time).await?;
        lost += ours.lost;
        if number > 0 {
            rates.push((ours.rate, bare.rate));
            latencies.push((ours.p99, bare.p99));
        }
    }
    let name =
        |figure: &str| format!("events over {product}, 1 KB, {PUBLISHERS} publishes under way: {figure}");
    let (ours, bare, ratio) = medians(&rates);
    let rate = Row {
        name: name("rate"),
        value: format!("{:.1} k/s", ours / 1e3),
        floor: format!("{:.1} k/s, client alone", bare / 1e3),
        judged: ratio,
        target: 0.8,
        at_least: true,
        unit: "× client",
    };
    let (ours, bare, ratio) = medians(&latencies);
    let latency = Row {
        name: name("p99"),
        value: format!("{:.2} ms", ours / 1e3),
        floor: format!("{:.2} ms, client alone", bare / 1e3),
        judged: ratio,
        target: 1.5,
        at_least: false,
        unit: "× client",
    };
    let lost = Row {
        name: name("lost"),
        value: lost.to_string(),
        floor: String::new(),
        judged: lost as f64,
        target: 0.0,
        at_least: false,
        unit: "events",
    };
    Ok(vec![rate, latency, lost])
}

/// Over Kafka. The events of one partition wait for one another.
pub async fn kafka(options: &Options) -> Result<Vec<Row>> {
    if !options.wants("events over Kafka") {
        return Ok(Vec::new());
    }
    eprintln!("events over Kafka …");
    let kafka = server::kafka::start(PARTITIONS).await?;
    let brokers = kafka.address().to_string();
    let metadata = json!({"brokers": brokers, "consumerID": "bench", "authRequired": "false", "initialOffset": "oldest"});
    let (sidecar, ours) = through_sidecar(options, "kafka", metadata).await?;
    let publisher: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("enable.idempotence", "true")
        .create()?;
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("group.id", "bench-bare")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "true")
        .set("enable.auto.offset.store", "false")
        .set("allow.auto.create.topics", "true")
        .create()?;
    consumer.subscribe(&["bench-bare"])?;
    let (sender, events) = mpsc::channel(QUEUE);
    tokio::spawn(read(consumer, sender));
    let rows = rows(options, "Kafka", ours, (Publisher::Kafka(publisher), events)).await;
    drop(sidecar);
    rows
}

/// Hands on what a consumer gets, until that fails.
async fn read(consumer: StreamConsumer, sender: Sender<Received>) -> Result<Infallible> {
    loop {
        // The topic may not be there yet.
        let Ok(message) = consumer.recv().await else {
            continue;
        };
        let event = received(message.payload().context("no payload")?)?;
        sender.send(event).await?;
        consumer.store_offset_from_message(&message)?;
    }
}

/// Over a stream of Redis.
pub async fn redis(options: &Options) -> Result<Vec<Row>> {
    if !options.wants("events over Redis") {
        return Ok(Vec::new());
    }
    eprintln!("events over Redis …");
    let redis = server::redis::start(&[]).await?;
    let host = redis.address().to_string();
    let metadata =
        json!({"redisHost": host, "consumerID": "bench", "maxLenApprox": KEPT, "concurrency": BATCH});
    let (sidecar, ours) = through_sidecar(options, "redis", metadata).await?;
    let client = redis::Client::open(format!("redis://{host}"))?;
    // The server waits for longer than the client does of itself.
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let mut reader = client
        .get_multiplexed_async_connection_with_config(&patient)
        .await?;
    let _made: String = reader.xgroup_create_mkstream("bench-bare", "bench", "0").await?;
    let (sender, events) = mpsc::channel(QUEUE);
    tokio::spawn(read_stream(reader, sender));
    let publisher = client.get_multiplexed_async_connection().await?;
    let rows = rows(options, "Redis", ours, (Publisher::Redis(publisher), events)).await;
    drop(sidecar);
    rows
}

/// Hands on what a consumer of a group gets, and acknowledges it, until that fails.
async fn read_stream(mut connection: MultiplexedConnection, sender: Sender<Received>) -> Result<Infallible> {
    let options = StreamReadOptions::default()
        .group("bench", "bench")
        .count(BATCH)
        .block(1000);
    loop {
        let reply: Option<StreamReadReply> = connection
            .xread_options(&["bench-bare"], &[">"], &options)
            .await?;
        let entries = reply
            .into_iter()
            .flat_map(|reply| reply.keys)
            .flat_map(|key| key.ids);
        let mut ids = Vec::new();
        for entry in entries {
            let payload: Vec<u8> = entry.get("data").context("no payload")?;
            sender.send(received(&payload)?).await?;
            ids.push(entry.id);
        }
        if !ids.is_empty() {
            let _acknowledged: usize = connection.xack("bench-bare", "bench", &ids).await?;
        }
    }
}

/// A sidecar with this broker, a publisher, and what a subscription hears.
async fn through_sidecar(
    options: &Options,
    type_name: &str,
    metadata: serde_json::Value,
) -> Result<(Sidecar, (Publisher, mpsc::Receiver<Received>))> {
    let components = json!({"pub_subs": {PUBSUB: {"type": type_name, "metadata": metadata}}});
    let sidecar = Sidecar::start(&options.binary, components).await?;
    let client = load::connect(&sidecar.server.address).await?;
    let (sender, events) = mpsc::channel(QUEUE);
    subscribe(client.clone(), sender).await?;
    Ok((sidecar, (Publisher::Sidecar(client), events)))
}

async fn subscribe(mut client: RuntimeClient<Channel>, sender: Sender<Received>) -> Result<()> {
    let begun = Instant::now();
    let (said, mut heard) = loop {
        match open(&mut client).await {
            Ok(open) => break open,
            Err(error) => ensure!(begun.elapsed() < PATIENCE, "subscribing: {error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    tokio::spawn(async move {
        while let Some(message) = heard.message().await? {
            let Some(Heard::EventMessage(event)) = message.subscribe_topic_events_response_type else {
                continue;
            };
            sender.send(received(&event.data)?).await?;
            said.send(saying(Said::EventProcessed(
                SubscribeTopicEventsRequestProcessed {
                    id: event.id,
                    status: None,
                },
            )))
            .await?;
        }
        anyhow::Ok(())
    });
    Ok(())
}

type Open = (
    Sender<SubscribeTopicEventsRequest>,
    tonic::Streaming<layotto_proto::runtime::v1::SubscribeTopicEventsResponse>,
);

/// Opens a subscription and waits for its confirmation.
async fn open(client: &mut RuntimeClient<Channel>) -> Result<Open> {
    let (said, requests) = mpsc::channel(QUEUE);
    said.send(saying(Said::InitialRequest(SubscribeTopicEventsRequestInitial {
        pubsub_name: PUBSUB.to_owned(),
        topic: "bench".to_owned(),
        ..SubscribeTopicEventsRequestInitial::default()
    })))
    .await?;
    let requests = ReceiverStream::new(requests);
    let mut heard = client.subscribe_topic_events(requests).await?.into_inner();
    heard.message().await?.context("the subscription ended")?;
    Ok((said, heard))
}

fn saying(said: Said) -> SubscribeTopicEventsRequest {
    SubscribeTopicEventsRequest {
        subscribe_topic_events_request_type: Some(said),
    }
}
