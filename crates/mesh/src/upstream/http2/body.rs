//! The body of an HTTP/2 reply.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::link::Place;

/// Reads the reply. Dropped before its end, it resets the stream.
#[derive(Debug)]
pub struct Body {
    stream: RecvStream,
    /// Bytes to come, where the reply told.
    left: Option<u64>,
    /// The rest of the request, of no use after the reply.
    rest: Option<JoinHandle<()>>,
    data_done: bool,
    place: Place,
}

impl Body {
    pub(super) fn new(
        stream: RecvStream,
        left: Option<u64>,
        rest: Option<JoinHandle<()>>,
        place: Place,
    ) -> Self {
        Self {
            stream,
            left,
            rest,
            data_done: false,
            place,
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let data = ready!(self.stream.poll_data(cx));
        if let Some(Ok(data)) = &data {
            self.stream.flow_control().release_capacity(data.len())?;
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        }
        Poll::Ready(data)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        while !self.data_done {
            match ready!(self.poll_data(cx)) {
                // Only the end of the stream came with it.
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Err(error)) => return Poll::Ready(unless_early(error)),
                None => self.data_done = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(unless_early(error)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let rest = self.rest.take().filter(|rest| !rest.is_finished());
        if self.stream.is_end_stream() && rest.is_none() {
            self.place.close();
        }
        if let Some(rest) = rest {
            rest.abort();
        }
    }
}

/// A reset without an error says that the reply is all there although the request was not read to
/// its end (RFC 9113, section 8.1).
fn unless_early<T>(error: h2::Error) -> Option<Result<T, h2::Error>> {
    match error.reason() {
        Some(Reason::NO_ERROR) if error.is_reset() => None,
        _ => Some(Err(error)),
    }
}
