//! What goes wrong at a server, in terms a caller can act on.

use std::io;

use layotto_core::{Error, ErrorKind, Result};
use redis::{RedisError, Value};

use super::settings::Address;

/// Why a server cannot be used; kept for the callers that come while it is so.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    kind: ErrorKind,
    message: String,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// No connection to `address`, in the words of Go's client, which callers may know.
    pub(super) fn dial(address: &Address, error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
            _ => error.to_string(),
        };
        Self::unavailable(format!("dial tcp {address}: {reason}"))
    }

    /// What `address` answered to the first words of a connection.
    pub(super) fn greeting(address: &Address, error: &RedisError) -> Self {
        let failure = Self::from(of(error));
        let message = match failure.kind {
            ErrorKind::Unauthenticated => {
                format!("redis at {address} does not accept the user or the password")
            }
            _ => format!("redis at {address}: {}", failure.message),
        };
        // Whatever it is that keeps the server from taking work, the request is not to blame.
        let kind = match failure.kind {
            kind @ (ErrorKind::Unauthenticated | ErrorKind::PermissionDenied) => kind,
            _ => ErrorKind::Unavailable,
        };
        Self { kind, message }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error.message())
    }
}

impl From<Failure> for Error {
    fn from(Failure { kind, message }: Failure) -> Self {
        Self::new(kind, message)
    }
}

/// A reply, or the error that it is.
pub(crate) fn reply(value: Value) -> Result<Value> {
    match value {
        Value::ServerError(error) => Err(of(&error.into())),
        value => Ok(value),
    }
}

/// There is no reply where one must be.
pub(super) fn missing() -> Error {
    Error::internal("redis gave no reply")
}

/// A reply of a kind that the command cannot have.
pub(crate) fn unexpected(value: &Value) -> Error {
    let kind = match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a text",
        Value::Array(_) => "a list",
        _ => "something else",
    };
    Error::internal(format!("redis answered {kind} where that cannot be"))
}

/// A client's error as a component's.
pub(crate) fn of(error: &RedisError) -> Error {
    match code(error) {
        Some(code) => Error::new(kind(code), text(error)),
        None if error.kind() == redis::ErrorKind::AuthenticationFailed => Error::new(
            ErrorKind::Unauthenticated,
            "redis does not accept the user or the password",
        ),
        None if error.kind() == redis::ErrorKind::Io => {
            Error::unavailable("the connection to redis was lost before the answer")
                .with_source(error.clone())
        }
        None => {
            Error::internal("redis answered what its client does not understand").with_source(error.clone())
        }
    }
}

/// A server's error as it was sent.
fn text(error: &RedisError) -> String {
    let code = error.code().unwrap_or_default();
    match error.detail() {
        Some(detail) => format!("{code} {detail}"),
        None => code.to_owned(),
    }
}

/// The code at the beginning of a server's error. One that a script met in a command is within the
/// text before Redis 7.
pub(super) fn code(error: &RedisError) -> Option<&str> {
    let code = error.code()?;
    let inner = error
        .detail()
        .filter(|_| code == "ERR")
        .and_then(|text| text.split_once(": -"))
        .and_then(|(_, inner)| inner.split(' ').next());
    Some(inner.unwrap_or(code))
}

fn kind(code: &str) -> ErrorKind {
    match code {
        "NOAUTH" | "WRONGPASS" => ErrorKind::Unauthenticated,
        "NOPERM" => ErrorKind::PermissionDenied,
        "OOM" => ErrorKind::ResourceExhausted,
        "CROSSSLOT" => ErrorKind::InvalidArgument,
        "LOADING" | "BUSY" | "MASTERDOWN" | "READONLY" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK"
        | "MISCONF" | "NOREPLICAS" => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}
