//! The body of a reply on its way to the client, with what is held until it has ended.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{flight::Flight, timing::Timing};
use crate::{
    BoxError,
    body::Body,
    cluster::Permit,
    exchange::{Exchange, Flags},
    reply::{Code, Kind, trailers},
    upstream::ReplyBody,
};

/// What a request holds until its reply has ended.
#[derive(Debug)]
pub(super) struct Guards {
    _request: Permit,
    /// The try that was answered.
    pub(super) flight: Flight,
    _retry: Option<Permit>,
}

/// See the module.
#[derive(Debug)]
struct Guarded {
    /// `None` after the end.
    inner: Option<(ReplyBody, Guards)>,
    exchange: Exchange,
    kind: Kind,
    /// How long it may stand still.
    stall: Option<Duration>,
    deadline: Option<Instant>,
    moved: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Guards {
    pub(super) fn new(request: Permit, flight: Flight, retry: Option<Permit>) -> Self {
        Self {
            _request: request,
            flight,
            _retry: retry,
        }
    }
}

/// The body for the client. A reply that is all there holds nothing any more.
pub(super) fn body(
    body: ReplyBody,
    mut guards: Guards,
    timing: &Timing,
    kind: Kind,
    exchange: &Exchange,
) -> Body {
    if body.is_whole() {
        guards.flight.end();
    }
    match body {
        ReplyBody::Empty => Body::empty(),
        ReplyBody::Whole(body) => Body::from(body),
        body => Body::new(Guarded {
            inner: Some((body, guards)),
            exchange: exchange.clone(),
            kind,
            stall: timing.stall(),
            deadline: timing.deadline(),
            moved: None,
            timer: None,
        }),
    }
}

impl Guarded {
    /// Ready when the time is over.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(due) = self.due() else {
                return Poll::Pending;
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            ready!(timer.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            // It moved since the timer was set.
            self.timer = None;
        }
    }

    fn due(&mut self) -> Option<Instant> {
        let stalled = self
            .stall
            .map(|stall| *self.moved.get_or_insert_with(Instant::now) + stall);
        [stalled, self.deadline].into_iter().flatten().min()
    }

    /// Ends the body before its time: gRPC has a word for that, HTTP can only break off.
    fn break_off(
        &mut self,
        flags: Flags,
        code: Code,
        error: impl Into<BoxError>,
    ) -> Option<Result<Frame<Bytes>, BoxError>> {
        self.inner = None;
        self.exchange.flag(flags);
        let error = error.into();
        match self.kind {
            Kind::Grpc => Some(Ok(Frame::trailers(trailers(code, "the reply broke off")))),
            Kind::Http => Some(Err(error)),
        }
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some((body, guards)) = &mut this.inner else {
            return Poll::Ready(None);
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.moved = None;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                guards.flight.end();
                this.inner = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                guards.flight.lose();
                let flags = Flags::CONNECTION_TERMINATION;
                Poll::Ready(this.break_off(flags, Code::Unavailable, error))
            }
            Poll::Pending => {
                ready!(this.poll_timer(cx));
                if let Some((_, guards)) = &this.inner {
                    guards.flight.time_out();
                }
                let flags = Flags::UPSTREAM_TIMEOUT;
                Poll::Ready(this.break_off(
                    flags,
                    Code::DeadlineExceeded,
                    "the reply stood still for too long",
                ))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let none = SizeHint::with_exact(0);
        self.inner.as_ref().map_or(none, |(body, _)| body.size_hint())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Whoever reads need not ask again once it is told that the end is there.
        if let Some((body, guards)) = &mut self.inner
            && body.is_end_stream()
        {
            guards.flight.end();
        }
    }
}
