//! One HTTP/1.1 connection: both halves that hyper makes of it, polled together.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::poll_fn;
use http::{Request, Response, StatusCode};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;

use super::{
    super::{About, Failure, Fault, Progress, Reply, ReplyBody, Stream, Upgraded, gate::Gate, open::Open},
    Body as ReplyStream, Pool,
};
use crate::{
    body::Body,
    cluster::{Cluster, Host, Permit},
};

type Connection = http1::Connection<TokioIo<Stream>, Body>;

/// The longest head of a reply.
const MAX_HEAD: usize = 64 * 1024;

/// A connection.
#[derive(Debug)]
pub(in crate::upstream) struct Link {
    sender: http1::SendRequest<Body>,
    connection: Connection,
    gate: Gate,
    pub(super) idle_timeout: Option<Duration>,
    /// Requests that it may still carry.
    left: u32,
    reused: bool,
    about: About,
    open: Open,
    permit: Option<Permit>,
}

/// A connection in use, and its place in the pool.
#[derive(Debug)]
pub(in crate::upstream) struct Lease {
    // Dropped in order: the pool hears of a connection that is closed already.
    link: Box<Link>,
    place: Place,
}

/// A connection's place in the count of a pool.
#[derive(Debug)]
pub(in crate::upstream) struct Place(Option<Arc<Pool>>);

impl Link {
    pub(super) async fn over(
        stream: Stream,
        cluster: &Cluster,
        host: &Host,
        permit: Option<Permit>,
    ) -> io::Result<Self> {
        let about = About::of(&stream);
        let (sender, connection) = http1::Builder::new()
            .max_header_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        Ok(Self {
            sender,
            connection,
            gate: Gate::new(),
            idle_timeout: cluster.idle_timeout(),
            left: cluster.max_requests_per_connection().unwrap_or(u32::MAX),
            reused: false,
            about,
            open: Open::new(host),
            permit,
        })
    }

    /// Whether an idle connection is still good, as far as one can know.
    pub(super) fn is_alive(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        if !self.gate.is_woken() {
            return true;
        }
        let connection = &mut self.connection;
        let closed = self
            .gate
            .try_poll(|cx| connection.poll_without_shutdown(cx))
            .is_ready();
        self.gate.leave();
        if closed || !self.sender.is_ready() {
            self.open.set_lost(true);
            self.left = 0;
        }
        self.left > 0
    }

    /// Closes the connection; its permit is for the next.
    pub(super) fn close(self) -> Option<Permit> {
        self.permit
    }

    /// Polls for a reply, and drives the connection. The flag becomes true when it is closed.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        closed: &mut bool,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let (connection, open) = (&mut self.connection, &mut self.open);
        self.gate.poll(cx, |cx| {
            // The connection goes first: what it has for us is then there, and we need no wake-up.
            if !*closed && connection.poll_without_shutdown(cx).is_ready() {
                open.set_lost(true);
                *closed = true;
            }
            poll(cx)
        })
    }
}

impl Lease {
    pub(super) fn new(link: Box<Link>, place: Place) -> Self {
        Self { link, place }
    }

    pub(super) fn is_alive(&mut self) -> bool {
        !self.link.reused || self.link.is_alive()
    }

    /// The connection is to be closed, not used.
    pub(super) fn expire(mut self) -> Self {
        self.link.left = 0;
        self
    }

    pub(in crate::upstream) fn is_reused(&self) -> bool {
        self.link.reused
    }

    pub(in crate::upstream) fn about(&self) -> About {
        self.link.about
    }

