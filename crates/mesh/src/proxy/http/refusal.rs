//! Replies of the proxy's own, as the caller expects them.

use http::StatusCode;

use crate::{
    body::Body,
    exchange::Flags,
    filter::Response,
    reply::{self, Code, Kind},
    upstream::{Failure, Fault},
};

/// Why the proxy answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    code: Code,
    text: &'static str,
}

impl Refusal {
    pub(super) const NO_ROUTE: Self = Self::new(StatusCode::NOT_FOUND, Code::Unimplemented, "no route");
    pub(super) const NO_CLUSTER: Self =
        Self::new(StatusCode::NOT_FOUND, Code::Unimplemented, "no such cluster");
    pub(super) const NO_HOST: Self = Self::new(
        StatusCode::BAD_GATEWAY,
        Code::Unavailable,
        "no host of the cluster is well",
    );
    pub(super) const CONNECT: Self = Self::new(
        StatusCode::METHOD_NOT_ALLOWED,
        Code::Unimplemented,
        "CONNECT is not served",
    );
    pub(super) const NO_HTTP2: Self = Self::new(
        StatusCode::NOT_IMPLEMENTED,
        Code::Unimplemented,
        "the cluster speaks HTTP/1.1, which carries no gRPC",
    );
    pub(super) const TIMEOUT: Self = Self::new(
        StatusCode::GATEWAY_TIMEOUT,
        Code::DeadlineExceeded,
        "the upstream took too long",
    );
    pub(super) const STALLED: Self = Self::new(
        StatusCode::REQUEST_TIMEOUT,
        Code::DeadlineExceeded,
        "the request's body stood still",
    );

    const fn new(status: StatusCode, code: Code, text: &'static str) -> Self {
        Self { status, code, text }
    }

    /// The refusal and the flag for a request that got no reply. The text tells a caller nothing
    /// about hosts; that is for the log.
    pub(super) fn of(failure: &Failure) -> (Self, Flags) {
        match failure.fault {
            Fault::Connect => (
                Self::bad_gateway("no connection to the upstream"),
                Flags::CONNECTION_FAILURE,
            ),
            Fault::Reset => (
                Self::bad_gateway("the upstream gave the request up"),
                Flags::UPSTREAM_REMOTE_RESET,
            ),
            Fault::Terminated => (
                Self::bad_gateway("the connection to the upstream was lost"),
                Flags::CONNECTION_TERMINATION,
            ),
            Fault::Overflow(_) => (
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    Code::Unavailable,
                    "the cluster has no room for the request",
                ),
                Flags::OVERFLOW,
            ),
            Fault::Request => (
                Self::new(
                    StatusCode::BAD_REQUEST,
                    Code::Cancelled,
                    "the request's body broke off",
                ),
                Flags::DOWNSTREAM_TERMINATE,
            ),
            Fault::Unsendable => (
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    Code::Internal,
                    "the request cannot be sent on",
                ),
                Flags::UPSTREAM_LOCAL_RESET,
            ),
        }
    }

    const fn bad_gateway(text: &'static str) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, Code::Unavailable, text)
    }
}

/// The reply that says so.
pub(super) fn refuse(kind: Kind, refusal: Refusal) -> Response {
    let mut response = reply::refuse(kind, refusal.code, refusal.text).map(Body::new);
    if kind == Kind::Http {
        *response.status_mut() = refusal.status;
    }
    response
}
