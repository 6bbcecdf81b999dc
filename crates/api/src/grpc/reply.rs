//! The answer to a call: words framework errors, and counts how the call ended.

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
use tonic::{Code, Status, body::Body};

use super::{framework, trace::Span};
use crate::metrics::MethodMetrics;

pub(super) type Answering = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// The answer to a call, to be awaited.
pub struct Reply(State);

enum State {
    Known(Option<Response<Body>>),
    Awaited {
        answer: Answering,
        call: Option<Call>,
        streams: bool,
    },
}

impl Reply {
    pub(super) fn now(response: Response<Body>) -> Self {
        Self(State::Known(Some(response)))
    }

    pub(super) fn refused(status: Status) -> Self {
        Self::now(status.into_http())
    }

    pub(super) fn awaited(answer: Answering, call: Call, streams: bool) -> Self {
        Self(State::Awaited {
            answer,
            call: Some(call),
            streams,
        })
    }
}

impl Future for Reply {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Known(response) => Poll::Ready(Ok(response
                .take()
                .expect("invariant: a future is not polled after it is done"))),
            State::Awaited {
                answer,
                call,
                streams,
            } => {
                let mut response = match ready!(answer.as_mut().poll(cx)) {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                let call = call
                    .take()
                    .expect("invariant: a future is not polled after it is done");
                if response.headers().contains_key(Status::GRPC_STATUS) {
                    framework::reword_answer(response.headers_mut());
                }
                Poll::Ready(Ok(match code(response.headers()) {
                    Some(code) => call.over(code, response),
                    None if *streams => response.map(|body| {
                        Body::new(Streamed {
                            body,
                            call: Some(call),
                        })
                    }),
                    None => call.over(Code::Ok, response),
                }))
            }
        }
    }
}

/// The code in `headers`; an answer with messages has it in its trailers instead.
fn code(headers: &HeaderMap) -> Option<Code> {
    headers
        .get(Status::GRPC_STATUS)
        .map(|code| Code::from_bytes(code.as_bytes()))
}

/// A call under way. Dropping it counts as cancelled, or as late where its deadline has passed:
/// whoever keeps the deadline drops the answer then.
pub(super) struct Call {
    metrics: Arc<[MethodMetrics]>,
    index: usize,
    begun: Instant,
    timeout: Option<Duration>,
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
        Self {
            metrics: Arc::clone(metrics),
            index,
            begun: Instant::now(),
            timeout,
            span,
            counted: false,
        }
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
        let is_late = self
            .timeout
            .is_some_and(|timeout| self.begun.elapsed() >= timeout);
        self.count(if is_late {
            Code::DeadlineExceeded
        } else {
            Code::Cancelled
        });
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
