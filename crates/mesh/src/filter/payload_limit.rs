//! `payload_limit`: refuses requests whose body is too big. Bodies are counted as they pass;
//! nothing is held back for it.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as Task, Poll},
};

use bytes::Bytes;
use futures::{future::BoxFuture, task::AtomicWaker};
use http::{StatusCode, header::CONTENT_LENGTH};
use http_body::{Body as HttpBody, Frame, SizeHint};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Context, Filter, Kind, Next, Request, Response, RouteConfig, answer};
use crate::{
    BoxError,
    body::Body,
    config::{ConfigError, Fate, OtherKey},
    exchange::{Exchange, Flags},
    reply::{self, Code},
};

/// The filter, for [`super::KINDS`].
pub const KIND: Kind = Kind {
    name: NAME,
    build,
    route_config: Some(|config| Ok(Arc::new(Limit::read(config)?) as RouteConfig)),
    schema: || schemars::schema_for!(Config),
    other_keys: &[OtherKey {
        path: "max_entity_size ",
        fate: Fate::Ignored,
        why: "read as max_entity_size",
    }],
};

const NAME: &str = "payload_limit";
const TEXT: &str = "the request's body is too big";

/// Configuration of `payload_limit`, of the listener or of a route. A route's replaces the
/// listener's.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// The most bytes that a request's body may have; over gRPC with the five bytes before each
    /// message. Default 0: no limit. The key is also read with a space at its end, as upstream
    /// has it.
    #[serde(alias = "max_entity_size ")]
    pub max_entity_size: u64,
    /// The HTTP status of the refusal, 200 to 599. Default 413. gRPC callers get RESOURCE_EXHAUSTED.
    pub http_status: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_entity_size: 0,
            http_status: 413,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    /// `None`: there is none.
    bytes: Option<u64>,
    status: StatusCode,
}

#[derive(Debug)]
struct PayloadLimit(Limit);

fn build(config: &Value, _: &Context) -> Result<Arc<dyn Filter>, ConfigError> {
    Ok(Arc::new(PayloadLimit(Limit::read(config)?)))
}

impl Limit {
    fn read(config: &Value) -> Result<Self, ConfigError> {
        let config: Config = super::read(config)?;
        Ok(Self {
            bytes: Some(config.max_entity_size).filter(|bytes| *bytes > 0),
            status: answer::status(config.http_status)
                .map_err(|message| ConfigError::new("http_status", message))?,
        })
    }
}

impl PayloadLimit {
    fn limit(&self, route: Option<&RouteConfig>) -> Limit {
        let route = route.and_then(|config| config.downcast_ref());
        *route.unwrap_or(&self.0)
    }
}

impl Filter for PayloadLimit {
    fn call<'a>(&'a self, request: Request, next: Next<'a>) -> BoxFuture<'a, Response> {
        let exchange = Exchange::of(request.extensions()).cloned();
        let limit = self.limit(super::route_config(exchange.as_ref(), NAME).as_ref());
        let Some(bytes) = limit.bytes else {
            return next.run(request);
        };
        let refusal = Refusal {
            kind: reply::Kind::of(request.headers()),
            status: limit.status,
            exchange,
        };
        if at_least(&request) > bytes {
            return Box::pin(std::future::ready(refusal.give()));
        }
        if request
            .body()
            .size_hint()
            .upper()
            .is_some_and(|most| most <= bytes)
        {
            return next.run(request);
        }
        Box::pin(guard(request, bytes, next, refusal))
    }
}

/// The size that the request's head announces.
fn at_least(request: &Request) -> u64 {
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse().ok());
    announced.unwrap_or(0).max(request.body().size_hint().lower())
}

/// Passes the request on and counts its body. When it grows too big, the service's work is
/// dropped and the request refused; a reply that has begun is broken off.
async fn guard(request: Request, bytes: u64, next: Next<'_>, refusal: Refusal) -> Response {
    let trip = Arc::new(Trip::default());
    let request = request.map(|body| {
        Body::new(Counted {
            body,
            left: bytes,
            trip: trip.clone(),
        })
    });
    let mut service = next.run(request);
    let reply = poll_fn(|task| {
        trip.waker.register(task.waker());
        let reply = service.as_mut().poll(task);
        match trip.has_tripped() {
            true => Poll::Ready(None),
            false => reply.map(Some),
        }
    });
    match reply.await {
        None => refusal.give(),
        Some(reply) => reply.map(|body| {
            Body::new(Guarded {
                body,
                trip,
                refusal: Some(refusal),
            })
        }),
    }
}

/// Why and how a request is refused.
#[derive(Debug)]
struct Refusal {
    kind: reply::Kind,
    status: StatusCode,
    exchange: Option<Exchange>,
}

impl Refusal {
    fn give(&self) -> Response {
        self.flag();
        answer::refuse(self.kind, self.status, Code::ResourceExhausted, TEXT)
    }

    /// What ends a reply that has begun: trailers over gRPC, else a reset.
    fn break_off(&self) -> Result<Frame<Bytes>, BoxError> {
        self.flag();
        match self.kind {
            reply::Kind::Grpc => Ok(Frame::trailers(reply::trailers(Code::ResourceExhausted, TEXT))),
            reply::Kind::Http => Err(TEXT.into()),
        }
    }

    fn flag(&self) {
        if let Some(exchange) = &self.exchange {
            exchange.flag(Flags::TOO_LARGE);
        }
    }
}

/// Tells the reply's side that the request's body has grown too big.
#[derive(Debug, Default)]
struct Trip {
    tripped: AtomicBool,
    waker: AtomicWaker,
}

impl Trip {
    fn trip(&self) {
        self.tripped.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn has_tripped(&self) -> bool {
        self.tripped.load(Ordering::Acquire)
    }
}

/// A request's body that ends with an error once it is too big.
struct Counted {
    body: Body,
    left: u64,
    trip: Arc<Trip>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(task));
        let size = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) | None => 0,
        };
        match self.left.checked_sub(size) {
            Some(left) => {
                self.left = left;
                Poll::Ready(frame)
            }
            None => {
                self.body = Body::empty();
                self.trip.trip();
                Poll::Ready(Some(Err(TEXT.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a reply that ends when the request's body has grown too big.
struct Guarded {
    body: Body,
    trip: Arc<Trip>,
    /// Taken when it was given.
    refusal: Option<Refusal>,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.trip.waker.register(task.waker());
        // The service may read the request only now, and end its reply for what it meets there.
        let frame = match self.trip.has_tripped() {
            true => Poll::Pending,
            false => Pin::new(&mut self.body).poll_frame(task),
        };
        let tripped = self.trip.has_tripped();
        match self.refusal.take_if(|_| tripped) {
            Some(refusal) => {
                self.body = Body::empty();
                Poll::Ready(Some(refusal.break_off()))
            }
            None if tripped => Poll::Ready(None),
            None => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
