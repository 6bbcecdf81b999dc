//! Replies of the proxy's own, as the caller expects them.

use http::StatusCode;

use super::limit;
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
    /// The code's name over HTTP.
    http: Code,
    text: &'static str,
}

impl Refusal {
    pub(super) const NO_ROUTE: Self = Self::not_found("no route");
    pub(super) const NO_CLUSTER: Self = Self::not_found("no such cluster");
    pub(super) const NO_GRPC: Self = Self::new(
        StatusCode::NOT_IMPLEMENTED,
        Code::Unimplemented,
        "the cluster is asked over HTTP/1, which carries no gRPC",
    );
    pub(super) const TOO_LARGE: Self = Self::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        Code::ResourceExhausted,
        "the request's body is too long",
    );
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
        Self {
            status,
            code,
            http: code,
            text,
        }
    }

    /// As gRPC has it, nobody implements what is not there.
    const fn not_found(text: &'static str) -> Self {
        Self {
            http: Code::NotFound,
            ..Self::new(StatusCode::NOT_FOUND, Code::Unimplemented, text)
        }
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
            Fault::Request if limit::is_reason(failure) => (Self::TOO_LARGE, Flags::TOO_LARGE),
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
    let code = match kind {
        Kind::Grpc => refusal.code,
        Kind::Http => refusal.http,
    };
    let mut response = reply::refuse(kind, code, refusal.text).map(Body::new);
    if kind == Kind::Http {
        *response.status_mut() = refusal.status;
    }
    response
}
