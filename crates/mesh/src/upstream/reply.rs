//! What a host answers.

use std::{
    any::Any,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::{Stream, http1, http2};
use crate::BoxError;

/// What a host answers.
#[derive(Debug)]
pub struct Reply {
    /// The head, as it came.
    pub head: response::Parts,
    /// The body; dropping it before its end cancels the request.
    pub body: ReplyBody,
    /// With status 101: the connection, which speaks another protocol now.
    pub upgraded: Option<Upgraded>,
}

/// The body of a reply.
#[derive(Debug)]
pub enum ReplyBody {
    /// No body.
    Empty,
    /// All that will come has come; the connection is not needed any more.
    Whole(Incoming),
    /// It comes over HTTP/1.1.
    Http1(http1::Body),
    /// It comes over HTTP/2.
    Http2(http2::Body),
}

/// A connection that speaks another protocol than HTTP from now on.
pub struct Upgraded {
    /// The bytes.
    pub stream: Stream,
    /// Those that came right after the head of the reply.
    pub first: Bytes,
    /// The connection's place in the limits.
    pub place: Box<dyn Any + Send>,
}

impl Reply {
    pub(super) fn new(head: response::Parts, body: ReplyBody) -> Self {
        Self {
            head,
            body,
            upgraded: None,
        }
    }
}

impl ReplyBody {
    pub(super) fn empty() -> Self {
        Self::Empty
    }

    /// Whether nothing is to be awaited from the host any more.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Empty | Self::Whole(_))
    }
}

impl HttpBody for ReplyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(body) => body.is_end_stream(),
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(body) => body.size_hint(),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

impl Upgraded {
    pub(super) fn new(stream: Stream, first: Bytes, place: impl Any + Send) -> Self {
        Self {
            stream,
            first,
            place: Box::new(place),
        }
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").field("stream", &self.stream).finish()
    }
}
