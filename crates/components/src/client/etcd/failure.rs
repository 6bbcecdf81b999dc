//! What went wrong with a call: what the caller is told, and whether another try is safe.

use std::{error, fmt};

use layotto_core::{Error, ErrorKind};
use tonic::{Code, Status};

/// A request that got no answer.
#[derive(Debug)]
pub(super) struct Unanswered {
    /// Whether it may have reached the node.
    pub(super) sent: bool,
    pub(super) cause: hyper::Error,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection broke")
    }
}

impl error::Error for Unanswered {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// A call that failed.
#[derive(Debug)]
pub(crate) struct Failure(Box<Status>);

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self(Box::new(status))
    }
}

/// A request that a node refuses before it looks at it.
const NO_LEADER: &str = "etcdserver: no leader";
/// The node does not know the token: it was restarted, or the token's time is over.
const TOKEN: [&str; 5] = [
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    "etcdserver: user name is empty",
    "auth: invalid auth token",
    "auth: revision in header is old",
];
const NO_AUTH: &str = "etcdserver: authentication is not enabled";
const REFUSED: &str = "etcdserver: authentication failed, invalid user ID or password";
const TOO_LARGE: &str = "etcdserver: request is too large";
const TOO_MANY: &str = "etcdserver: too many operations in txn request";
const LEASE_GONE: &str = "etcdserver: requested lease not found";
const LEASE_EXISTS: &str = "etcdserver: lease already exists";

impl Failure {
    /// Of a watch that the node ended, which gives its reason as the text of a status.
    pub(super) fn of_cancellation(reason: &str) -> Self {
        let (code, text) = reason
            .strip_prefix("rpc error: code = ")
            .and_then(|reason| reason.split_once(" desc = "))
            .unwrap_or(("", reason));
        let code = match code {
            "InvalidArgument" => Code::InvalidArgument,
            "PermissionDenied" => Code::PermissionDenied,
            "Unauthenticated" => Code::Unauthenticated,
            _ => return Status::unavailable(format!("etcdserver: the watch was cancelled: {text}")).into(),
        };
        Status::new(code, text).into()
    }

    fn find<T: error::Error + 'static>(&self) -> Option<&T> {
        let mut cause: Option<&(dyn error::Error + 'static)> = Some(&*self.0);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }

    /// The node answered; else the connection did not hold.
    pub(super) fn is_answer(&self) -> bool {
        error::Error::source(&*self.0).is_none()
    }

    /// The request was not carried out, and will not be.
    pub(super) fn had_no_effect(&self) -> bool {
        if self.is_answer() {
            return self.0.message() == NO_LEADER;
        }
        let refused = |error: &h2::Error| error.reason() == Some(h2::Reason::REFUSED_STREAM);
        self.find::<Unanswered>()
            .is_some_and(|unanswered| !unanswered.sent)
            || self.find::<h2::Error>().is_some_and(refused)
    }

    /// Another node may do better, or the same one after a moment.
    pub(super) fn is_transient(&self) -> bool {
        !self.is_answer() || self.0.code() == Code::Unavailable
    }

    /// The token was not accepted; the request was not looked at.
    pub(super) fn is_about_the_token(&self) -> bool {
        self.is_answer() && TOKEN.contains(&self.0.message())
    }

    /// The nodes have no users.
    pub(super) fn says_there_is_no_authentication(&self) -> bool {
        self.0.message() == NO_AUTH
    }

    /// The user may not do that; or, of a watch, the token was not accepted.
    pub(super) fn says_it_is_not_permitted(&self) -> bool {
        self.is_answer() && self.0.code() == Code::PermissionDenied
    }

    /// There is no such lease.
    pub(crate) fn is_lease_gone(&self) -> bool {
        self.0.message() == LEASE_GONE
    }

    /// There is such a lease.
    pub(crate) fn is_lease_taken(&self) -> bool {
        self.0.message() == LEASE_EXISTS
    }

    /// For the caller.
    pub(crate) fn into_error(self) -> Error {
        let status = *self.0;
        if error::Error::source(&status).is_some() {
            return Error::unavailable("etcd: the connection broke").with_source(status);
        }
        let text = format!("etcd: {}", status.message().trim_start_matches("etcdserver: "));
        let kind = match (status.code(), status.message()) {
            (_, REFUSED) => ErrorKind::Unauthenticated,
            (_, message) if TOKEN.contains(&message) => ErrorKind::Unauthenticated,
            (_, TOO_LARGE) => ErrorKind::ResourceExhausted,
            (_, TOO_MANY) => ErrorKind::InvalidArgument,
            // The lease of a write ended before the write came: nothing that the caller asked for is missing.
            (_, LEASE_GONE) => ErrorKind::Unavailable,
            // The answer has more bytes than this side takes.
            (Code::OutOfRange, message) if message.contains("message length too large") => {
                ErrorKind::ResourceExhausted
            }
            (Code::InvalidArgument, _) => ErrorKind::InvalidArgument,
            (Code::Unauthenticated, _) => ErrorKind::Unauthenticated,
            (Code::PermissionDenied, _) => ErrorKind::PermissionDenied,
            (Code::ResourceExhausted, _) => ErrorKind::ResourceExhausted,
            (Code::FailedPrecondition, _) => ErrorKind::FailedPrecondition,
            (Code::NotFound, _) => ErrorKind::NotFound,
            (Code::Unavailable, _) => ErrorKind::Unavailable,
            (Code::DeadlineExceeded, _) => ErrorKind::Timeout,
            (Code::Cancelled, _) => ErrorKind::Cancelled,
            (Code::DataLoss, _) => ErrorKind::DataLoss,
            _ => ErrorKind::Internal,
        };
        Error::new(kind, text)
    }
}

/// Whether a request that failed was surely not carried out.
pub(crate) fn was_refused(error: &Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Cancelled | ErrorKind::Internal
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_looked_at_had_no_effect() {
        let failure = |code, text: &str| Failure::from(Status::new(code, text));
        assert!(failure(Code::Unavailable, NO_LEADER).had_no_effect());
        for lost in [
            "etcdserver: request timed out, possibly due to previous leader failure",
            "etcdserver: leader changed",
            "etcdserver: server stopped",
        ] {
            let failure = failure(Code::Unavailable, lost);
            assert!(!failure.had_no_effect() && failure.is_transient(), "{lost}");
        }
        assert!(
            !failure(
                Code::InvalidArgument,
                "etcdserver: duplicate key given in txn request"
            )
            .is_transient()
        );
    }

    #[test]
    fn kinds_tell_the_caller_what_to_do() {
        for (code, text, kind) in [
            (Code::InvalidArgument, REFUSED, ErrorKind::Unauthenticated),
            (Code::InvalidArgument, TOO_LARGE, ErrorKind::ResourceExhausted),
            (
                Code::InvalidArgument,
                "etcdserver: key is not provided",
                ErrorKind::InvalidArgument,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                ErrorKind::ResourceExhausted,
            ),
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                ErrorKind::PermissionDenied,
            ),
            (Code::Unauthenticated, TOKEN[0], ErrorKind::Unauthenticated),
            (
                Code::Unavailable,
                "etcdserver: request timed out",
                ErrorKind::Unavailable,
            ),
            (Code::NotFound, LEASE_GONE, ErrorKind::Unavailable),
            (Code::Unknown, "odd", ErrorKind::Internal),
        ] {
            let error = Failure::from(Status::new(code, text)).into_error();
            assert_eq!(error.kind(), kind, "{text}");
            assert_eq!(
                error.message(),
                format!("etcd: {}", text.trim_start_matches("etcdserver: "))
            );
        }
    }
}
