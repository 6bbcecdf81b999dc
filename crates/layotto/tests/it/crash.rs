//! Killed under load, again and again: nothing acknowledged is missing, no id and no token repeats.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use layotto_proto::runtime::v1::{
    ConfigurationItem, GetConfigurationRequest, GetNextIdRequest, GetStateRequest, PublishEventRequest,
    SaveConfigurationRequest, SaveStateRequest, SequencerOptions, StateItem, SubscribeTopicEventsRequest,
    SubscribeTopicEventsRequestInitial, SubscribeTopicEventsRequestProcessed, TryLockRequest, UnlockRequest,
    runtime_client::RuntimeClient, subscribe_topic_events_request::SubscribeTopicEventsRequestType,
    subscribe_topic_events_response::SubscribeTopicEventsResponseType,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::{
    lifecycle::client,
    sidecar::{PATIENCE, Sidecar, config, free_port, say},
};

/// Writers of each kind.
const WRITERS: usize = 4;

/// What was acknowledged so far.
#[derive(Default)]
struct Acknowledged {
    state: BTreeMap<String, Vec<u8>>,
    config: BTreeMap<String, String>,
    published: BTreeSet<String>,
    ids: BTreeSet<i64>,
    tokens: BTreeSet<u64>,
}

enum Ack {
    State(String, Vec<u8>),
    Config(String, String),
    Published(String),
    Id(i64),
    Token(u64),
}

impl Acknowledged {
    fn note(&mut self, ack: Ack) {
        match ack {
            Ack::State(key, value) => {
                self.state.insert(key, value);
            }
            Ack::Config(key, value) => {
                self.config.insert(key, value);
            }
            Ack::Published(text) => {
                self.published.insert(text);
            }
            Ack::Id(id) => assert!(self.ids.insert(id), "id {id} was handed out twice"),
            Ack::Token(token) => assert!(
                self.tokens.insert(token),
                "fencing token {token} was granted twice"
            ),
        }
    }
}

fn embedded() -> Value {
    let embedded = json!({"type": "embedded", "metadata": {}});
    json!({
        "app": {"app_id": "crash"},
        "state": {"s": embedded}, "lock": {"l": embedded}, "sequencer": {"q": embedded},
        "config_store": {"c": embedded}, "pub_subs": {"p": embedded},
    })
}

fn start(folder: &Path) -> (Sidecar, u16) {
    let port = free_port();
    let mut process = Sidecar::with_config(folder, &config(port, free_port(), &embedded()), &[]);
    assert!(process.wait_for_port(port), "{}", process.output());
    (process, port)
}

/// Writes until the process is gone.
async fn write(port: u16, round: usize, writer: usize, acks: mpsc::Sender<Ack>, stop: Arc<AtomicBool>) {
    let mut client = client(port).await;
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("{round}-{writer}-{number}");
        let Ok(made) = step(&mut client, number, &name).await else {
            return;
        };
        for ack in made {
            acks.send(ack).await.unwrap();
        }
    }
}

async fn step(
    client: &mut RuntimeClient<Channel>,
    number: usize,
    name: &str,
) -> Result<Vec<Ack>, tonic::Status> {
    Ok(match number % 5 {
        0 => {
            let value = name.as_bytes().to_vec();
            let item = StateItem {
                key: name.into(),
                value: value.clone().into(),
                ..StateItem::default()
            };
            client
                .save_state(SaveStateRequest {
                    store_name: "s".into(),
                    states: vec![item],
                })
                .await?;
            vec![Ack::State(name.into(), value)]
        }
        1 => {
            let item = ConfigurationItem {
                key: name.into(),
                content: name.into(),
                ..Default::default()
            };
            let request = SaveConfigurationRequest {
                store_name: "c".into(),
                app_id: "crash".into(),
                items: vec![item],
                ..Default::default()
            };
            client.save_configuration(request).await?;
            vec![Ack::Config(name.into(), name.into())]
        }
        2 => {
            let request = PublishEventRequest {
                pubsub_name: "p".into(),
                topic: "t".into(),
                data: name.as_bytes().to_vec().into(),
                data_content_type: "text/plain".into(),
                ..Default::default()
            };
            client.publish_event(request).await?;
            vec![Ack::Published(name.into())]
        }
        3 => {
            // STRONG and WEAK in turn: both draw on one counter.
            let options = SequencerOptions {
                increment: i32::from(number.is_multiple_of(2)),
            };
            let request = GetNextIdRequest {
                store_name: "q".into(),
                key: "k".into(),
                options: Some(options),
                ..Default::default()
            };
            vec![Ack::Id(client.get_next_id(request).await?.into_inner().next_id)]
        }
        _ => lock(client, name).await?,
    })
}

