//! The application's `AppCallback` service: which topics it wants, and their events.
//!
//! The application may start after the sidecar, go and come back: each time the channel to it is
//! up, it is asked anew for its subscriptions, and deliveries wait while it is away.

mod deliver;
mod link;
mod probe;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use layotto_core::{
    health::{Health, Required},
    pubsub::Subscribe,
};
use layotto_proto::runtime::v1::TopicSubscription;
use tonic::{Code, Request, Status};

pub use self::probe::{HealthProbe, ProbeKind};
use self::{
    deliver::Delivery,
    link::{Address, Backoff, Connection, Link},
};
use crate::{
    Runtime,
    ops::pubsub::{self, Listed, Live, Mode, Subscriptions},
};

/// Longest time for the application to list its subscriptions.
const LIST: Duration = Duration::from_secs(5);
/// How soon a subscription follows its component when that is opened, or opened anew.
const REFRESH: Duration = Duration::from_secs(1);

/// Where the application is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppConfig {
    /// `grpc_callback_host`; `127.0.0.1` if empty.
    pub host: String,
    /// `grpc_callback_port`; 0 for an application without callbacks.
    pub port: u16,
    /// Whether and how its health is watched.
    pub health_probe: Option<HealthProbe>,
}

/// The sidecar's side of the callback channel; runs in the runtime's tasks until shutdown.
pub struct Callback {
    subscriptions: Subscriptions,
    link: Option<Arc<Link>>,
}

impl Callback {
    /// Starts connecting to `app`; does nothing where it has no port. With a probe, `health` shows
    /// the application as `app`.
    pub fn start(runtime: Arc<Runtime>, app: AppConfig, health: &Health) -> Self {
        let subscriptions = runtime.subscriptions.clone();
        if app.port == 0 {
            return Self {
                subscriptions,
                link: None,
            };
        }
        let address = Address::new(&app.host, app.port);
        let link = Arc::new(Link::new(runtime.shutdown.clone(), app.health_probe.is_none()));
        if let Some(config) = app.health_probe {
            let indicator = health.indicator("app", Required::Always);
            runtime
                .tasks
                .spawn(probe::run(config, address.clone(), Arc::clone(&link), indicator));
        }
        let callback = Self {
            subscriptions,
            link: Some(Arc::clone(&link)),
        };
        let tasks = runtime.tasks.clone();
        tasks.spawn(
            Session {
                runtime,
                address,
                link,
                wanted: BTreeMap::new(),
            }
            .run(),
        );
        callback
    }

    /// Whether there is a connection to the application now.
    pub fn is_connected(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.current().is_some())
    }

    /// Every topic the application gets, by callback or by stream, sorted.
    pub fn subscriptions(&self) -> Vec<Listed> {
        self.subscriptions.list()
    }
}

type Key = (String, String);

/// A subscription of the application.
struct Wanted {
    asked: TopicSubscription,
    live: Live,
    /// The last failure to subscribe, which is not logged twice.
    failure: String,
}

/// The task that keeps the channel and the subscriptions.
struct Session {
    runtime: Arc<Runtime>,
    address: Address,
    link: Arc<Link>,
    wanted: BTreeMap<Key, Wanted>,
}

impl Session {
    /// Runs until shutdown. Dropping the subscriptions then stops new deliveries; those under way
    /// have the drain time.
    async fn run(mut self) {
        let shutdown = self.runtime.shutdown.clone();
        shutdown.run_until_cancelled(self.keep_connected()).await;
        self.link.set(None);
    }

