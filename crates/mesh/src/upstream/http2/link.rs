//! One HTTP/2 connection and one request over it.

use std::{
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures::future::poll_fn;
use h2::{Ping, Reason, RecvStream, client::SendRequest};
use http::{Request, Response};

use super::{
    super::{About, Failure, Fault, Progress, Reply, ReplyBody, Stream, open::Open},
    Body as ReplyStream, Counted, Life, Pool,
    pump::Pump,
};
use crate::{
    batched::{Batched, Corked},
    body::Body,
    cluster::Host,
};

/// How much a host may send unasked on one stream: what a client that does not read its reply can
/// make us hold. More than the 64 KiB and one frame that a host with usual settings lets us send:
/// one that echoes, and reads on only when it has written, waits for room that we grant behind them.
const STREAM_WINDOW: u32 = 82 * 1024;

/// How much a host may send unasked on all streams of a connection. Far more than one stream may, so
/// that replies which nobody reads do not hold up the others.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The longest head of a reply.
const MAX_HEAD: u32 = 64 * 1024;

/// How long streams that we reset are remembered, so that what the host still sends does no harm.
const RESET_MEMORY: Duration = Duration::from_secs(5);

/// The right to send one request.
#[derive(Debug)]
pub(in crate::upstream) struct Lease {
    about: About,
    reused: bool,
    place: Place,
}

/// A request's place on a connection.
#[derive(Debug)]
pub(in crate::upstream) struct Place {
    pool: Arc<Pool>,
    number: u64,
    /// Given back at the end.
    sender: Option<SendRequest<Bytes>>,
    life: Arc<Life>,
}

/// Greets the host and waits until it has told its settings: its limit on streams must be known
/// before the first burst, and a host that does not speak HTTP/2 shows itself.
pub(super) async fn greet(
    stream: Stream,
    mut counted: Counted,
    host: &Host,
) -> io::Result<SendRequest<Bytes>> {
    let stream = Corked::new(stream);
    let handshake = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD)
        .max_concurrent_reset_streams(1024)
        .reset_stream_duration(RESET_MEMORY)
        .enable_push(false)
        .handshake(stream.clone());
    let (sender, mut connection) = handshake.await.map_err(io::Error::other)?;
    let mut pings = connection
        .ping_pong()
        .ok_or_else(|| io::Error::other("no pings"))?;
    {
        // Settings come first, so they are there with the answer.
        let mut pong = pin!(pings.ping(Ping::opaque()));
        let mut connection = pin!(&mut connection);
        poll_fn(|cx| match connection.as_mut().poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
            Poll::Pending => pong.as_mut().poll(cx).map(|pong| pong.map_err(io::Error::other)),
        })
        .await?;
    }
    counted.open = Some(Open::new(host));
    tokio::spawn(async move {
        let ended = Batched::new(connection, stream).await;
        counted.end(ended.is_err());
        if let Err(error) = ended {
            tracing::debug!(%error, "connection to an upstream failed");
        }
    });
    Ok(sender)
}

impl Lease {
    pub(super) fn new(about: About, reused: bool, place: Place) -> Self {
        Self { about, reused, place }
    }

    pub(in crate::upstream) fn is_reused(&self) -> bool {
        self.reused
    }

    pub(in crate::upstream) fn about(&self) -> About {
        self.about
    }

    pub(in crate::upstream) async fn send(
        mut self,
        request: Request<Body>,
        progress: Option<&Progress>,
    ) -> Result<Reply, Failure> {
        let (head, body) = request.into_parts();
        let ended = progress.is_none();
        let sender = self.place.sender.as_mut();
        let sender = sender.expect("invariant: there until the drop");
        let sent = sender.send_request(Request::from_parts(head, ()), ended);
        let (reply, stream) = sent.map_err(refused)?;
        let mut pump = (!ended).then(|| Pump::new(stream, body));
        let mut reply = pin!(reply);
        let reply = poll_fn(|cx| {
            if let Some(sending) = &mut pump
                && let Poll::Ready(sent) = sending.poll_send(cx)
            {
                pump = None;
                if let Err(failure) = sent {
                    return Poll::Ready(Err(failure));
                }
            }
            reply.as_mut().poll(cx).map_err(failure)
        });
        let reply = reply.await?;
        Ok(self.answer(reply, pump))
    }

    fn answer(self, reply: Response<RecvStream>, pump: Option<Pump>) -> Reply {
        let (head, stream) = reply.into_parts();
        if pump.is_none() && stream.is_end_stream() {
            return Reply::new(head, ReplyBody::empty());
        }
        // The reader of the reply must not hold up the rest of the request.
        let rest = pump.map(|mut pump| {
            tokio::spawn(async move {
                if let Err(error) = poll_fn(|cx| pump.poll_send(cx)).await {
                    tracing::debug!(%error, "request broken off");
                }
            })
        });
        let length = head.headers.get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Reply::new(
            head,
            ReplyBody::Http2(ReplyStream::new(stream, length, rest, self.place)),
        )
    }
}

impl Place {
    pub(super) fn new(pool: Arc<Pool>, number: u64, life: Arc<Life>, sender: SendRequest<Bytes>) -> Self {
        life.requests.fetch_add(1, Relaxed);
        Self {
            pool,
            number,
            sender: Some(sender),
            life,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.life.requests.fetch_sub(1, Relaxed);
        if let Some(sender) = self.sender.take() {
            self.pool.release(self.number, sender);
        }
    }
}

/// Nothing was sent.
fn refused(error: h2::Error) -> Failure {
    match error.is_io() || error.is_go_away() {
        true => Failure::new(Fault::Terminated, error).untouched(),
        false => Failure::new(Fault::Unsendable, error),
    }
}

fn failure(error: h2::Error) -> Failure {
    let untouched = match error.reason() {
        Some(Reason::REFUSED_STREAM) => error.is_remote(),
        // Streams that the host began are not ended by its farewell.
        Some(Reason::NO_ERROR) => error.is_remote() && error.is_go_away(),
        _ => false,
    };
    let fault = match error.is_io() || error.is_go_away() {
        true => Fault::Terminated,
        false => Fault::Reset,
    };
    let failure = Failure::new(fault, error);
    match untouched {
        true => failure.untouched(),
        false => failure,
    }
}
