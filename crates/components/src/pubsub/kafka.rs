//! A broker in Kafka: an event is a record of a topic, a subscription a seat in a consumer group.

use std::sync::Arc;

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Error, Open, Result, Secret,
    pubsub::{Features, PubSub, Publish, Subscribe, Subscription},
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::{
    groups::Groups,
    producer::{Producer, Record},
};
use super::{
    delivery::Seeking,
    policy::{Policy, broker_config, first_filled},
};
use crate::client::kafka::{Connection, Tls};

mod consumer;
mod groups;
mod member;
mod offsets;
mod part;
mod producer;
mod source;
#[cfg(test)]
mod tests;

/// Where a group begins that has no offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum InitialOffset {
    /// With the events published from now on.
    #[default]
    Newest,
    /// With the oldest event that the topic still has.
    Oldest,
}

broker_config! {
    /// A broker in Kafka. An event is safe once all in-sync replicas of its partition have it. The
    /// events of one partition are delivered in order and one at a time, those of different
    /// partitions at once; an event that fails holds up its partition until it is done or given up.
    {
        /// Addresses of brokers, `host:port`; one that answers is enough. Required.
        brokers: Vec<String> = Vec::new(),
        /// The consumer group of subscriptions that name none; goes before `consumerID`.
        consumer_group: String = String::new(),
        /// The name under which brokers know this client. Default `layotto`.
        #[serde(rename = "clientID")]
        client_id: String = "layotto".to_owned(),
        /// Whether to log in, by SASL/PLAIN. Default false.
        auth_required: bool = false,
        /// The user to log in as.
        sasl_username: String = String::new(),
        /// The user's password.
        sasl_password: Secret = Secret::default(),
        /// Where a consumer group begins that has no offsets yet: `newest`, with the events published
        /// from its first subscription on; `oldest`, with all that the topic has. Default `newest`.
        initial_offset: InitialOffset = InitialOffset::Newest,
        /// The largest event that may be published, in bytes; the topic has a limit of its own.
        /// Default 4194304 (4 MiB).
        max_message_bytes: usize = 4 << 20,
        /// Bytes of events that may wait to be sent; publishing more is refused as
        /// RESOURCE_EXHAUSTED. Default 8388608 (8 MiB).
        max_queued_bytes: usize = 8 << 20,
        /// Whether connections are encrypted, by a certificate that the system trusts; the settings
        /// below turn it on, too. Needs a build with TLS for Kafka. Default false.
        #[serde(rename = "enableTLS")]
        enable_tls: bool = false,
        /// The certificates to trust instead of the system's: a PEM text or the name of a file.
        ca_cert: String = String::new(),
        /// The certificate to show to brokers: a PEM text or the name of a file.
        client_cert: String = String::new(),
        /// The key of `clientCert`: a PEM text or the name of a file.
        client_key: Secret = Secret::default(),
        /// Whether to take any certificate for the broker's, which lets anybody play the broker.
        /// Default false.
        skip_verify: bool = false,
        /// Read by upstream's client, and of no use here: the protocol's version is agreed upon with
        /// the brokers.
        version: String = String::new(),
        /// Read by upstream's client, and of no use here: lost connections come back at most a second
        /// after they can.
        consume_retry_interval: layotto_core::GoDuration = layotto_core::GoDuration::from_millis(100),
    }
}

impl Config {
    fn connection(&self) -> Result<Connection> {
        let brokers: Vec<String> = self
            .brokers
            .iter()
            .map(|broker| broker.trim().to_owned())
            .filter(|broker| !broker.is_empty())
            .collect();
        if brokers.is_empty() {
            return Err(Error::invalid("brokers names no broker"));
        }
        Ok(Connection {
            brokers,
            client_id: self.client_id.clone(),
            login: self.login()?,
            tls: self.tls()?,
        })
    }

    fn login(&self) -> Result<Option<(String, Secret)>> {
        if !self.auth_required {
            return Ok(None);
        }
        if self.sasl_username.is_empty() || self.sasl_password.expose().is_empty() {
            return Err(Error::invalid("authRequired needs saslUsername and saslPassword"));
        }
        Ok(Some((self.sasl_username.clone(), self.sasl_password.clone())))
    }

    fn tls(&self) -> Result<Option<Tls>> {
        let has_key = !self.client_key.expose().is_empty();
        if self.client_cert.is_empty() == has_key {
            return Err(Error::invalid("clientCert and clientKey go together"));
        }
        let wanted = self.enable_tls || self.skip_verify || has_key || !self.ca_cert.is_empty();
        Ok(wanted.then(|| Tls {
            ca: self.ca_cert.clone(),
            certificate: self.client_cert.clone(),
            key: self.client_key.clone(),
            skip_verify: self.skip_verify,
        }))
    }
}

/// A broker in Kafka.
pub struct Kafka {
    producer: Arc<Producer>,
    groups: Groups,
    policy: Policy,
}

impl Open for Kafka {
    const TYPE: &'static str = "kafka";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        let connection = config.connection()?;
        if connection.login.is_some() && connection.tls.is_none() {
            tracing::warn!(
                component = cx.name,
                "the password for Kafka is sent in clear text"
            );
        }
        let limits = producer::Limits {
            message: config.max_message_bytes,
            queue: config.max_queued_bytes,
        };
        let target = format!("{} {limits:?}", connection.identity());
        // Components with the same settings publish through one client.
        let producer = cx
            .shared
            .get_or_open(&target, async || Producer::new(&connection, limits, &cx))
            .await?;
        let policy = config.policy(&cx.app_id);
        let policy = Policy {
            group: first_filled([&config.consumer_group, &policy.group]),
            ..policy
        };
        let groups = Groups::new(
            connection.config(&cx)?,
            Arc::clone(&producer),
            config.initial_offset,
            cx,
        );
        Ok(Self {
            producer,
            groups,
            policy,
        })
    }
}

#[async_trait]
impl Component for Kafka {
    async fn ping(&self) -> Result<()> {
        self.producer.reach().ask().await
    }

    async fn close(&self) -> Result<()> {
        self.groups.close();
        Ok(())
    }
}

#[async_trait]
impl PubSub for Kafka {
    fn features(&self) -> Features {
        Features {
            message_ttl: false,
            delayed: false,
            durable: true,
            dead_letter: true,
        }
    }

    async fn publish(&self, message: Publish) -> Result<Option<String>> {
        let record = Record {
            topic: &message.topic,
            key: message.metadata.get("partitionKey").map(|key| key.as_bytes()),
            data: &message.data,
        };
        self.producer.send(record).await.map(Some)
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        let seeking = Seeking::new(subscribe, &self.policy)?;
        self.groups.subscribe(seeking).await
    }
}
