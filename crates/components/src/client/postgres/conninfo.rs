//! Connection strings of PostgreSQL: `host=db user=app …` and `postgres://app@db/…`.

mod syntax;
mod tls;

use std::{collections::BTreeMap, time::Duration};

use layotto_core::{Context, Error, Result};
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};

/// How long a connection may take to be there, unless `connect_timeout` says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Keys of libpq that change nothing here.
const WITHOUT_EFFECT: [&str; 14] = [
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcompression",
    "sslsni",
    "tcp_user_timeout",
];

/// Keys of libpq that promise something which would not be kept here.
const REFUSED: [&str; 9] = [
    "channel_binding",
    "passfile",
    "replication",
    "require_auth",
    "service",
    "sslcrl",
    "sslcrldir",
    "sslpassword",
    "target_session_attrs",
];

/// The keys of a connection string.
type Pairs = BTreeMap<String, String>;

/// What a connection string says. No `Debug`: it holds the password.
pub(super) struct ConnInfo {
    /// For the library; its TLS mode is the one to try first.
    pub(super) options: PgConnectOptions,
    /// The TLS mode to try where the server does not take the first.
    pub(super) second_mode: Option<PgSslMode>,
    /// How long a connection may take to be there.
    pub(super) connect_timeout: Duration,
    /// The settings of the session that the connection string makes itself.
    pub(super) session: Vec<String>,
}

impl ConnInfo {
    /// Reads a connection string; an error names the key and never a value, which may be secret.
    pub(super) fn parse(text: &str, cx: &Context) -> Result<Self> {
        let mut pairs = syntax::parse(text.trim())?;
        if let Some(key) = REFUSED.iter().find(|key| pairs.contains_key(**key)) {
            return Err(wrong(&format!("{key} is not supported")));
        }
        pairs.retain(|key, _| !WITHOUT_EFFECT.contains(&key.as_str()));
        let options = who_and_where(&mut pairs)?;
        let (options, second_mode) = tls::apply(options, &mut pairs, cx)?;
        let connect_timeout = number(&mut pairs, "connect_timeout")?.filter(|seconds| *seconds > 0);
        if let Some(arguments) = pairs.remove("options") {
            pairs.extend(syntax::arguments(&arguments)?);
        }
        let session = pairs.keys().cloned().collect();
        Ok(Self {
            // As upstream's driver: a key that it does not know is a setting of the session.
            options: if pairs.is_empty() {
                options
            } else {
                options.options(pairs)
            },
            second_mode,
            connect_timeout: connect_timeout.map_or(CONNECT_TIMEOUT, Duration::from_secs),
            session,
        })
    }

    /// The server, for messages.
    pub(super) fn peer(&self) -> String {
        let (host, port) = (self.options.get_host(), self.options.get_port());
        if is_socket(&self.options) {
            return format!("{host}/.s.PGSQL.{port}");
        }
        format!("{host}:{port}")
    }
}

fn who_and_where(pairs: &mut Pairs) -> Result<PgConnectOptions> {
    let mut options = PgConnectOptions::new_without_pgpass()
        .disable_statement_logging()
        .extra_float_digits(None);
    let host = pairs.remove("host");
    if host.is_some() && pairs.contains_key("hostaddr") {
        return Err(wrong("host and hostaddr cannot be used together"));
    }
    if let Some(host) = host.or_else(|| pairs.remove("hostaddr")) {
        if host.contains(',') {
            return Err(wrong("host: only one server is supported"));
        }
        options = options.host(&host);
    }
    if let Some(port) = number(pairs, "port")? {
        options = options.port(port);
    }
    if let Some(user) = pairs.remove("user") {
        options = options.username(&user);
    }
    if let Some(password) = pairs.remove("password") {
        options = options.password(&password);
    }
    if let Some(database) = pairs.remove("dbname") {
        options = options.database(&database);
    }
    if let Some(capacity) = number(pairs, "statement_cache_capacity")? {
        options = options.statement_cache_capacity(capacity);
    }
    let name = pairs.remove("application_name");
    Ok(options.application_name(name.as_deref().unwrap_or("layotto")))
}

fn is_socket(options: &PgConnectOptions) -> bool {
    options.get_host().starts_with('/')
}

fn number<T: std::str::FromStr>(pairs: &mut Pairs, key: &str) -> Result<Option<T>> {
    let Some(text) = pairs.remove(key) else {
        return Ok(None);
    };
    let number = text.trim().parse();
    number
        .map(Some)
        .map_err(|_| wrong(&format!("{key} is not a number that fits")))
}

fn wrong(what: &str) -> Error {
    Error::invalid(format!("connectionString: {what}"))
}

#[cfg(test)]
mod tests;
