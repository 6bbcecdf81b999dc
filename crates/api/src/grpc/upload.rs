//! A request body that remembers how it ended.
//!
//! hyper and tonic both hand a stream that its client cancelled to the server as one that ended
//! well. For a file that would mean to store half of it, so PutFile asks [`Ending`].

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Whether a request body ended before its client closed it; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending(Arc<AtomicBool>);

impl Ending {
    /// The client went away in the middle.
    pub(super) fn is_broken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A request body, watched where somebody wants to know its ending.
pub(super) struct Upload<B> {
    body: B,
    ending: Option<Ending>,
}

impl<B> Upload<B> {
    pub(super) fn new(body: B, ending: Option<Ending>) -> Self {
        Self { body, ending }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Upload<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(ending) = &self.ending
            && !matches!(frame, Some(Ok(_)))
            && (frame.is_some() || !self.body.is_end_stream())
        {
            ending.0.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
