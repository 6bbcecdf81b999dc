//! The connection to Kafka: how clients of librdkafka are configured, what becomes of their errors
//! and logs, and whether there is a broker at all.

use std::sync::Arc;

use layotto_core::{Context, Error, Result, Secret};
use rdkafka::{
    ClientConfig, ClientContext,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::{KafkaError, RDKafkaErrorCode},
};

pub(crate) use self::reach::Reach;

pub(crate) mod failure;
mod reach;

/// Longest wait of a client between two tries to connect.
const RECONNECT_MS: &str = "400";
/// How long a connection may take to be set up.
const SETUP_MS: &str = "5000";
/// How long a broker may take to answer a request; it bounds how long a client takes to end.
const ANSWER_MS: &str = "10000";

/// Where the brokers are, and what they want to see.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection {
    pub(crate) brokers: Vec<String>,
    pub(crate) client_id: String,
    /// User and password of SASL/PLAIN.
    pub(crate) login: Option<(String, Secret)>,
    pub(crate) tls: Option<Tls>,
}

/// TLS towards the brokers; the values are PEM texts or names of files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tls {
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: Secret,
    pub(crate) skip_verify: bool,
}

impl Connection {
    /// What distinguishes clients that cannot be shared.
    pub(crate) fn identity(&self) -> String {
        let login = self
            .login
            .as_ref()
            .map(|(user, password)| (user, password.expose()));
        let tls = self
            .tls
            .as_ref()
            .map(|tls| (&tls.ca, &tls.certificate, tls.key.expose(), tls.skip_verify));
        let shown = format!("{:?}", (&self.brokers, &self.client_id, login, tls));
        // Not the text itself, which holds the password.
        let digest = ring::digest::digest(&ring::digest::SHA256, shown.as_bytes());
        format!("{digest:?}")
    }

    /// The settings that all clients of the connection have in common.
    pub(crate) fn config(&self, cx: &Context) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config
            .set_log_level(RDKafkaLogLevel::Info)
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", &self.client_id)
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", RECONNECT_MS)
            .set("socket.timeout.ms", ANSWER_MS)
            .set("socket.connection.setup.timeout.ms", SETUP_MS)
            .set("socket.keepalive.enable", "true");
        let protocol = match (&self.login, &self.tls) {
            (None, None) => "plaintext",
            (Some(_), None) => "sasl_plaintext",
            (None, Some(_)) => "ssl",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some((user, password)) = &self.login {
            config.set("sasl.mechanism", "PLAIN");
            config.set("sasl.username", user);
            config.set("sasl.password", password.expose());
        }
        if let Some(tls) = &self.tls {
            tls.configure(&mut config, cx)?;
        }
        // Nothing is connected, no thread is started: values are looked at.
        config.create_native_config().map_err(unusable)?;
        Ok(config)
    }
}

impl Tls {
    #[cfg(not(feature = "kafka-tls"))]
    fn configure(&self, _: &mut ClientConfig, _: &Context) -> Result<()> {
        Err(Error::invalid(
            "this build has no TLS for Kafka: build it with `--features kafka-tls`, which needs the \
             headers of OpenSSL",
        ))
    }

    #[cfg(feature = "kafka-tls")]
    fn configure(&self, config: &mut ClientConfig, cx: &Context) -> Result<()> {
        for (name, key, value) in [
            ("ssl.ca.pem", "caCert", self.ca.as_str()),
            ("ssl.certificate.pem", "clientCert", self.certificate.as_str()),
            ("ssl.key.pem", "clientKey", self.key.expose()),
        ] {
            if let Some(pem) = super::tls::Pem::locate(value, cx) {
                config.set(name, pem.read(key)?);
            }
        }
        if self.skip_verify {
            tracing::warn!(
                component = cx.name,
                "certificates of Kafka brokers are not verified"
            );
            config.set("enable.ssl.certificate.verification", "false");
        }
        Ok(())
    }
}

/// What is wrong with a client's settings; its values may be secrets, and are not told.
pub(crate) fn unusable(error: KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, reason, key, _) => {
            Error::invalid(format!("Kafka does not take {key}: {reason}"))
        }
        other => Error::invalid("the settings of the Kafka client do not fit together").with_source(other),
    }
}

/// What a client of librdkafka tells outside of its calls.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) component: String,
    pub(crate) reach: Arc<Reach>,
}

impl ClientContext for Told {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let component = &self.component;
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "layotto::kafka", component, facility, "{message}");
            }
            // A broker that is away is an error to the library, and a state to the component.
            RDKafkaLogLevel::Error => {
                tracing::warn!(target: "layotto::kafka", component, facility, "{message}");
            }
            RDKafkaLogLevel::Warning => {
                tracing::info!(target: "layotto::kafka", component, facility, "{message}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(target: "layotto::kafka", component, facility, "{message}");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "layotto::kafka", component = self.component, %error, "{reason}");
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
                self.reach.refused();
            }
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut,
            ) => self.reach.suspect(),
            _ => {}
        }
    }
}

/// Makes a client.
pub(crate) fn create<C: ClientContext, T: FromClientConfigAndContext<C>>(
    config: &ClientConfig,
    context: C,
) -> Result<T> {
    config.create_with_context(context).map_err(unusable)
}
