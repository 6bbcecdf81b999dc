//! Answers that a filter gives in a service's place. They hold nothing of the request: what a
//! client sent as credentials or cookies never comes back.

use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};

use super::Response;
use crate::{
    body::Body,
    reply::{self, Code, Kind},
};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Refuses a request: gRPC callers get `code` with `text` as its message, others `status` with
/// `text` as the body.
pub fn refuse(kind: Kind, status: StatusCode, code: Code, text: &str) -> Response {
    if kind == Kind::Grpc {
        return reply::refuse(kind, code, text).map(|_| Body::empty());
    }
    let mut response = Response::new(text.to_owned().into());
    *response.status_mut() = status;
    if !text.is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
    }
    response
}

/// What gRPC says in the place of an HTTP status: the mapping that its clients use for replies
/// without a gRPC status (`doc/http-grpc-status-mapping.md` of gRPC).
pub fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// Reads a status that a filter may answer with.
pub fn status(number: u16) -> Result<StatusCode, String> {
    match StatusCode::from_u16(number) {
        Ok(status) if (200..600).contains(&number) => Ok(status),
        _ => Err(format!("found {number}, expected an HTTP status from 200 to 599")),
    }
}
