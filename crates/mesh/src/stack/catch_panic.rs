//! Keeps a panic within the request that caused it: the caller gets INTERNAL or 500, the log the
//! panic's text, and the other requests of the connection go on.

use std::{
    any::Any,
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    BoxError,
    reply::{self, Code, Kind, refuse, trailers},
};

const TEXT: &str = "internal error";

/// Adds [`CatchPanic`].
#[derive(Debug, Clone, Copy)]
pub struct CatchPanicLayer;

/// Answers a request whose handler panics.
#[derive(Debug, Clone)]
pub struct CatchPanic<S> {
    inner: S,
}

/// The layer.
pub fn layer() -> CatchPanicLayer {
    CatchPanicLayer
}

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> CatchPanic<S> {
        CatchPanic { inner }
    }
}

impl<S, R, B> Service<Request<R>> for CatchPanic<S>
where
    S: Service<Request<R>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<Body<B>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let kind = Kind::of(request.headers());
        let called = catch_unwind(AssertUnwindSafe(|| self.inner.call(request)));
        let inner = called.inspect_err(|panic| log(&**panic)).ok();
        ResponseFuture { inner, kind }
    }
}

pin_project! {
    /// The reply, or the refusal after a panic.
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Option<F>,
        kind: Kind,
    }
}

impl<F, B> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<Body<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let kind = *this.kind;
        let refusal =
            || refuse(kind, Code::Internal, TEXT).map(|body| Body::new(kind, reply::Body::own(body)));
        let Some(inner) = this.inner.as_pin_mut() else {
            return Poll::Ready(Ok(refusal()));
        };
        match catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(poll) => poll.map_ok(|reply| reply.map(|body| Body::new(kind, reply::Body::inner(body)))),
            Err(panic) => {
                log(&*panic);
                Poll::Ready(Ok(refusal()))
            }
        }
    }
}

pin_project! {
    /// A reply body that ends well-formed when the inner one panics: with the status INTERNAL over
    /// gRPC, else with an error, by which the connection is cut.
    #[derive(Debug)]
    pub struct Body<B> {
        #[pin]
        inner: reply::Body<B>,
        kind: Kind,
        panicked: bool,
    }
}

/// The reply's body panicked while it was sent.
#[derive(Debug, thiserror::Error)]
#[error("the reply's body panicked")]
struct Panicked;

impl<B> Body<B> {
    fn new(kind: Kind, inner: reply::Body<B>) -> Self {
        Self {
            inner,
            kind,
            panicked: false,
        }
    }
}

impl<B> HttpBody for Body<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        if *this.panicked {
            return Poll::Ready(None);
        }
        match catch_unwind(AssertUnwindSafe(|| this.inner.poll_frame(cx))) {
            Ok(poll) => poll.map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            Err(panic) => {
                log(&*panic);
                *this.panicked = true;
                Poll::Ready(Some(match this.kind {
                    Kind::Grpc => Ok(Frame::trailers(trailers(Code::Internal, TEXT))),
                    Kind::Http => Err(Panicked.into()),
                }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.panicked || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.panicked {
            SizeHint::with_exact(0)
        } else {
            self.inner.size_hint()
        }
    }
}

fn log(panic: &(dyn Any + Send)) {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(
        panic = text.unwrap_or("of unknown type"),
        "a request's handler panicked"
    );
}

#[cfg(test)]
mod tests;
