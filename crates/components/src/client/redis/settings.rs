//! The settings of a connection, in the words of Layotto's components and of Dapr's.

use std::{fmt, time::Duration};

use layotto_core::{Context, Error, GoDuration, Result, Secret};
use redis::RedisConnectionInfo;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, de};

use super::tls::Tls;

const DEFAULT_PORT: &str = "6379";
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// Declares the settings of a component over Redis: its own, and those of the connection.
macro_rules! settings {
    ($(#[$about:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $crate::client::redis::settings::settings! {
            @hosts {
                /// The server as `host:port`; of a cluster or of sentinels some of them, with commas
                /// between. Without a port 6379.
                #[serde(alias = "redisHosts")]
                pub redis_host
            }
            required "redisHost";
            $(#[$about])*
            pub struct $name { $($own)* }
        }
    };
    (
        @hosts { $($hosts:tt)* } required $required:literal;
        $(#[$about:meta])*
        pub struct $name:ident { $($own:tt)* }
    ) => {
        $crate::client::redis::settings::settings! {
            @connection { $($hosts)* } required $required;
            unused {
                /// Has no effect: all servers are asked at once.
                concurrency: "concurrency",
            }
            $(#[$about])*
            pub struct $name { $($own)* }
        }
    };
    // A broker's: `concurrency` is a setting of its own.
    (@broker $(#[$about:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $crate::client::redis::settings::settings! {
            @connection {
                /// The server as `host:port`; of a cluster or of sentinels some of them, with commas
                /// between. Without a port 6379.
                #[serde(alias = "redisHosts")]
                pub redis_host
            }
            required "redisHost";
            unused {}
            $(#[$about])*
            pub struct $name { $($own)* }
        }
    };
    (
        @connection { $(#[$hosts_about:meta])* pub $hosts:ident } required $required:literal;
        unused { $($(#[$unused_about:meta])* $unused:ident: $unused_key:literal,)* }
        $(#[$about:meta])*
        pub struct $name:ident { $($own:tt)* }
    ) => {
        $crate::client::redis::settings::settings! {
            @declare required $required;
            $(#[$about])*
            pub struct $name {
                $(#[$hosts_about])*
                pub $hosts: Vec<String>,
                $($own)*
                /// The user of the access control list; without one the password is the server's.
                pub redis_username: String,
                /// The password; never logged.
                pub redis_password: layotto_core::Secret,
                /// The number of the database. Default 0.
                #[serde(rename = "redisDB", alias = "db")]
                pub redis_db: u16,
                /// `node` for one server, `cluster` for a Redis Cluster. Default `node`.
                pub redis_type: $crate::client::redis::settings::Kind,
                /// Asks sentinels, which `redisHost` lists, for the primary, and follows a failover.
                pub failover: bool,
                /// The name under which the sentinels watch the primary.
                pub sentinel_master_name: String,
                /// The user at the sentinels.
                pub sentinel_username: String,
                /// The password at the sentinels; never logged.
                pub sentinel_password: layotto_core::Secret,
                /// Connects with TLS and verifies the server's certificate.
                #[serde(rename = "enableTLS")]
                pub enable_tls: bool,
                /// The authorities whose certificates are accepted: PEM, or a file of it. Default:
                /// those of the system.
                pub ca_cert: String,
                /// The client's certificate: PEM, or a file of it.
                pub client_cert: String,
                /// The key of the client's certificate: PEM, or a file of it; never logged.
                pub client_key: layotto_core::Secret,
                /// The name in the server's certificate, where it is not the host's.
                pub tls_server_name: String,
                /// Accepts any certificate, so that anybody may listen in. For tests.
                pub tls_skip_verify: bool,
                /// The longest wait for a connection: milliseconds, or a text such as `5s`. Default `5s`.
                pub dial_timeout: $crate::client::redis::settings::Timeout,
                /// How long the server may owe an answer before the connection is given up; a negative
                /// number for ever. Milliseconds, or a text such as `3s`. Default `3s`.
                pub read_timeout: $crate::client::redis::settings::Timeout,
                /// Has no effect: `readTimeout` counts.
                pub write_timeout: $crate::client::redis::settings::Unused,
                /// Has no effect: a command that may have reached the server is never sent again.
                pub max_retries: $crate::client::redis::settings::Unused,
                /// Has no effect, as `maxRetries`.
                pub max_retry_backoff: $crate::client::redis::settings::Unused,
                /// Has no effect, as `maxRetries`.
                pub redis_max_retries: $crate::client::redis::settings::Unused,
                /// Has no effect, as `maxRetries`.
                pub redis_min_retry_interval: $crate::client::redis::settings::Unused,
                /// Has no effect, as `maxRetries`.
                pub redis_max_retry_interval: $crate::client::redis::settings::Unused,
                $($(#[$unused_about])* pub $unused: $crate::client::redis::settings::Unused,)*
                /// Has no effect: all calls share one connection.
                pub pool_size: $crate::client::redis::settings::Unused,
                /// Has no effect, as `poolSize`.
                pub pool_timeout: $crate::client::redis::settings::Unused,
                /// Has no effect, as `poolSize`.
                pub min_idle_conns: $crate::client::redis::settings::Unused,
                /// Has no effect, as `poolSize`.
                pub max_conn_age: $crate::client::redis::settings::Unused,
                /// Has no effect, as `poolSize`.
                pub idle_timeout: $crate::client::redis::settings::Unused,
                /// Has no effect, as `poolSize`.
                pub idle_check_frequency: $crate::client::redis::settings::Unused,
            }
        }

        impl $name {
            /// What is said of the connection; warns of what has no effect, and of what is unsafe.
            fn given(&self, cx: &layotto_core::Context) -> $crate::client::redis::settings::Given<'_> {
                let unused = [
                    ("writeTimeout", self.write_timeout),
                    ("maxRetries", self.max_retries),
                    ("maxRetryBackoff", self.max_retry_backoff),
                    ("redisMaxRetries", self.redis_max_retries),
                    ("redisMinRetryInterval", self.redis_min_retry_interval),
                    ("redisMaxRetryInterval", self.redis_max_retry_interval),
                    $(($unused_key, self.$unused),)*
                    ("poolSize", self.pool_size),
                    ("poolTimeout", self.pool_timeout),
                    ("minIdleConns", self.min_idle_conns),
                    ("maxConnAge", self.max_conn_age),
                    ("idleTimeout", self.idle_timeout),
                    ("idleCheckFrequency", self.idle_check_frequency),
                ];
                let given = $crate::client::redis::settings::Given {
                    hosts: &self.$hosts,
                    user: &self.redis_username,
                    password: &self.redis_password,
                    db: self.redis_db,
                    kind: self.redis_type,
                    failover: self.failover,
                    primary: &self.sentinel_master_name,
                    sentinel_user: &self.sentinel_username,
                    sentinel_password: &self.sentinel_password,
                    tls: self.enable_tls,
                    ca_cert: &self.ca_cert,
                    client_cert: &self.client_cert,
                    client_key: &self.client_key,
                    tls_server_name: &self.tls_server_name,
                    tls_skip_verify: self.tls_skip_verify,
                    dial_timeout: self.dial_timeout,
                    read_timeout: self.read_timeout,
                };
                given.warn(&unused, cx);
                given
            }
        }
    };
    (
        @declare required $required:literal;
        $(#[$about:meta])*
        pub struct $name:ident { $($(#[$field_about:meta])* pub $field:ident: $type:ty $(= $default:expr)?,)* }
    ) => {
        $(#[$about])*
        #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
        #[serde(default, rename_all = "camelCase")]
        #[schemars(extend("required" = [$required]))]
        pub struct $name {
            $($(#[$field_about])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: $crate::client::redis::settings::settings!(@default $($default)?),)*
                }
            }
        }
    };
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
}
pub(crate) use settings;

/// What is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Kind {
    /// One server.
    #[default]
    Node,
    /// A Redis Cluster.
    Cluster,
}

/// A time that upstream writes as a number of milliseconds or as a Go duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timeout {
    /// Not given, or 0.
    #[default]
    Unset,
    /// A negative number.
    Never,
    /// So long.
    After(Duration),
}

impl Timeout {
    fn millis(millis: i64) -> Self {
        match u64::try_from(millis) {
            Err(_) => Self::Never,
            Ok(0) => Self::Unset,
            Ok(millis) => Self::After(Duration::from_millis(millis)),
        }
    }

    /// The time, `None` for never.
    fn or(self, default: Duration) -> Option<Duration> {
        match self {
            Self::Unset => Some(default),
            Self::Never => None,
            Self::After(time) => Some(time),
        }
    }
}

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Timeout;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of milliseconds, or a text such as \"3s\"")
            }

            fn visit_u64<E: de::Error>(self, millis: u64) -> Result<Timeout, E> {
                Ok(Timeout::millis(i64::try_from(millis).unwrap_or(i64::MAX)))
            }

            fn visit_i64<E: de::Error>(self, millis: i64) -> Result<Timeout, E> {
                Ok(Timeout::millis(millis))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timeout, E> {
                if let Ok(millis) = text.trim().parse() {
                    return Ok(Timeout::millis(millis));
                }
                let GoDuration(time) = text.parse().map_err(E::custom)?;
                Ok(if time.is_zero() {
                    Timeout::Unset
                } else {
                    Timeout::After(time)
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Timeout {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        GoDuration::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        GoDuration::json_schema(generator)
    }

    fn inline_schema() -> bool {
        true
    }
}

/// A time of at least 0 that upstream writes as a number of milliseconds or as a Go duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Timeout::deserialize(deserializer)? {
            Timeout::Unset => Ok(Self(Duration::ZERO)),
            Timeout::After(time) => Ok(Self(time)),
            Timeout::Never => Err(de::Error::custom("a time is at least 0")),
        }
    }
}

impl serde::Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        GoDuration(self.0).serialize(serializer)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        GoDuration::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        GoDuration::json_schema(generator)
    }

    fn inline_schema() -> bool {
        true
    }
}

/// A setting of upstream's that means nothing to a client with one connection; whether it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unused(bool);

impl<'de> Deserialize<'de> for Unused {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Any text or number, which the file's own types tell apart.
        Option::<String>::deserialize(deserializer).map(|given| Self(given.is_some()))
    }
}

impl JsonSchema for Unused {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        String::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }

    fn inline_schema() -> bool {
        true
    }
}

/// Where a server listens.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// The address of a host and a port, as servers tell them.
    pub(super) fn of(host: &str, port: &str) -> Option<Self> {
        let port = port.parse().ok()?;
        (!host.is_empty() && port != 0).then(|| Self {
            host: host.to_owned(),
            port,
        })
    }

    /// Reads `host:port`, `host`, or an IPv6 address in brackets.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
            // An IPv6 address has colons of its own.
            _ => (text, DEFAULT_PORT),
        };
        Self::of(host.trim_start_matches('[').trim_end_matches(']'), port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A user and a password; without a password none is sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: Secret,
}

impl Login {
    /// What the connection says first.
    pub(super) fn info(&self, database: u16) -> RedisConnectionInfo {
        let mut info = RedisConnectionInfo::default()
            .set_db(database.into())
            .set_skip_set_lib_name();
        if !self.password.expose().is_empty() {
            info = info.set_password(self.password.expose());
            if !self.user.is_empty() {
                info = info.set_username(&self.user);
            }
        }
        info
    }
}

/// What the addresses are those of.
#[derive(Debug, Clone)]
pub(super) enum Topology {
    Server,
    Sentinels { primary: String, login: Login },
    Cluster,
}

/// Where and how to connect.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(super) addresses: Vec<Address>,
    pub(super) topology: Topology,
    pub(super) login: Login,
    pub(super) db: u16,
    pub(super) tls: Option<Tls>,
    pub(super) dial_timeout: Duration,
    /// How long an answer may be owed.
    pub(super) read_timeout: Option<Duration>,
}

impl Connection {
    /// What tells this connection from others: equal ones share a client. Gives no secret away.
    pub(super) fn identity(&self) -> String {
        let mut secrets = vec![self.login.password.expose().as_str()];
        if let Topology::Sentinels { login, .. } = &self.topology {
            secrets.push(login.password.expose());
        }
        secrets.extend(self.tls.iter().flat_map(Tls::texts));
        let text = format!("{self:?} {secrets:?}");
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        format!("{:?}", digest.as_ref())
    }
}

/// The settings as they were given.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) hosts: &'a [String],
    pub(crate) user: &'a str,
    pub(crate) password: &'a Secret,
    pub(crate) db: u16,
    pub(crate) kind: Kind,
    pub(crate) failover: bool,
    pub(crate) primary: &'a str,
    pub(crate) sentinel_user: &'a str,
    pub(crate) sentinel_password: &'a Secret,
    pub(crate) tls: bool,
    pub(crate) ca_cert: &'a str,
    pub(crate) client_cert: &'a str,
    pub(crate) client_key: &'a Secret,
    pub(crate) tls_server_name: &'a str,
    pub(crate) tls_skip_verify: bool,
    pub(crate) dial_timeout: Timeout,
    pub(crate) read_timeout: Timeout,
}

impl Given<'_> {
    pub(crate) fn warn(&self, unused: &[(&str, Unused)], cx: &Context) {
        let given: Vec<_> = unused
            .iter()
            .filter_map(|(key, unused)| unused.0.then_some(*key))
            .collect();
        if !given.is_empty() {
            tracing::warn!(
                component = cx.name,
                settings = given.join(", "),
                "these settings have no effect on a client that shares one connection"
            );
        }
        if self.tls && self.tls_skip_verify {
            tracing::warn!(
                component = cx.name,
                "tlsSkipVerify: the server's certificate is not verified, anybody may listen in"
            );
        }
    }

    /// A connection to each host, which must be a server of its own.
    pub(crate) fn connections(&self, cx: &Context) -> Result<Vec<Connection>> {
        if self.failover || self.kind == Kind::Cluster {
            return Err(Error::invalid(
                "redisType: expected node, and no failover: each host is a server of its own",
            ));
        }
        let each = self.hosts.iter().map(|host| {
            let hosts = std::slice::from_ref(host);
            Given { hosts, ..*self }.connection(cx)
        });
        each.collect()
    }

    /// Puts the settings together; fails where they contradict each other.
    pub(crate) fn connection(&self, cx: &Context) -> Result<Connection> {
        let addresses = addresses(self.hosts)?;
        let topology = self.topology(addresses.len())?;
        let tls = self.tls.then(|| Tls::new(self, cx)).transpose()?;
        if tls.is_none() && self.names_tls() {
            return Err(Error::invalid(
                "enableTLS: expected true, as there are other settings of TLS",
            ));
        }
        Ok(Connection {
            addresses,
            topology,
            login: Login {
                user: self.user.to_owned(),
                password: self.password.clone(),
            },
            db: self.db,
            tls,
            dial_timeout: self.dial_timeout.or(DIAL_TIMEOUT).unwrap_or(DIAL_TIMEOUT),
            read_timeout: self.read_timeout.or(READ_TIMEOUT),
        })
    }

    fn topology(&self, hosts: usize) -> Result<Topology> {
        match (self.failover, self.kind) {
            (true, Kind::Cluster) => Err(Error::invalid(
                "failover: expected false, as a cluster has no sentinels",
            )),
            (true, Kind::Node) if self.primary.is_empty() => Err(Error::invalid(
                "sentinelMasterName: expected the name under which the sentinels watch the primary",
            )),
            (true, Kind::Node) => Ok(Topology::Sentinels {
                primary: self.primary.to_owned(),
                login: Login {
                    user: self.sentinel_user.to_owned(),
                    password: self.sentinel_password.clone(),
                },
            }),
            (false, Kind::Cluster) if self.db != 0 => Err(Error::invalid(
                "redisDB: expected 0, as a cluster has no other databases",
            )),
            (false, Kind::Cluster) => Ok(Topology::Cluster),
            (false, Kind::Node) if hosts > 1 => Err(Error::invalid(
                "redisHost: expected one host, unless redisType is cluster or failover is true",
            )),
            (false, Kind::Node) => Ok(Topology::Server),
        }
    }

    fn names_tls(&self) -> bool {
        let texts = [
            self.ca_cert,
            self.client_cert,
            self.client_key.expose(),
            self.tls_server_name,
        ];
        self.tls_skip_verify || texts.iter().any(|text| !text.is_empty())
    }
}

fn addresses(hosts: &[String]) -> Result<Vec<Address>> {
    let expected = || Error::invalid("redisHost: expected a host and a port such as \"127.0.0.1:6379\"");
    let addresses: Vec<_> = hosts
        .iter()
        .map(|host| Address::parse(host).ok_or_else(expected))
        .collect::<Result<_>>()?;
    if addresses.is_empty() {
        return Err(expected());
    }
    Ok(addresses)
}
