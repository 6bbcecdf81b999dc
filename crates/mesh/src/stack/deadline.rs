//! The deadline of a gRPC call: read from `grpc-timeout`, put among the request's extensions, and
//! kept. When it passes, the call's work is dropped and the caller gets DEADLINE_EXCEEDED.
//! A request without the header costs one look-up.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::{Layer, Service};

use crate::reply::{self, Code, Kind, refuse, trailers};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const TEXT: &str = "the deadline of the call has passed";

/// What stands for deadlines too far away for the clock.
const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);

/// When the caller stops waiting; among the extensions of requests that have a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// The deadline of a request, if it has one.
    pub fn of(extensions: &http::Extensions) -> Option<Self> {
        extensions.get().copied()
    }

    /// The time that is left; zero when the deadline has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Adds [`KeepDeadline`].
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer;

/// Ends calls at their deadline.
#[derive(Debug, Clone)]
pub struct KeepDeadline<S> {
    inner: S,
}

/// The layer.
pub fn layer() -> DeadlineLayer {
    DeadlineLayer
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = KeepDeadline<S>;

    fn layer(&self, inner: S) -> KeepDeadline<S> {
        KeepDeadline { inner }
    }
}

impl<S, R, B> Service<Request<R>> for KeepDeadline<S>
where
    S: Service<Request<R>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<reply::Body<Body<B>>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<R>) -> Self::Future {
        let timer = match timeout_of(&request) {
            None => Timer::default(),
            Some(Ok(timeout)) if !timeout.is_zero() => {
                let now = Instant::now();
                let deadline = now.checked_add(timeout).unwrap_or_else(|| now + FAR);
                request.extensions_mut().insert(Deadline(deadline));
                Timer {
                    deadline: Some(deadline),
                    sleep: None,
                }
            }
            Some(Ok(_)) => return ResponseFuture::refused(Code::DeadlineExceeded, TEXT),
            Some(Err(Malformed)) => return ResponseFuture::refused(Code::Internal, "malformed grpc-timeout"),
        };
        ResponseFuture {
            state: State::Called {
                inner: self.inner.call(request),
                timer,
            },
        }
    }
}

fn timeout_of<R>(request: &Request<R>) -> Option<Result<Duration, Malformed>> {
    let value = request.headers().get(&GRPC_TIMEOUT)?;
    (Kind::of(request.headers()) == Kind::Grpc).then(|| parse(value))
}

/// How long the caller of a call, which is gRPC, waits from now on; a malformed header says nothing.
pub(crate) fn of_headers(headers: &http::HeaderMap) -> Option<Duration> {
    parse(headers.get(&GRPC_TIMEOUT)?).ok()
}

/// The header breaks the protocol's rules.
#[derive(Debug, PartialEq, Eq)]
struct Malformed;

/// Reads one to eight digits and a unit.
fn parse(value: &HeaderValue) -> Result<Duration, Malformed> {
    let (unit, digits) = value.as_bytes().split_last().ok_or(Malformed)?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Ok(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return Err(Malformed),
    })
}

/// A deadline that is watched from the first time somebody waits: most calls end before that.
#[derive(Debug, Default)]
struct Timer {
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        sleep.as_mut().poll(cx)
    }
}

pin_project! {
    /// The reply, or the refusal at the deadline.
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Called { #[pin] inner: F, timer: Timer },
        Refused { code: Code, text: &'static str },
    }
}

impl<F> ResponseFuture<F> {
    fn refused(code: Code, text: &'static str) -> Self {
        Self {
            state: State::Refused { code, text },
        }
    }
}

impl<F, B> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<reply::Body<Body<B>>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (code, text) = match self.as_mut().project().state.project() {
            StateProj::Called { inner, timer } => match inner.poll(cx) {
                Poll::Ready(Ok(reply)) => {
                    let timer = std::mem::take(timer);
                    return Poll::Ready(Ok(reply.map(|body| reply::Body::inner(Body::new(body, timer)))));
                }
                Poll::Ready(Err(never)) => match never {},
                Poll::Pending => {
                    std::task::ready!(timer.poll(cx));
                    (Code::DeadlineExceeded, TEXT)
                }
            },
            StateProj::Refused { code, text } => (*code, *text),
        };
        // Drops the inner future now: the work ends with the deadline, not with the reply.
        self.project().state.set(State::Refused { code, text });
        Poll::Ready(Ok(refuse(Kind::Grpc, code, text).map(reply::Body::own)))
    }
}

pin_project! {
    /// A reply body that ends with DEADLINE_EXCEEDED at the deadline.
    #[derive(Debug)]
    pub struct Body<B> {
        #[pin]
        inner: Option<B>,
        timer: Timer,
    }
}

impl<B> Body<B> {
    fn new(inner: B, timer: Timer) -> Self {
        Self {
            inner: Some(inner),
            timer,
        }
    }
}

impl<B: HttpBody<Data = Bytes>> HttpBody for Body<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = inner.poll_frame(cx) {
            return Poll::Ready(frame);
        }
        std::task::ready!(this.timer.poll(cx));
        this.inner.set(None);
        Poll::Ready(Some(Ok(Frame::trailers(trailers(Code::DeadlineExceeded, TEXT)))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

#[cfg(test)]
mod tests;
