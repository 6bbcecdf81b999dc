//! From a component's error to a gRPC status: the one place that maps kinds to codes.

use std::collections::HashMap;

use layotto_core::{Error, ErrorKind};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `domain` of every `google.rpc.ErrorInfo` sent.
pub const DOMAIN: &str = "layotto";
/// The detail of an error that names its reason, in capitals; the code's name stands in for it.
pub const REASON: &str = "reason";

/// The longest text sent, in bytes: a status travels in a header field, twice, and clients refuse
/// header lists of more than 8 KiB.
const TEXT_LIMIT: usize = 2048;

/// The status for `error`: code by kind, its text, and `google.rpc.ErrorInfo`.
pub fn from_error(error: &Error) -> Status {
    let code = code(error.kind());
    if code == Code::Internal {
        tracing::error!(target: "layotto::api", error = error as &dyn std::error::Error, "call failed");
    }
    let mut metadata: HashMap<String, String> = error
        .details()
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    let reason = metadata.remove(REASON).unwrap_or_else(|| name(code).to_owned());
    let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    Status::with_error_details(code, bounded(error.message()), details)
}

fn bounded(text: &str) -> &str {
    text.split_at(text.floor_char_boundary(TEXT_LIMIT)).0
}

/// The gRPC code of a kind of error.
pub fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument | ErrorKind::InvalidEtag => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Conflict => Code::Aborted,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::DataLoss => Code::DataLoss,
        _ => Code::Internal,
    }
}

/// A code's name as the gRPC specification writes it, such as `INVALID_ARGUMENT`.
pub fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(bounded("short"), "short");
        let long = format!("{}é and more", "x".repeat(TEXT_LIMIT - 1));
        assert_eq!(bounded(&long).len(), TEXT_LIMIT - 1);
    }
}