async fn lock(client: &mut RuntimeClient<Channel>, owner: &str) -> Result<Vec<Ack>, tonic::Status> {
    let request = TryLockRequest {
        store_name: "l".into(),
        resource_id: "r".into(),
        lock_owner: owner.into(),
        expire: 1,
    };
    let answer = client.try_lock(request).await?;
    let token = answer.metadata().get("layotto-fencing-token").cloned();
    if !answer.into_inner().success {
        return Ok(Vec::new());
    }
    let token = token
        .expect("a grant has a fencing token")
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let request = UnlockRequest {
        store_name: "l".into(),
        resource_id: "r".into(),
        lock_owner: owner.into(),
    };
    client.unlock(request).await?;
    Ok(vec![Ack::Token(token)])
}

async fn round(folder: &Path, round: usize, acknowledged: &mut Acknowledged) {
    let (process, port) = start(folder);
    let (sender, mut acks) = mpsc::channel(1024);
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(port, round, writer, sender.clone(), Arc::clone(&stop)));
    }
    drop(sender);
    // Killed in the middle of whatever goes on after so many acknowledgements.
    let enough = 150 + 37 * round;
    let mut seen = 0;
    while let Some(ack) = acks.recv().await {
        acknowledged.note(ack);
        seen += 1;
        if seen == enough {
            process.signal(Signal::KILL);
            stop.store(true, Ordering::Relaxed);
        }
    }
    assert!(
        seen >= enough,
        "the process ended by itself: {}",
        process.output()
    );
    while writers.join_next().await.is_some() {}
}

async fn verify(folder: &Path, acknowledged: &Acknowledged) {
    let (_process, port) = start(folder);
    let mut client = client(port).await;
    for (key, value) in &acknowledged.state {
        let request = GetStateRequest {
            store_name: "s".into(),
            key: key.clone(),
            ..Default::default()
        };
        let answer = client.get_state(request).await.unwrap().into_inner();
        assert_eq!(answer.data, value.as_slice(), "state {key} is missing");
    }
    let request = GetConfigurationRequest {
        store_name: "c".into(),
        app_id: "crash".into(),
        keys: acknowledged.config.keys().cloned().collect(),
        ..Default::default()
    };
    let items = client
        .get_configuration(request)
        .await
        .unwrap()
        .into_inner()
        .items;
    let stored: BTreeMap<_, _> = items.into_iter().map(|item| (item.key, item.content)).collect();
    assert_eq!(stored, acknowledged.config, "configuration is missing");
    received(&mut client, &acknowledged.published).await;
}

/// Receives until every event published was seen.
async fn received(client: &mut RuntimeClient<Channel>, published: &BTreeSet<String>) {
    let (sender, requests) = mpsc::channel(64);
    let initial = SubscribeTopicEventsRequestInitial {
        pubsub_name: "p".into(),
        topic: "t".into(),
        ..Default::default()
    };
    let wrap = |kind| SubscribeTopicEventsRequest {
        subscribe_topic_events_request_type: Some(kind),
    };
    sender
        .send(wrap(SubscribeTopicEventsRequestType::InitialRequest(initial)))
        .await
        .unwrap();
    let mut events = client
        .subscribe_topic_events(ReceiverStream::new(requests))
        .await
        .unwrap()
        .into_inner();
    let mut missing = published.clone();
    while !missing.is_empty() {
        let event = tokio::time::timeout(PATIENCE, events.message()).await;
        let event = event.unwrap_or_else(|_| panic!("{} events are missing: {missing:?}", missing.len()));
        let Some(SubscribeTopicEventsResponseType::EventMessage(event)) =
            event.unwrap().unwrap().subscribe_topic_events_response_type
        else {
            continue;
        };
        missing.remove(&String::from_utf8(event.data.to_vec()).unwrap());
        let processed = SubscribeTopicEventsRequestProcessed {
            id: event.id,
            status: None,
        };
        sender
            .send(wrap(SubscribeTopicEventsRequestType::EventProcessed(processed)))
            .await
            .unwrap();
    }
}

async fn kill_again_and_again(rounds: usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    for number in 0..rounds {
        round(folder.path(), number, &mut acknowledged).await;
    }
    verify(folder.path(), &acknowledged).await;
    say(format_args!(
        "killed {rounds} times: {} states, {} configurations, {} events, {} ids, {} fencing tokens acknowledged, all kept",
        acknowledged.state.len(),
        acknowledged.config.len(),
        acknowledged.published.len(),
        acknowledged.ids.len(),
        acknowledged.tokens.len(),
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_over_kills() {
    kill_again_and_again(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "soak: 20 kills"]
async fn nothing_acknowledged_is_lost_over_twenty_kills() {
    kill_again_and_again(20).await;
}
