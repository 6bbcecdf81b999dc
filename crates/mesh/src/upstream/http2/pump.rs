//! Sends the body of a request as fast as the host takes it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as HttpBody;

use super::{
    super::{Failure, Fault},
    life::TwoWay,
};
use crate::body::Body;

/// A request's body on its way. Dropped before the end, it resets the stream.
#[derive(Debug)]
pub(super) struct Pump {
    stream: SendStream<Bytes>,
    body: Body,
    /// Read already, waiting for room; and whether it is the last.
    next: Option<(Bytes, bool)>,
    /// Bytes sent.
    sent: usize,
    two_way: Arc<TwoWay>,
}

/// From how many bytes on a request that is not at its end may go on beside its reply.
const LONG: usize = 32 * 1024;

impl Pump {
    pub(super) fn new(stream: SendStream<Bytes>, body: Body, two_way: Arc<TwoWay>) -> Self {
        Self {
            stream,
            body,
            next: None,
            sent: 0,
            two_way,
        }
    }

    /// Ready when all is sent, or when the host wants no more: what it answers tells whether that
    /// is an error. An error is the body's own.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            if self.next.is_some() && !ready!(self.poll_room(cx)) {
                return Poll::Ready(Ok(()));
            }
            if let Some((data, last)) = self.next.take() {
                self.sent = self.sent.saturating_add(data.len());
                if self.sent >= LONG && !last {
                    self.two_way.begin();
                }
                if self.stream.send_data(data, last).is_err() || last {
                    return Poll::Ready(Ok(()));
                }
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return self.poll_reset(cx),
            };
            match frame {
                None => {
                    // The host may have reset the stream: its answer tells.
                    drop(self.stream.send_data(Bytes::new(), true));
                    return Poll::Ready(Ok(()));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.next = Some((data, self.body.is_end_stream())),
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            drop(self.stream.send_trailers(trailers));
                            return Poll::Ready(Ok(()));
                        }
                    }
                },
                Some(Err(error)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Failure::new(Fault::Request, error)));
                }
            }
        }
    }

    /// Whether there is room; false: there will never be.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let (data, last) = self.next.as_ref().expect("invariant: asked with data at hand");
        if data.is_empty() && *last {
            return Poll::Ready(true);
        }
        if self.stream.capacity() > 0 {
            return Poll::Ready(true);
        }
        // One byte of room is enough, as h2 keeps what is over: one frame at most.
        self.stream.reserve_capacity(1);
        loop {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                Some(Ok(_)) => return Poll::Ready(true),
                Some(Err(_)) | None => return Poll::Ready(false),
            }
        }
    }

    /// Waits for the body; meanwhile the host may give up.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.stream.poll_reset(cx).map(|_| Ok(()))
    }
}
