//! The body of a request, sent once or again: what was read is kept up to a limit, so that another
//! try can begin anew while the rest still comes in.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{BoxError, body::Body, upstream::Progress};

/// How many pieces of a body are kept: each takes more room than its bytes.
const MAX_PIECES: usize = 1024;

/// A request's body, for any number of tries.
#[derive(Debug)]
pub(super) enum Replay {
    /// There is none.
    Empty,
    /// It is shared with the try that sends it.
    Shared(Arc<Shared>),
}

#[derive(Debug)]
pub(super) struct Shared {
    progress: Progress,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    source: Body,
    kept: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// How many more bytes may be kept; `None`: some were not.
    room: Option<usize>,
    tries: u32,
    failed: bool,
}

/// The body of one try.
#[derive(Debug)]
struct Sending {
    shared: Arc<Shared>,
    next: usize,
    /// Data and trailers are sent.
    done: bool,
}

impl Replay {
    /// Keeps up to `limit` bytes of `body`.
    pub(super) fn new(body: Body, limit: usize) -> Self {
        if body.is_end_stream() {
            return Self::Empty;
        }
        let state = State {
            source: body,
            kept: Vec::new(),
            trailers: None,
            room: Some(limit),
            tries: 0,
            failed: false,
        };
        Self::Shared(Arc::new(Shared {
            progress: Progress::default(),
            state: Mutex::new(state),
        }))
    }

    /// The body for the next try; the one before is gone by then.
    pub(super) fn body(&self) -> Body {
        match self {
            Self::Empty => Body::empty(),
            Self::Shared(shared) => {
                shared.state().tries += 1;
                Body::new(Sending {
                    shared: shared.clone(),
                    next: 0,
                    done: false,
                })
            }
        }
    }

    /// Keeps nothing any more, as no other try follows.
    pub(super) fn release(&self) {
        if let Self::Shared(shared) = self {
            let mut state = shared.state();
            state.room = None;
            // What the only try read it has sent; a later one may still need it.
            if state.tries == 1 {
                state.kept = Vec::new();
            }
        }
    }

    /// How far it was read; `None`: there is nothing to read.
    pub(super) fn progress(&self) -> Option<&Progress> {
        match self {
            Self::Empty => None,
            Self::Shared(shared) => Some(&shared.progress),
        }
    }

    /// Whether it was read to its end.
    pub(super) fn is_read(&self) -> bool {
        self.progress().is_none_or(Progress::is_done)
    }

    /// Whether another try can send all of it.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Shared(shared) => {
                let state = shared.state();
                state.room.is_some() && !state.failed
            }
        }
    }

    /// Whether there is no body at all.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, data: &Bytes) {
        let room = self.room.filter(|_| self.kept.len() < MAX_PIECES);
        self.room = room.and_then(|room| room.checked_sub(data.len()));
        match self.room {
            Some(_) => self.kept.push(data.clone()),
            None => self.kept = Vec::new(),
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        progress: &Progress,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.source).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                progress.advance();
                if let Some(data) = frame.data_ref() {
                    self.keep(data);
                }
                self.trailers = frame.trailers_ref().cloned();
                if frame.is_trailers() || self.source.is_end_stream() {
                    progress.finish();
                }
            }
            Some(Err(_)) => self.failed = true,
            None => progress.finish(),
        }
        Poll::Ready(frame)
    }
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(None);
        }
        let mut state = this.shared.state();
        if let Some(data) = state.kept.get(this.next).cloned() {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if this.shared.progress.is_done() {
            this.done = true;
            let trailers = state.trailers.clone();
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(state.poll(cx, &this.shared.progress));
        this.next = state.kept.len();
        this.done = match &frame {
            Some(Ok(frame)) => frame.is_trailers(),
            _ => true,
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        if self.done {
            return true;
        }
        let state = self.shared.state();
        self.next >= state.kept.len() && state.trailers.is_none() && self.shared.progress.is_done()
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.shared.state();
        let kept = state.kept.iter().skip(self.next).map(Bytes::len).sum::<usize>() as u64;
        let rest = state.source.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(kept + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(kept + upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn chunks(chunks: &[&'static str]) -> Body {
        let trailers = HeaderMap::from_iter([("t".parse().unwrap(), "1".parse().unwrap())]);
        let frames = chunks
            .iter()
            .map(|data| Frame::data(Bytes::from_static(data.as_bytes())));
        let frames: Vec<Result<_, BoxError>> = frames.chain([Frame::trailers(trailers)]).map(Ok).collect();
        Body::new(StreamBody::new(stream::iter(frames)))
    }

    #[tokio::test]
    async fn a_try_that_broke_off_is_followed_by_the_whole_body() {
        let replay = Replay::new(chunks(&["one ", "two ", "three"]), 100);
        let mut first = replay.body();
        first.frame().await.unwrap().unwrap();
        first.frame().await.unwrap().unwrap();
        drop(first);
        assert!(replay.is_whole() && !replay.is_read());
        for _ in 0..2 {
            let whole = replay.body().collect().await.unwrap();
            assert_eq!(whole.trailers().unwrap()["t"], "1");
            assert_eq!(whole.to_bytes(), "one two three");
        }
        assert!(replay.is_read());
    }

    #[tokio::test]
    async fn a_body_over_the_limit_passes_and_is_sent_once() {
        let replay = Replay::new(chunks(&["12345", "6"]), 5);
        let mut first = replay.body();
        first.frame().await.unwrap().unwrap();
        assert!(replay.is_whole());
        assert_eq!(first.collect().await.unwrap().to_bytes(), "6");
        assert!(!replay.is_whole());
    }

    #[tokio::test]
    async fn a_body_that_is_released_goes_on_from_where_it_is() {
        for tries in [1, 2] {
            let replay = Replay::new(chunks(&["one ", "two ", "three"]), 100);
            let mut body = replay.body();
            body.frame().await.unwrap().unwrap();
            body.frame().await.unwrap().unwrap();
            if tries == 2 {
                body = replay.body();
            }
            replay.release();
            let rest = body.collect().await.unwrap().to_bytes();
            assert_eq!(rest, if tries == 1 { "three" } else { "one two three" });
            assert!(!replay.is_whole());
        }
    }

    #[tokio::test]
    async fn a_body_in_very_many_pieces_is_not_kept() {
        for (pieces, kept) in [(MAX_PIECES, true), (MAX_PIECES + 1, false)] {
            let replay = Replay::new(chunks(&vec!["x"; pieces]), 1 << 20);
            assert_eq!(replay.body().collect().await.unwrap().to_bytes().len(), pieces);
            assert_eq!(replay.is_whole(), kept, "{pieces}");
        }
    }

    #[tokio::test]
    async fn the_length_is_known_for_every_try() {
        let replay = Replay::new(Body::from("12345"), 100);
        assert_eq!(replay.body().size_hint().exact(), Some(5));
        let mut first = replay.body();
        first.frame().await.unwrap().unwrap();
        assert!(first.is_end_stream());
        assert_eq!(first.size_hint().exact(), Some(0));
        assert_eq!(replay.body().size_hint().exact(), Some(5));
        assert!(!replay.body().is_end_stream());
    }

    #[test]
    fn no_body_is_no_body_for_every_try() {
        let replay = Replay::new(Body::empty(), 0);
        assert!(replay.is_whole() && replay.is_read() && replay.body().is_end_stream());
    }
}
