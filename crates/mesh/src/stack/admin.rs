//! Who may use an administration surface: clients on this machine, and with a configured token
//! also those elsewhere that send it. Everybody else gets 403, or PERMISSION_DENIED over gRPC.
//!
//! Whoever forwards requests from other machines to such a listener makes them local.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Method, Request, Response, Uri, header::AUTHORIZATION};
use layotto_core::Secret;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    connection::Info,
    reply::{self, Code, Kind, refuse},
};

/// Carries the token, where `authorization` is not at hand.
const TOKEN_HEADER: &str = "layotto-admin-token";

/// What a client is told that the rule refuses.
pub const ADMIN_ONLY: &str = "only clients on this machine or with the admin token may do this";

/// The rule that an administration surface asks.
#[derive(Clone)]
pub struct Access {
    token: Option<Arc<Secret>>,
    guarded: fn(&Method, &Uri) -> bool,
}

impl Access {
    /// Guards every request. Clients on this machine need no token; without a `token` (or with an
    /// empty one) all others are refused.
    pub fn new(token: Option<&str>) -> Self {
        let token = token.filter(|token| !token.is_empty());
        Self {
            token: token.map(|token| Arc::new(Secret::new(token.to_owned()))),
            guarded: |_, _| true,
        }
    }

    /// Guards only the requests that `guarded` names; the others are open to everybody.
    #[must_use]
    pub fn only(mut self, guarded: fn(&Method, &Uri) -> bool) -> Self {
        self.guarded = guarded;
        self
    }

    /// The layer that refuses requests which the rule does not allow.
    pub fn layer(self) -> AccessLayer {
        AccessLayer(self)
    }

    /// Whether the rule allows a request.
    pub fn allows<R>(&self, request: &Request<R>) -> bool {
        !(self.guarded)(request.method(), request.uri())
            || Info::of(request.extensions()).is_some_and(|info| info.remote().is_local())
            || self
                .token
                .as_deref()
                .is_some_and(|token| presents(request.headers(), token))
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = if self.token.is_some() { "set" } else { "none" };
        f.debug_struct("Access")
            .field("token", &token)
            .finish_non_exhaustive()
    }
}

fn presents(headers: &HeaderMap, token: &Secret) -> bool {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.as_bytes().split_at_checked(b"bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
    });
    let own = headers.get(TOKEN_HEADER).map(|value| value.as_bytes());
    [bearer, own].into_iter().flatten().any(|given| token.is(given))
}

/// Adds [`Guarded`].
#[derive(Debug, Clone)]
pub struct AccessLayer(Access);

/// Serves only the requests that an [`Access`] allows.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    access: Access,
}

impl<S> Layer<S> for AccessLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            inner,
            access: self.0.clone(),
        }
    }
}

impl<S, R, B> Service<Request<R>> for Guarded<S>
where
    S: Service<Request<R>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<reply::Body<B>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let kind = Kind::of(request.headers());
        if self.access.allows(&request) {
            return ResponseFuture {
                inner: Some(self.inner.call(request)),
                kind,
            };
        }
        tracing::warn!(
            remote = Info::of(request.extensions()).map(|info| info.remote().to_string()),
            path = request.uri().path(),
            "administration refused"
        );
        ResponseFuture { inner: None, kind }
    }
}

pin_project! {
    /// The reply, or the refusal.
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
    type Output = Result<Response<reply::Body<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.inner.as_pin_mut() {
            Some(inner) => inner.poll(cx).map_ok(|reply| reply.map(reply::Body::inner)),
            None => {
                let refused = refuse(*this.kind, Code::PermissionDenied, ADMIN_ONLY);
                Poll::Ready(Ok(refused.map(reply::Body::own)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
