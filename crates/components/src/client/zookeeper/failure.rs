//! What an error of ZooKeeper means to a caller.

use layotto_core::{Error, ErrorKind};
use zookeeper_client::Error as Cause;

/// A failed request.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The servers, or the way to them.
    Zookeeper(Cause),
    /// There is no session, or a decision of the component.
    Refused(Error),
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Self::Zookeeper(cause)
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
            Failure::Zookeeper(cause) => {
                let message = format!("zookeeper: {cause}");
                Error::new(kind(&cause), message).with_source(cause)
            }
        }
    }
}

fn kind(cause: &Cause) -> ErrorKind {
    match cause {
        Cause::BadArguments(_) => ErrorKind::InvalidArgument,
        Cause::NoNode => ErrorKind::NotFound,
        Cause::NodeExists | Cause::BadVersion => ErrorKind::Conflict,
        Cause::NoAuth => ErrorKind::PermissionDenied,
        Cause::AuthFailed => ErrorKind::Unauthenticated,
        Cause::NotEmpty | Cause::NoChildrenForEphemerals => ErrorKind::FailedPrecondition,
        Cause::QuotaExceeded | Cause::Throttled => ErrorKind::ResourceExhausted,
        // A broken connection carries the system's error.
        Cause::Custom(_)
        | Cause::ConnectionLoss
        | Cause::SessionExpired
        | Cause::SessionMoved
        | Cause::ClientClosed
        | Cause::NoHosts
        | Cause::NotReadOnly
        | Cause::Timeout => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}