    async fn keep_connected(&mut self) {
        let mut backoff = Backoff::default();
        let mut is_known_away = false;
        loop {
            match link::connect(&self.address).await {
                Ok(connection) => {
                    tracing::info!(target: "layotto::api", address = %self.address, "connected to the application");
                    is_known_away = false;
                    // An application that only accepts connections is not back yet.
                    if self.serve(connection).await {
                        backoff = Backoff::default();
                    }
                    tracing::warn!(target: "layotto::api", address = %self.address, "lost the application");
                }
                Err(error) if !is_known_away => {
                    is_known_away = true;
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(target: "layotto::api", address = %self.address, error, "application not reachable");
                }
                Err(_) => {}
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Serves one connection until it is lost. Returns whether the application listed its
    /// subscriptions on it.
    async fn serve(&mut self, connection: Connection) -> bool {
        self.link.set(Some(connection.clone()));
        let lost = connection.lost.clone();
        let mut is_listed = false;
        lost.run_until_cancelled(self.ask_and_refresh(&connection, &mut is_listed))
            .await;
        self.link.set(None);
        is_listed
    }

    async fn ask_and_refresh(&mut self, connection: &Connection, is_listed: &mut bool) {
        let mut backoff = Backoff::default();
        loop {
            if !*is_listed {
                match list(connection).await {
                    Ok(asked) => {
                        *is_listed = true;
                        self.reconcile(asked);
                    }
                    Err(status) => tracing::warn!(
                        target: "layotto::api", code = ?status.code(), message = status.message(),
                        "the application does not list its subscriptions"
                    ),
                }
            }
            self.refresh().await;
            tokio::time::sleep(if *is_listed { REFRESH } else { backoff.next() }).await;
        }
    }

    /// Takes over the subscriptions `asked` for; those unchanged stay as they are.
    fn reconcile(&mut self, asked: Vec<TopicSubscription>) {
        let mut wanted = BTreeMap::new();
        for asked in asked {
            let key = (asked.pubsub_name.clone(), asked.topic.clone());
            // If a topic is listed twice, the last entry counts.
            wanted.insert(key, asked);
        }
        self.wanted
            .retain(|key, known| wanted.get(key) == Some(&known.asked));
        for (key, asked) in wanted {
            if self.wanted.contains_key(&key) {
                continue;
            }
            if let Some(live) = self.live(&asked) {
                self.wanted.insert(
                    key,
                    Wanted {
                        asked,
                        live,
                        failure: String::new(),
                    },
                );
            }
        }
    }

    fn live(&self, asked: &TopicSubscription) -> Option<Live> {
        let TopicSubscription {
            pubsub_name,
            topic,
            metadata,
        } = asked;
        let Some(slot) = self.runtime.components.pubsub.get(pubsub_name) else {
            tracing::warn!(target: "layotto::api", pubsub = pubsub_name, topic, "subscription to an unknown pubsub ignored");
            return None;
        };
        let raw = pubsub::is_raw(metadata);
        let handler = Arc::new(Delivery::new(Arc::clone(&self.link), pubsub_name.clone(), raw));
        let wish = Subscribe {
            topic: topic.clone(),
            group: String::new(),
            dead_letter_topic: pubsub::dead_letter_topic(metadata),
            metadata: metadata.clone(),
            handler,
        };
        Some(Live::new(
            Arc::clone(slot),
            wish,
            Mode::Callback,
            self.runtime.subscriptions.clone(),
        ))
    }

    /// Makes the subscriptions that are not there yet, all at once.
    async fn refresh(&mut self) {
        futures::future::join_all(self.wanted.values_mut().map(Wanted::refresh)).await;
    }
}

impl Wanted {
    async fn refresh(&mut self) {
        let begun = Instant::now();
        let failure = self
            .live
            .refresh()
            .await
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        if failure != self.failure {
            let TopicSubscription {
                pubsub_name, topic, ..
            } = &self.asked;
            if failure.is_empty() {
                tracing::info!(target: "layotto::api", pubsub = pubsub_name, topic, took = ?begun.elapsed(), "subscribed");
            } else {
                tracing::warn!(target: "layotto::api", pubsub = pubsub_name, topic, error = failure, "cannot subscribe, trying again");
            }
            self.failure = failure;
        }
    }
}

/// The application's subscriptions; none where it does not have the method.
async fn list(connection: &Connection) -> Result<Vec<TopicSubscription>, Status> {
    let mut request = Request::new(());
    request.set_timeout(LIST);
    match tokio::time::timeout(LIST, connection.client.clone().list_topic_subscriptions(request)).await {
        Ok(Ok(response)) => Ok(response.into_inner().subscriptions),
        Ok(Err(status)) if status.code() == Code::Unimplemented => Ok(Vec::new()),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}