    pub(in crate::upstream) async fn send(
        mut self,
        request: Request<Body>,
        progress: Option<&Progress>,
    ) -> Result<Reply, Failure> {
        let link = &mut *self.link;
        link.reused = true;
        link.left -= 1;
        link.open.set_busy(true);
        let mut reply = pin!(link.sender.try_send_request(request));
        let mut closed = false;
        let reply = poll_fn(|cx| link.poll(cx, &mut closed, |cx| reply.as_mut().poll(cx))).await;
        match reply {
            Ok(reply) if reply.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Box::pin(self.upgrade(reply)).await
            }
            Ok(reply) => Ok(self.answer(reply, closed, progress)),
            Err(error) => {
                let failure = failure(error);
                link.open.set_lost(failure.fault == Fault::Terminated);
                Err(failure)
            }
        }
    }

    /// The reply has ended, or broke off.
    pub(super) fn over(&mut self, broken: bool) {
        self.link.open.set_busy(broken);
        if broken {
            self.link.open.set_lost(true);
        }
    }

    /// Whether the connection is through with its request.
    pub(super) fn is_free(&self) -> bool {
        self.link.sender.is_ready()
    }

    /// Polls for what comes over the connection, and drives it. True with a result: it is closed.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        closed: &mut bool,
        poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.link.poll(cx, closed, poll)
    }

    /// Lets what has arrived pass, with nobody waiting.
    pub(super) fn settle(&mut self) {
        let link = &mut *self.link;
        let connection = &mut link.connection;
        // An end of the connection shows in its not being free.
        drop(link.gate.try_poll(|cx| connection.poll_without_shutdown(cx)));
    }

    /// Gives a free connection back to the pool.
    pub(super) fn park(self) {
        let Self { mut link, mut place } = self;
        link.open.set_busy(false);
        if link.left > 0
            && let Some(pool) = place.0.take()
        {
            link.gate.leave();
            pool.put(link);
        }
    }

    fn answer(mut self, reply: Response<Incoming>, closed: bool, progress: Option<&Progress>) -> Reply {
        let (head, incoming) = reply.into_parts();
        let body = if closed {
            // All that came is in the body's hands; the rest of it is an error.
            self.over(false);
            ReplyBody::Whole(incoming)
        } else if self.is_free() {
            self.park();
            ReplyBody::Whole(incoming)
        } else if progress.is_none_or(Progress::is_done) {
            ReplyBody::Http1(ReplyStream::driving(incoming, self))
        } else {
            // The reader of the reply must not hold up the rest of the request.
            let task = tokio::spawn(self.drive());
            ReplyBody::Http1(ReplyStream::beside(incoming, task))
        };
        Reply::new(head, body)
    }

    /// Drives the connection until it is free or closed.
    async fn drive(mut self) {
        let mut closed = false;
        poll_fn(|cx| {
            let connection = &mut self.link.connection;
            let sender = &self.link.sender;
            self.link.gate.poll(cx, |cx| {
                if connection.poll_without_shutdown(cx).is_ready() {
                    closed = true;
                    return Poll::Ready(());
                }
                match sender.is_ready() {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
        })
        .await;
        match closed {
            true => self.link.open.set_lost(true),
            false => self.park(),
        }
    }

    async fn upgrade(mut self, reply: Response<Incoming>) -> Result<Reply, Failure> {
        let link = &mut *self.link;
        let ended = poll_fn(|cx| {
            let connection = &mut link.connection;
            link.gate.poll(cx, |cx| connection.poll_without_shutdown(cx))
        });
        ended.await.map_err(|error| Failure::new(Fault::Reset, error))?;
        let (mut head, _) = reply.into_parts();
        // Ours; the one for the client is in its request.
        head.extensions.remove::<hyper::upgrade::OnUpgrade>();
        let Link {
            connection,
            mut open,
            permit,
            ..
        } = *self.link;
        open.set_busy(false);
        let parts = connection.into_parts();
        let upgraded = Upgraded::new(parts.io.into_inner(), parts.read_buf, (self.place, open, permit));
        let mut reply = Reply::new(head, ReplyBody::empty());
        reply.upgraded = Some(upgraded);
        Ok(reply)
    }
}

impl Place {
    /// The place was counted already.
    pub(super) fn taken(pool: Arc<Pool>) -> Self {
        Self(Some(pool))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            pool.gone();
        }
    }
}

fn failure(error: TrySendError<Request<Body>>) -> Failure {
    let unsent = error.message().is_some();
    let error = error.into_error();
    let fault = if error.is_user() {
        Fault::Request
    } else if error.is_parse() {
        Fault::Reset
    } else {
        Fault::Terminated
    };
    let failure = Failure::new(fault, error);
    match unsent {
        true => failure.untouched(),
        false => failure,
    }
}

/// Only to name what a body is made of.
pub(super) type Frame = Result<http_body::Frame<Bytes>, hyper::Error>;

pub(super) fn poll_incoming(incoming: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
    http_body::Body::poll_frame(Pin::new(incoming), cx)
}
