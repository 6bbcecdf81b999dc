//! The stream filter `Layotto`: a request whose header `id` names a function is answered by it.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, StatusCode, request::Parts};
use http_body_util::{BodyExt, Limited};
use layotto_mesh::{
    body::Body,
    filter::{Filter, Next, Request, Response},
    reply::{self, Code, Kind},
};
use layotto_wasm::{CallError, Functions, Reply};

use super::convert::{fields, protocol, pseudo, put, source};

/// The longest body of a request, in bytes: a function gets it whole.
const LONGEST: usize = 4 << 20;

/// Names the function.
const ID: &str = "id";

/// The filter.
pub struct Layotto {
    functions: Arc<Functions>,
}

impl Layotto {
    /// Leads to `functions`.
    pub fn new(functions: Arc<Functions>) -> Self {
        Self { functions }
    }

    async fn answer(&self, request: Request) -> Response {
        let kind = Kind::of(request.headers());
        let id = match request.headers().get(ID).map(HeaderValue::to_str) {
            Some(Ok(id)) if !id.is_empty() => id.to_owned(),
            _ => {
                return refuse(
                    kind,
                    Code::InvalidArgument,
                    "header id is missing: it names the function",
                );
            }
        };
        // The request ends on what it began with, also where the function goes while its body comes.
        let Some(function) = self.functions.find(&id) else {
            return refuse(kind, Code::NotFound, &CallError::Unknown(id).to_string());
        };
        let request = match whole(request).await {
            Ok(request) => request,
            Err(refusal) => return refusal,
        };
        let started = Instant::now();
        match function.call(request, 0, None).await {
            Ok(reply) => respond(reply),
            Err(error) => {
                log(&id, &error, started);
                match function.forgives() {
                    true => Response::default(),
                    false => failed(kind, &error),
                }
            }
        }
    }
}

fn log(function: &str, error: &CallError, started: Instant) {
    let took = started.elapsed();
    match error {
        CallError::Trapped(trap) => tracing::error!(function, %trap, ?took, "the function failed"),
        error => tracing::warn!(function, %error, ?took, "the function did not answer"),
    }
}

fn failed(kind: Kind, error: &CallError) -> Response {
    let code = match error.status() {
        404 => Code::NotFound,
        503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => Code::Internal,
    };
    refuse(kind, code, &error.to_string())
}

impl Filter for Layotto {
    fn call<'a>(&'a self, request: Request, _: Next<'a>) -> BoxFuture<'a, Response> {
        Box::pin(self.answer(request))
    }
}

fn refuse(kind: Kind, code: Code, text: &str) -> Response {
    reply::refuse(kind, code, text).map(Body::new)
}

/// Reads the request to its end. One without a body has its query string in the place of it, as
/// upstream's functions expect.
async fn whole(request: Request) -> Result<layotto_wasm::Request, Response> {
    let (head, body) = request.into_parts();
    let kind = Kind::of(&head.headers);
    let collected = match Limited::new(body, LONGEST).collect().await {
        Ok(collected) => collected,
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let mut refusal = refuse(
                kind,
                Code::OutOfRange,
                &format!("the body is larger than {LONGEST} bytes"),
            );
            if kind == Kind::Http {
                *refusal.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            }
            return Err(refusal);
        }
        Err(_) => return Err(refuse(kind, Code::Cancelled, "the request broke off")),
    };
    let trailers = collected.trailers().map(|trailers| fields(trailers).collect());
    let body = match collected.to_bytes() {
        body if body.is_empty() => query(&head),
        body => body,
    };
    Ok(layotto_wasm::Request {
        headers: pseudo(&head).into_iter().chain(fields(&head.headers)).collect(),
        body,
        trailers,
        source: source(&head),
        protocol: protocol(head.version),
    })
}

fn query(head: &Parts) -> Bytes {
    let query = head.uri.query().unwrap_or_default();
    Bytes::copy_from_slice(query.as_bytes())
}

/// The reply of a guest.
pub fn respond(reply: Reply) -> Response {
    let mut response = Response::new(reply.body.into());
    let status = u16::try_from(reply.status).ok().filter(|status| *status != 0);
    *response.status_mut() = match status.map(StatusCode::from_u16) {
        None => StatusCode::OK,
        Some(Ok(status)) if status.as_u16() >= 200 => status,
        Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    put(response.headers_mut(), &reply.headers);
    response
}
