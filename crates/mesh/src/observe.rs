//! Observes the exchanges of a listener: counts them, writes access logs, records spans. It stands
//! outside all filters, so that it sees refusals too, and costs one allocation per reply with a body.

mod body;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use http::{Method, StatusCode};
use http_body::Body as HttpBody;

use self::body::{Received, Sent};
use crate::{
    access_log::{Log, Notes},
    body::Body,
    connection::Info,
    exchange::{Exchange, Flags},
    filter::{Filter, Next, Phase, Request, Response},
    metrics::{Downstream, Outcome},
    trace::{self, Tracer},
    variable::{End, processing},
};

/// What nginx made the custom for a client that left before it was answered.
const CLIENT_LEFT: u16 = 499;

/// The observer of one listener; clones share it.
#[derive(Clone)]
pub struct Observer(Arc<Inner>);

struct Inner {
    listener: Arc<str>,
    counters: Arc<Downstream>,
    logs: Vec<Log>,
    tracer: Option<Arc<dyn Tracer>>,
    counts_requests: bool,
}

/// An exchange that is under way. Dropped before its end, it counts as cut by the client.
pub struct Span {
    observer: Observer,
    exchange: Exchange,
    notes: Vec<Notes>,
    trace: Option<Box<dyn trace::Span>>,
    method: Method,
    status: Option<u16>,
    grpc_status: Option<u16>,
    sent: u64,
    ended: bool,
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Whole,
    /// The client, or whoever read it, went away.
    Left,
    Failed,
}

impl Observer {
    /// Observes `listener`: counts into `counters`, writes `logs`, and records with `tracer`.
    pub fn new(
        listener: impl Into<Arc<str>>,
        counters: Arc<Downstream>,
        logs: Vec<Log>,
        tracer: Option<Arc<dyn Tracer>>,
    ) -> Self {
        Self(Arc::new(Inner {
            listener: listener.into(),
            counters,
            counts_requests: logs.iter().any(Log::needs_request_body),
            logs,
            tracer,
        }))
    }

    /// An exchange begins. The request goes on to the chain, whose reply goes to
    /// [`Span::reply`]. A request without an [`Exchange`] gets one.
    pub fn begin(&self, request: Request) -> (Request, Span) {
        self.0.counters.begin();
        let (mut head, body) = request.into_parts();
        let exchange = match Exchange::of(&head.extensions) {
            Some(exchange) => exchange.clone(),
            None => {
                let connection = Info::of(&head.extensions).cloned();
                let exchange = Exchange::begin(Arc::clone(&self.0.listener), connection);
                head.extensions.insert(exchange.clone());
                exchange
            }
        };
        // Logs first: they tell of the request as it came.
        let notes = self.0.logs.iter();
        let notes = notes.map(|log| log.begin(&head, &exchange)).collect();
        let tracer = self.0.tracer.as_ref();
        let trace = tracer.and_then(|tracer| tracer.begin(&mut head, &exchange));
        let body = self.receive(body, &exchange);
        let span = Span {
            observer: self.clone(),
            exchange,
            notes,
            trace,
            method: head.method.clone(),
            status: None,
            grpc_status: None,
            sent: 0,
            ended: false,
        };
        (Request::from_parts(head, body), span)
    }

    /// Observes one exchange from its request to its reply.
    pub async fn observe<F>(&self, request: Request, chain: impl FnOnce(Request) -> F) -> Response
    where
        F: Future<Output = Response>,
    {
        let (request, span) = self.begin(request);
        span.reply(chain(request).await)
    }

    /// Counts the request's body. One that says its length is believed, unless a log tells when
    /// its end came.
    fn receive(&self, body: Body, exchange: &Exchange) -> Body {
        if body.is_end_stream() {
            if self.0.counts_requests {
                exchange.facts().request_received = Some(exchange.elapsed());
            }
            return body;
        }
        match body.size_hint().exact() {
            Some(length) if !self.0.counts_requests => {
                exchange.facts().bytes_received = length;
                body
            }
            _ => Body::new(Received::new(body, exchange.clone())),
        }
    }
}

impl Filter for Observer {
    fn phase(&self) -> Phase {
        Phase::BeforeRoute
    }

    fn call<'a>(&'a self, request: Request, next: Next<'a>) -> BoxFuture<'a, Response> {
        Box::pin(self.observe(request, move |request| next.run(request)))
    }
}

impl Span {
    /// The head of the reply is there. The exchange ends with its body, or with its tunnel.
    pub fn reply(mut self, response: Response) -> Response {
        let (head, body) = response.into_parts();
        self.status = Some(head.status.as_u16());
        self.grpc_status = body::grpc_status(&head.headers);
        for (log, notes) in self.observer.0.logs.iter().zip(&mut self.notes) {
            log.reply(notes, &head);
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS || self.method == Method::CONNECT {
            let tunnel = self.exchange.facts().tunnel.take();
            if let Some(tunnel) = tunnel {
                tokio::spawn(async move {
                    // Sent or dropped: the tunnel is closed.
                    tunnel.await.unwrap_or_default();
                    self.end(Ending::Whole);
                });
                return Response::from_parts(head, body);
            }
        }
        let bodiless = self.method == Method::HEAD
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if bodiless || body.is_end_stream() {
            self.end(Ending::Whole);
            return Response::from_parts(head, body);
        }
        Response::from_parts(head, Body::new(Sent::new(body, self)))
    }

    fn end(&mut self, ending: Ending) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.exchange.elapsed();
        let outcome = self.outcome(ending, took);
        self.observer.0.counters.end(&outcome);
        let status = outcome.status.unwrap_or(CLIENT_LEFT);
        let end = End { status, took };
        for (log, notes) in self.observer.0.logs.iter().zip(&self.notes) {
            log.end(notes, &self.exchange, end);
        }
        if let Some(trace) = self.trace.take() {
            trace.end(&trace::Ended {
                status,
                grpc_status: self.grpc_status,
                failed: outcome.failed || outcome.reset,
                took,
                exchange: &self.exchange,
            });
        }
    }

    /// Completes the facts, and sums them up.
    fn outcome(&self, ending: Ending, took: Duration) -> Outcome {
        let mut facts = self.exchange.facts();
        facts.bytes_sent += self.sent;
        if ending == Ending::Left {
            facts.flags.insert(Flags::DOWNSTREAM_TERMINATE);
        }
        // A delay that was asked for is no failure.
        let failed = facts.flags.0 & !Flags::DELAY.0 & !Flags::DOWNSTREAM_TERMINATE.0 != 0;
        Outcome {
            status: self.status.or(Some(CLIENT_LEFT)),
            reset: ending != Ending::Whole,
            failed: failed || ending == Ending::Failed,
            took,
            processing: processing(facts.request_received, facts.response_received, took),
            bytes_read: facts.bytes_received,
            bytes_written: facts.bytes_sent,
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.end(Ending::Left);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("listener", &self.0.listener)
            .field("logs", &self.0.logs.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Span")
            .field("status", &self.status)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
