//! The stream filter `proxywasm`: a Proxy-Wasm plug-in that proxied requests and their replies pass.

mod body;
mod head;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Version};
use http_body::Body as _;
use layotto_mesh::{
    body::Body,
    filter::{Filter, Next, Phase, Request, Response},
    reply::{self, Code, Kind},
};
use layotto_wasm::{CallError, Exchange, Reply, Stop};

use self::body::{Filtered, Kept};
use super::{
    convert::{code_of, fields, protocol, pseudo, source},
    filter::respond,
};

/// The filter.
pub struct ProxyWasm(layotto_wasm::Filter);

impl ProxyWasm {
    /// Through a plug-in. While that is not loaded, nothing passes; when it is removed, what came
    /// before passes still.
    pub fn new(filter: layotto_wasm::Filter) -> Self {
        Self(filter)
    }

    async fn pass(&self, request: Request, next: Next<'_>) -> Response {
        let kind = Kind::of(request.headers());
        match self.filtered(request, next).await {
            Ok(response) => response,
            Err(Stop::Reply(local)) => answered(kind, local),
            Err(Stop::Failed(error)) => self.failed(kind, &error),
        }
    }

    async fn filtered(&self, request: Request, next: Next<'_>) -> Result<Response, Stop> {
        let kind = Kind::of(request.headers());
        let (head, body) = request.into_parts();
        let seen = layotto_wasm::Request {
            headers: pseudo(&head).into_iter().chain(fields(&head.headers)).collect(),
            body: Bytes::new(),
            trailers: None,
            source: source(&head),
            protocol: protocol(head.version),
        };
        let exchange = self.0.exchange(seen, body.is_end_stream()).await;
        let mut exchange = exchange.map_err(Stop::Failed)?;
        let response = match forward(Request::from_parts(head, body), &mut exchange, next).await {
            Ok(response) => response,
            // As with Envoy: what the guest answers to a request is a reply like any other.
            Err(Stop::Reply(local)) => answered(kind, local),
            Err(failed) => return Err(failed),
        };
        self.reply(response, exchange).await
    }

    /// Lets the reply pass the guest.
    async fn reply(&self, response: Response, mut exchange: Exchange) -> Result<Response, Stop> {
        let (mut head, body) = response.into_parts();
        let ends = body.is_end_stream();
        let status = Bytes::copy_from_slice(head.status.as_str().as_bytes());
        let seen = [(Bytes::from_static(b":status"), status)]
            .into_iter()
            .chain(fields(&head.headers))
            .collect();
        let passed = exchange.respond(seen, ends).await?;
        let lane = exchange.response_body().filter(|_| !ends);
        head::edit_response(&mut head, &passed, lane.is_some()).map_err(wrong)?;
        let body = match lane {
            Some(lane) => Body::new(Filtered::new(body, lane, Some((exchange, self.0.name().clone())))),
            None if ends => body,
            None => Body::new(Kept::new(body, exchange)),
        };
        Ok(Response::from_parts(head, body))
    }

    fn failed(&self, kind: Kind, error: &CallError) -> Response {
        log(self.0.name(), error);
        let code = match error.status() {
            413 if kind == Kind::Http => {
                let mut response = reply::refuse(kind, Code::OutOfRange, &error.to_string());
                *response.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE;
                return response.map(Body::new);
            }
            413 => Code::ResourceExhausted,
            503 => Code::Unavailable,
            504 => Code::DeadlineExceeded,
            _ => Code::Internal,
        };
        let text = match error {
            // The name of the plug-in is none of the caller's business.
            CallError::Missing(_) => "a filter is not loaded".to_owned(),
            error => error.to_string(),
        };
        reply::refuse(kind, code, &text).map(Body::new)
    }
}

impl Filter for ProxyWasm {
    /// What a guest makes of a request decides on its route.
    fn phase(&self) -> Phase {
        Phase::BeforeRoute
    }

    fn call<'a>(&'a self, request: Request, next: Next<'a>) -> BoxFuture<'a, Response> {
        Box::pin(self.pass(request, next))
    }
}

/// Lets the request pass the guest, and then the others.
async fn forward(request: Request, exchange: &mut Exchange, next: Next<'_>) -> Result<Response, Stop> {
    let (mut head, body) = request.into_parts();
    let ends = body.is_end_stream();
    let passed = exchange.request().await?;
    let lane = exchange.request_body().filter(|_| !ends);
    head::edit_request(&mut head, &passed, lane.is_some()).map_err(wrong)?;
    let body = match lane {
        Some(lane) => Body::new(Filtered::new(body, lane, None)),
        None => body,
    };
    let response = tokio::select! {
        biased;
        stop = exchange.stopped() => return Err(stop),
        response = next.run(Request::from_parts(head, body)) => response,
    };
    // What the guest ended may have ended the request, too.
    exchange.has_stopped().map_or(Ok(response), Err)
}

fn log(filter: &str, error: &CallError) {
    match error {
        CallError::Trapped(trap) => tracing::error!(filter, %trap, "the filter failed"),
        error => tracing::warn!(filter, %error, "the filter stopped an exchange"),
    }
}

/// A head that is none of HTTP's.
fn wrong(text: &'static str) -> Stop {
    tracing::warn!("a filter left {text}");
    Stop::Reply(Reply {
        status: 500,
        body: Bytes::from_static(text.as_bytes()),
        ..Reply::default()
    })
}

/// The guest's own answer; callers that speak gRPC get it as a status, with the body as its message.
fn answered(kind: Kind, local: Reply) -> Response {
    if kind == Kind::Http {
        return respond(local);
    }
    let text = String::from_utf8_lossy(&local.body).into_owned();
    let number = local.grpc_status.unwrap_or_else(|| code_of(local.status) as u32);
    let mut response = reply::refuse(kind, Code::Unknown, &text).map(Body::new);
    response
        .headers_mut()
        .insert("grpc-status", HeaderValue::from(number));
    super::convert::put(response.headers_mut(), &head::without_content_type(local.headers));
    *response.version_mut() = Version::HTTP_2;
    response
}
