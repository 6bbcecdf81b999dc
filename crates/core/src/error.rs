//! The one error of every component: what went wrong, in terms a caller can act on.

use std::{error, fmt};

/// The result of a component call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure a caller sees; each maps to one gRPC status code in `layotto-api`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request itself is wrong and will stay wrong.
    InvalidArgument,
    /// The etag is not one this store could have issued.
    InvalidEtag,
    /// The named thing does not exist.
    NotFound,
    /// The thing to create exists already.
    AlreadyExists,
    /// A concurrent change won: an etag mismatch or a failed first-write.
    Conflict,
    /// The product or the component refuses the caller this operation.
    PermissionDenied,
    /// The product does not accept the component's credentials.
    Unauthenticated,
    /// A bound was reached: queue, quota, size.
    ResourceExhausted,
    /// The system is not in the state that the operation needs.
    FailedPrecondition,
    /// The product cannot be reached now; trying again may help.
    Unavailable,
    /// The time allowed for the call ran out.
    Timeout,
    /// The caller went away.
    Cancelled,
    /// This component does not have the operation.
    Unsupported,
    /// Data is gone or damaged for good.
    DataLoss,
    /// Everything else; a defect here or in the product.
    Internal,
}

/// A failed component call: kind, message for the caller, details, and the cause for the log.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    details: Vec<(&'static str, String)>,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` whose `message` the caller may read: it must hold no secret.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            details: Vec::new(),
            source: None,
        }
    }

    /// Attaches the cause, which is logged where the error is handled and never sent to the caller.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds a machine-readable detail, sent to the caller in `google.rpc.ErrorInfo.metadata`.
    #[must_use]
    pub fn with_detail(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.details.push((key, value.into()));
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The text for the caller.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Machine-readable details.
    pub fn details(&self) -> &[(&'static str, String)] {
        &self.details
    }

    /// Shorthand for [`ErrorKind::InvalidArgument`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// Shorthand for [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Shorthand for [`ErrorKind::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// What an optional operation answers where a component does not have it.
    pub fn unsupported(operation: &str) -> Self {
        Self::new(
            ErrorKind::Unsupported,
            format!("{operation} is not supported by this component"),
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn error::Error + 'static))
    }
}
