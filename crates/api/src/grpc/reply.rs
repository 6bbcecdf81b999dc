//! The answer to a call: keeps its deadline, words framework errors, and counts how it ended.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::{Code, Status, body::Body};

use super::{framework, trace::Span};
use crate::metrics::MethodMetrics;

pub(super) type Answering = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// The answer to a call, to be awaited.
pub struct Reply(State);

enum State {
    Known(Option<Response<Body>>),
    Awaited { answer: Answering, call: Option<Call>, streams: bool },
}

impl Reply {
    pub(super) fn now(response: Response<Body>) -> Self {
        Self(State::Known(Some(response)))
    }

    pub(super) fn refused(status: Status) -> Self {
        Self::now(status.into_http())
    }

    pub(super) fn awaited(answer: Answering, call: Call, streams: bool) -> Self {
        Self(State::Awaited { answer, call: Some(call), streams })
    }
}

impl Future for Reply {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Known(response) => {
                Poll::Ready(Ok(response.take().expect("invariant: a future is not polled after it is done")))
            }
            State::Awaited { answer, call, streams } => {
                let answered = answer.as_mut().poll(cx);
                let mut expired = || call.as_mut().is_some_and(|call| call.poll_deadline(cx).is_ready());
                let mut response = match answered {
                    Poll::Ready(Ok(response)) => response,
                    Poll::Ready(Err(never)) => match never {},
                    Poll::Pending if expired() => deadline_exceeded().into_http(),
                    Poll::Pending => return Poll::Pending,
                };
                let call = call.take().expect("invariant: a future is not polled after it is done");
                let status = code(response.headers());
                if status.is_some() {
                    framework::reword_answer(response.headers_mut());
                }
                Poll::Ready(Ok(match code(response.headers()) {
                    Some(code) => call.over(code, response),
                    None if *streams => response.map(|body| Body::new(Streamed { body, call: Some(call) })),
                    None => call.over(Code::Ok, response),
                }))
            }
        }
    }
}

fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

/// The code in `headers`; an answer with messages has it in its trailers instead.
fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

/// A call under way. Dropping it counts as cancelled.
pub(super) struct Call {
    metrics: Arc<[MethodMetrics]>,
    index: usize,
    begun: Instant,
    deadline: Option<Pin<Box<Sleep>>>,
    span: Option<Box<dyn Span>>,
    counted: bool,
}

impl Call {
    pub(super) fn new(
        metrics: &Arc<[MethodMetrics]>,
        index: usize,
        timeout: Option<Duration>,
        span: Option<Box<dyn Span>>,
    ) -> Self {
        let deadline = timeout.map(|timeout| Box::pin(sleep(timeout)));
        Self { metrics: Arc::clone(metrics), index, begun: Instant::now(), deadline, span, counted: false }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.deadline.as_mut().map_or(Poll::Pending, |deadline| deadline.as_mut().poll(cx))
    }

    fn over(mut self, code: Code, response: Response<Body>) -> Response<Body> {
        self.count(code);
        response
    }

    fn count(&mut self, code: Code) {
        if std::mem::replace(&mut self.counted, true) {
            return;
        }
        if let Some(metrics) = self.metrics.get(self.index) {
            metrics.record(self.begun.elapsed(), code);
        }
        if let Some(span) = self.span.take() {
            span.end(code);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.count(Code::Cancelled);
    }
}

/// The messages of a streaming answer, up to the trailers that say how the call ended.
struct Streamed {
    body: Body,
    call: Option<Call>,
}

impl Streamed {
    fn end(&mut self, code: Code) {
        if let Some(mut call) = self.call.take() {
            call.count(code);
        }
    }
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let Some(call) = &mut self.call else { return polled };
        if polled.is_pending() {
            ready!(call.poll_deadline(cx));
            self.end(Code::DeadlineExceeded);
            self.body = Body::empty();
            let mut trailers = HeaderMap::new();
            let written = deadline_exceeded().add_header(&mut trailers);
            return Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))));
        }
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            let code = code(trailers).unwrap_or(Code::Unknown);
            self.end(code);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
