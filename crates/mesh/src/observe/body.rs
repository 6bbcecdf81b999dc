//! Bodies that are counted on their way.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Ending, Span};
use crate::{BoxError, body::Body, exchange::Exchange};

/// The body of a request, on its way in.
pub(super) struct Received {
    body: Body,
    exchange: Exchange,
}

impl Received {
    pub(super) fn new(body: Body, exchange: Exchange) -> Self {
        Self { body, exchange }
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let (bytes, last) = match &polled {
            Poll::Ready(Some(Ok(frame))) => (frame.data_ref().map_or(0, Bytes::len), frame.is_trailers()),
            Poll::Ready(None) => (0, true),
            Poll::Ready(Some(Err(_))) | Poll::Pending => return polled,
        };
        let ended = last || self.body.is_end_stream();
        let mut facts = self.exchange.facts();
        facts.bytes_received += bytes as u64;
        if ended {
            facts
                .request_received
                .get_or_insert_with(|| self.exchange.elapsed());
        }
        drop(facts);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a reply, on its way out.
pub(super) struct Sent {
    body: Body,
    span: Span,
    /// Its length, if that is known: a server does not ask for the end of such a body.
    length: Option<u64>,
}

impl Sent {
    pub(super) fn new(body: Body, span: Span) -> Self {
        let length = body.size_hint().exact();
        Self { body, span, length }
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => this.span.end(Ending::Whole),
            Poll::Ready(Some(Err(_))) => this.span.end(Ending::Failed),
            Poll::Ready(Some(Ok(frame))) => {
                this.span.sent += frame.data_ref().map_or(0, Bytes::len) as u64;
                if let Some(trailers) = frame.trailers_ref() {
                    this.span.grpc_status = grpc_status(trailers).or(this.span.grpc_status);
                }
                // Nothing follows trailers, so nobody may ask for more.
                if frame.is_trailers() || this.body.is_end_stream() {
                    this.span.end(Ending::Whole);
                }
            }
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

impl Drop for Sent {
    fn drop(&mut self) {
        if self.length == Some(self.span.sent) {
            self.span.end(Ending::Whole);
        }
    }
}

/// The number in `grpc-status`, if there is one.
pub(super) fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
