//! Who may use an administration surface: clients on this machine, and with a configured token
//! also those elsewhere that send it. Everybody else gets 403, or PERMISSION_DENIED over gRPC.
//!
//! A browser on this machine is a client that others can lead here: by a name of theirs that they
//! point to this machine, or by a page that sends requests to other sites. So a client that is
//! only let in for where it is must ask for a name or an address that cannot be made to lead here,
//! and not in the name of a page from elsewhere.
//!
//! Whoever forwards requests from other machines to such a listener makes them local.

use std::{
    convert::Infallible,
    fmt,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, Uri,
    header::{AUTHORIZATION, HOST, ORIGIN},
    uri::Authority,
};
use http_body_util::Full;
use layotto_core::Secret;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    address::Address,
    connection::{Info, Remote},
    reply::{self, Code, Kind, refuse},
};

/// Carries the token, where `authorization` is not at hand.
const TOKEN_HEADER: &str = "layotto-admin-token";

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It comes from elsewhere, without the token.
    #[error("only clients on this machine or with the admin token may do this")]
    Elsewhere,
    /// It asks for a name that anyone may have pointed to this machine.
    #[error("without the admin token, Host must be localhost, an IP address or the configured address")]
    Host,
    /// It is sent by a page of another site.
    #[error("without the admin token, Origin must be the site that is asked")]
    Origin,
}

impl Refusal {
    /// What the client is told.
    pub fn answer(self, kind: Kind) -> Response<Full<Bytes>> {
        refuse(kind, Code::PermissionDenied, &self.to_string())
    }
}

/// The rule that an administration surface asks.
#[derive(Clone)]
pub struct Access {
    token: Option<Arc<Secret>>,
    names: Arc<[String]>,
    guarded: fn(&Method, &Uri) -> bool,
}

impl Access {
    /// Guards every request. Clients on this machine need no token; without a `token` (or with an
    /// empty one) all others are refused.
    pub fn new(token: Option<&str>) -> Self {
        let token = token.filter(|token| !token.is_empty());
        Self {
            token: token.map(|token| Arc::new(Secret::new(token.to_owned()))),
            names: Arc::default(),
            guarded: |_, _| true,
        }
    }

    /// Clients may ask for the hosts of these addresses, be they names.
    #[must_use]
    pub fn at<'a>(mut self, addresses: impl IntoIterator<Item = &'a Address>) -> Self {
        let name = |address: &Address| match address {
            Address::Tcp { host, .. } => Some(host.clone()),
            Address::Unix(_) => None,
        };
        self.names = addresses.into_iter().filter_map(name).collect();
        self
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

    /// Whether the rule allows a request; the error says why not.
    pub fn check<R>(&self, request: &Request<R>) -> Result<(), Refusal> {
        let token = self.token.as_deref();
        if !(self.guarded)(request.method(), request.uri())
            || token.is_some_and(|token| presents(request.headers(), token))
        {
            return Ok(());
        }
        match Info::of(request.extensions()).map(Info::remote) {
            // No browser reaches it.
            Some(Remote::Unix { .. }) => Ok(()),
            Some(remote) if remote.is_local() => self.check_names(request),
            _ => Err(Refusal::Elsewhere),
        }
    }

    /// Whether a client on this machine came by itself. A browser always says whom it asks.
    fn check_names<R>(&self, request: &Request<R>) -> Result<(), Refusal> {
        let host = match (request.uri().authority(), request.headers().get(HOST)) {
            (Some(authority), _) => authority.as_str().as_bytes(),
            (None, Some(host)) => host.as_bytes(),
            (None, None) => return Ok(()),
        };
        let authority = Authority::try_from(host).map_err(|_| Refusal::Host)?;
        if !self.knows(authority.host()) {
            return Err(Refusal::Host);
        }
        let site = |origin: &[u8]| {
            let (_, site) = std::str::from_utf8(origin).ok()?.split_once("://")?;
            Some(site.eq_ignore_ascii_case(authority.as_str()))
        };
        match request.headers().get(ORIGIN) {
            Some(origin) if site(origin.as_bytes()) != Some(true) => Err(Refusal::Origin),
            _ => Ok(()),
        }
    }

    /// Whether nobody else decides where `host` leads.
    fn knows(&self, host: &str) -> bool {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || literal.parse::<IpAddr>().is_ok()
            || self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
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
        let refusal = match self.access.check(&request) {
            Ok(()) => {
                let inner = self.inner.call(request);
                return ResponseFuture::Served { inner };
            }
            Err(refusal) => refusal,
        };
        tracing::warn!(
            remote = Info::of(request.extensions()).map(|info| info.remote().to_string()),
            path = request.uri().path(),
            "administration refused: {refusal}"
        );
        ResponseFuture::Refused { kind, refusal }
    }
}

pin_project! {
    /// The reply, or the refusal.
    #[project = Projected]
    #[allow(missing_docs, reason = "the macro takes no docs of fields")]
    pub enum ResponseFuture<F> {
        /// The rule allowed the request.
        Served {
            #[pin]
            inner: F,
        },
        /// The rule refused it.
        Refused {
            kind: Kind,
            refusal: Refusal,
        },
    }
}

impl<F, B> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<reply::Body<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projected::Served { inner } => inner.poll(cx).map_ok(|reply| reply.map(reply::Body::inner)),
            Projected::Refused { kind, refusal } => {
                Poll::Ready(Ok(refusal.answer(*kind).map(reply::Body::own)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
