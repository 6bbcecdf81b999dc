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

/// What a client is answered whose request made something panic.
const PANICKED: u16 = 500;

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
    pub fn begin(&self, mut request: Request) -> (Request, Span) {
        self.0.counters.begin();
        let exchange = self.exchange(&mut request);
        let mut span = Span {
            observer: self.clone(),
            exchange,
            notes: Vec::new(),
            trace: None,
            method: request.method().clone(),
            status: None,
            grpc_status: None,
            sent: 0,
            ended: false,
        };
        if self.0.reads_heads() {
            request = self.read(request, &mut span);
        }
        self.receive(request.body_mut(), &span.exchange);
        (request, span)
    }

    fn exchange(&self, request: &mut Request) -> Exchange {
        if let Some(exchange) = Exchange::of(request.extensions()) {
            return exchange.clone();
        }
        let connection = Info::of(request.extensions()).cloned();
        let exchange = Exchange::begin(Arc::clone(&self.0.listener), connection);
        request.extensions_mut().insert(exchange.clone());
        exchange
    }

    /// Notes what logs and spans need. Logs first: they tell of the request as it came.
    fn read(&self, request: Request, span: &mut Span) -> Request {
        let (mut head, body) = request.into_parts();
        let notes = self.0.logs.iter().map(|log| log.begin(&head, &span.exchange));
        span.notes = notes.collect();
        let tracer = self.0.tracer.as_ref();
        span.trace = tracer.and_then(|tracer| tracer.begin(&mut head, &span.exchange));
        Request::from_parts(head, body)
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
    fn receive(&self, body: &mut Body, exchange: &Exchange) {
        match body.size_hint().exact() {
            _ if body.is_end_stream() && self.0.counts_requests => {
                exchange.facts().request_received = Some(exchange.elapsed());
            }
            _ if body.is_end_stream() => {}
            Some(length) if !self.0.counts_requests => exchange.facts().bytes_received = length,
            _ => *body = Body::new(Received::new(std::mem::take(body), exchange.clone())),
        }
    }
}

impl Inner {
    fn reads_heads(&self) -> bool {
        !self.logs.is_empty() || self.tracer.is_some()
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
    pub fn reply(mut self, mut response: Response) -> Response {
        let status = response.status();
        self.status = Some(status.as_u16());
        if self.observer.0.reads_heads() {
            response = self.read(response);
        }
        let tunnels = status == StatusCode::SWITCHING_PROTOCOLS || self.method == Method::CONNECT;
        let tunnel = tunnels.then(|| self.exchange.facts().tunnel.take()).flatten();
        let bodiless = self.method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if let Some(tunnel) = tunnel {
            tokio::spawn(async move {
                // Sent or dropped: the tunnel is closed.
                tunnel.await.unwrap_or_default();
                self.end(Ending::Whole);
            });
        } else if bodiless || response.body().is_end_stream() {
            self.end(Ending::Whole);
        } else {
            let body = std::mem::take(response.body_mut());
            *response.body_mut() = Body::new(Sent::new(body, self));
        }
        response
    }

    /// Notes what logs and spans need.
    fn read(&mut self, response: Response) -> Response {
        let (head, body) = response.into_parts();
        self.grpc_status = body::grpc_status(&head.headers);
        for (log, notes) in self.observer.0.logs.iter().zip(&mut self.notes) {
            log.reply(notes, &head);
        }
        Response::from_parts(head, body)
    }

    fn end(&mut self, ending: Ending) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.exchange.elapsed();
        let outcome = self.outcome(ending, took);
        self.observer.0.counters.end(&outcome);
        let status = outcome.status;
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
            status: self.status.unwrap_or(CLIENT_LEFT),
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
        // A panic is answered further out, and is no fault of the client's.
        if std::thread::panicking() {
            self.status.get_or_insert(PANICKED);
            return self.end(Ending::Failed);
        }
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
