//! Bodies that pass a guest, piece by piece.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use layotto_mesh::{BoxError, body::Body};
use layotto_wasm::{Exchange, Lane, Piece, Stop};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::super::convert::{fields, put};

/// A body as the guest lets it pass. It is read no faster than what passed is taken.
pub struct Filtered {
    inner: Body,
    /// Where the pieces of `inner` go, until it has ended.
    into: Option<PollSender<Piece>>,
    out: mpsc::Receiver<Piece>,
    ended: bool,
    /// Of a reply's body, as whose end it ends; with the name of the filter.
    exchange: Option<(Exchange, Arc<str>)>,
}

impl Filtered {
    /// `inner` by way of `lane`; `exchange`, of the filter of that name, ends with it.
    pub fn new(inner: Body, lane: Lane, exchange: Option<(Exchange, Arc<str>)>) -> Self {
        Self {
            inner,
            into: Some(PollSender::new(lane.into)),
            out: lane.out,
            ended: false,
            exchange,
        }
    }

    /// Hands a piece of the inner body to the guest. `Ready(Ok)`: there may be more to be done.
    fn poll_feed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let Some(into) = &mut self.into else {
            return Poll::Pending;
        };
        if ready!(into.poll_reserve(cx)).is_err() {
            // The guest has ended: what came out of it says how.
            self.into = None;
            return Poll::Ready(Ok(()));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx)).transpose()?;
        let piece = piece(frame, self.inner.is_end_stream());
        let last = is_last(&piece);
        // The place is reserved: the piece is lost only with the guest.
        drop(into.send_item(piece));
        if last {
            self.into = None;
        }
        Poll::Ready(Ok(()))
    }

    fn came_out(&mut self, piece: Option<Piece>) -> Option<Result<Frame<Bytes>, BoxError>> {
        let Some(piece) = piece else {
            self.ended = true;
            if let Some((exchange, name)) = &mut self.exchange
                && let Some(Stop::Failed(error)) = exchange.has_stopped()
            {
                super::log(name, &error);
            }
            return Some(Err(io::Error::other("a filter broke the body off").into()));
        };
        self.ended = is_last(&piece);
        match piece {
            Piece::Data { bytes, .. } if bytes.is_empty() => None,
            Piece::Data { bytes, .. } => Some(Ok(Frame::data(bytes))),
            Piece::Trailers(list) if list.0.is_empty() => None,
            Piece::Trailers(list) => {
                let mut trailers = HeaderMap::new();
                put(&mut trailers, &list);
                Some(Ok(Frame::trailers(trailers)))
            }
        }
    }
}

fn piece(frame: Option<Frame<Bytes>>, last: bool) -> Piece {
    let Some(frame) = frame else {
        return Piece::Data {
            bytes: Bytes::new(),
            last: true,
        };
    };
    match frame.into_data() {
        Ok(bytes) => Piece::Data { bytes, last },
        Err(frame) => match frame.into_trailers() {
            Ok(trailers) => Piece::Trailers(fields(&trailers).collect()),
            Err(_) => Piece::Data {
                bytes: Bytes::new(),
                last,
            },
        },
    }
}

fn is_last(piece: &Piece) -> bool {
    !matches!(piece, Piece::Data { last: false, .. })
}

impl HttpBody for Filtered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        while !this.ended {
            if let Poll::Ready(piece) = this.out.poll_recv(cx) {
                match this.came_out(piece) {
                    Some(frame) => return Poll::Ready(Some(frame)),
                    None => continue,
                }
            }
            if let Err(error) = ready!(this.poll_feed(cx)) {
                this.ended = true;
                return Poll::Ready(Some(Err(error)));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// A body that the guest does not look at; it hears of its end.
pub struct Kept {
    inner: Body,
    /// Until the body has ended.
    exchange: Option<Exchange>,
}

impl Kept {
    /// `exchange` ends with `inner`.
    pub fn new(inner: Body, exchange: Exchange) -> Self {
        Self {
            inner,
            exchange: Some(exchange),
        }
    }
}

impl HttpBody for Kept {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        // Who knows of the end does not ask once more.
        let ended = frame.is_none() || this.inner.is_end_stream();
        if let Some(exchange) = this.exchange.take_if(|_| ended) {
            exchange.finish();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
