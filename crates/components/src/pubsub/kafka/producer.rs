//! Publishing: one client for all components with the same settings, made when it is first needed.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use layotto_core::{Context, Error, ErrorKind, Result};
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig, future_producer::Delivery},
};
use tokio::runtime::Handle;

use crate::client::kafka::{Connection, Reach, Told, create, failure, unusable};

/// How long the library tries to get a message to the broker: callers have deadlines of their own.
const TIMEOUT_MS: &str = "30000";
/// How long the library waits for a topic to appear that it just asked for.
const NEW_TOPIC_MS: &str = "10000";

/// A client of the library, which waits for its threads to end when it is dropped.
struct Client(Option<FutureProducer<Told>>);

impl Deref for Client {
    type Target = FutureProducer<Told>;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("invariant: there until it is dropped")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let client = self.0.take();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(client));
        }
    }
}

/// What is to be kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bytes of one message.
    pub(super) message: usize,
    /// Bytes of all that wait to be sent.
    pub(super) queue: usize,
}

/// A record to send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) topic: &'a str,
    pub(super) key: Option<&'a [u8]>,
    pub(super) data: &'a [u8],
}

/// Where a record of a topic is: what users know a message by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl fmt::Display for Position<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

/// Publishes to Kafka.
pub(super) struct Producer {
    config: ClientConfig,
    told: Told,
    // A login that is refused, and errors after which the library gives up, end a client.
    client: Mutex<Option<Arc<Client>>>,
}

impl Producer {
    /// A producer that has no client yet.
    pub(super) fn new(connection: &Connection, limits: Limits, cx: &Context) -> Result<Self> {
        let mut config = connection.config(cx)?;
        let kib = |bytes: usize| bytes.div_ceil(1024).max(1).to_string();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.max.bytes", limits.message.to_string())
            .set("queue.buffering.max.kbytes", kib(limits.queue))
            .set("message.timeout.ms", TIMEOUT_MS)
            .set("topic.metadata.propagation.max.ms", NEW_TOPIC_MS)
            // Callers wait: what is there goes at once, what comes meanwhile goes together.
            .set("linger.ms", "0")
            // Records without a key are spread one by one.
            .set("sticky.partitioning.linger.ms", "0");
        config.create_native_config().map_err(unusable)?;
        Ok(Self {
            config,
            told: Told {
                component: cx.name.clone(),
                reach: Reach::new(connection, cx),
            },
            client: Mutex::default(),
        })
    }

    pub(super) fn told(&self) -> &Told {
        &self.told
    }

    pub(super) fn reach(&self) -> &Arc<Reach> {
        &self.told.reach
    }

    /// Sends a record; done when all in-sync replicas have it. Returns its id.
    pub(super) async fn send(&self, record: Record<'_>) -> Result<String> {
        let failed = |error| failure::of("the event was not published", error);
        self.reach().check()?;
        let client = self.client()?;
        let mut message = FutureRecord::<[u8], [u8]>::to(record.topic).payload(record.data);
        message.key = record.key;
        let delivery = client
            .send_result(message)
            .map_err(|(error, _)| self.refusal(error))?;
        let outcome = tokio::select! {
            outcome = delivery => outcome,
            error = self.reach().lost() => {
                self.give_up(&error);
                return Err(error);
            }
        };
        match outcome {
            Ok(Ok(Delivery {
                partition, offset, ..
            })) => Ok(Position {
                topic: record.topic,
                partition,
                offset,
            }
            .to_string()),
            Ok(Err((error, _))) => {
                if client.client().fatal_error().is_some() {
                    self.forget();
                }
                Err(failed(error))
            }
            Err(gone) => {
                Err(Error::unavailable("the event was not published: its client ended").with_source(gone))
            }
        }
    }

    fn refusal(&self, error: KafkaError) -> Error {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Error::new(
                ErrorKind::ResourceExhausted,
                "as many events as may wait for Kafka, wait for it",
            ),
            Some(RDKafkaErrorCode::Fatal) => {
                self.forget();
                Error::unavailable("the event was not published: the client starts anew").with_source(error)
            }
            _ => failure::of("the event was not published", error),
        }
    }

    /// Nothing is sent any more that waits: its senders are told that it was not.
    fn give_up(&self, error: &Error) {
        if error.kind() == ErrorKind::Unauthenticated {
            return self.forget();
        }
        if let Some(client) = &*self.hold() {
            client.purge(PurgeConfig::default().queue());
        }
    }

    /// The next message gets a new client.
    fn forget(&self) {
        self.hold().take();
    }

    fn client(&self) -> Result<Arc<Client>> {
        let mut client = self.hold();
        if let Some(client) = &*client {
            return Ok(Arc::clone(client));
        }
        let new = Arc::new(Client(Some(create(&self.config, self.told.clone())?)));
        Ok(Arc::clone(client.insert(new)))
    }

    /// Whether there is a client, and so its threads.
    #[cfg(test)]
    pub(super) fn has_client(&self) -> bool {
        self.hold().is_some()
    }

    fn hold(&self) -> MutexGuard<'_, Option<Arc<Client>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
