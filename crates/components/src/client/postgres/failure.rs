//! What an error of the server, or of the way to it, means to a caller.

use std::io;

use layotto_core::{Error, ErrorKind};
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// A failed operation.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server, or the way to it.
    Sql(sqlx::Error),
    /// A decision of the component; the connection is as good as before.
    Refused(Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::Sql(error) => translate(error),
        }
    }
}

impl Failure {
    /// The SQLSTATE, where the server answered.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Sql(error) => code(error),
            Self::Refused(_) => None,
        }
    }

    /// The connection cannot be used again.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::Sql(sqlx::Error::Database(error)) => {
                let error = error.try_downcast_ref::<PgDatabaseError>();
                // A server that became a replica would refuse writes for ever.
                error.is_none_or(|error| {
                    matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)
                        || error.code() == "25006"
                })
            }
            Self::Sql(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_)) => {
                false
            }
            Self::Sql(_) => true,
        }
    }
}

/// The SQLSTATE of `error`, where the server answered.
pub(super) fn code(error: &sqlx::Error) -> Option<&str> {
    let sqlx::Error::Database(error) = error else {
        return None;
    };
    error.try_downcast_ref().map(PgDatabaseError::code)
}

/// Whether TLS failed, rather than the network or the server.
pub(super) fn is_of_tls(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

fn translate(error: sqlx::Error) -> Error {
    let (kind, message) = match (&error, code(&error)) {
        (sqlx::Error::Database(refusal), Some(code)) => (kind_of(code), refusal.message().to_owned()),
        _ if is_of_tls(&error) => (ErrorKind::Unavailable, with_cause("TLS", &error)),
        (sqlx::Error::Io(cause), _) => (ErrorKind::Unavailable, cause.to_string()),
        (sqlx::Error::Protocol(_), _) => (ErrorKind::Unavailable, "the connection is broken".to_owned()),
        _ => (ErrorKind::Internal, "an answer that was not expected".to_owned()),
    };
    Error::new(kind, format!("postgresql: {message}")).with_source(error)
}

fn with_cause(what: &str, error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(cause) => format!("{what}: {cause}"),
        sqlx::Error::Tls(cause) => format!("{what}: {cause}"),
        _ => what.to_owned(),
    }
}

/// What a SQLSTATE means (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn kind_of(code: &str) -> ErrorKind {
    match code {
        // Characters that the server's text cannot hold; keys and values beyond its limits.
        "22021" | "22P05" | "54000" => ErrorKind::InvalidArgument,
        // A deadlock or a serialization failure: nothing was changed, and a new try may succeed.
        "40001" | "40P01" => ErrorKind::Conflict,
        // Somebody else holds the table for longer than it is waited for.
        "55P03" => ErrorKind::Unavailable,
        "42501" => ErrorKind::PermissionDenied,
        "57014" => ErrorKind::Timeout,
        "25006" | "53300" | "57P01" | "57P02" | "57P03" | "57P05" => ErrorKind::Unavailable,
        // No such database, table or column.
        "3D000" | "3F000" | "42P01" | "42703" => ErrorKind::FailedPrecondition,
        _ if code.starts_with("08") => ErrorKind::Unavailable,
        _ if code.starts_with("28") => ErrorKind::Unauthenticated,
        _ if code.starts_with("53") => ErrorKind::ResourceExhausted,
        _ => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_the_caller_what_to_do() {
        for (code, kind) in [
            ("08006", ErrorKind::Unavailable),
            ("28P01", ErrorKind::Unauthenticated),
            ("40001", ErrorKind::Conflict),
            ("42501", ErrorKind::PermissionDenied),
            ("53100", ErrorKind::ResourceExhausted),
            ("53300", ErrorKind::Unavailable),
            ("57014", ErrorKind::Timeout),
            ("42601", ErrorKind::Internal),
        ] {
            assert_eq!(kind_of(code), kind, "{code}");
        }
    }
}
