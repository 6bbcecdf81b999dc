//! One HTTP/2 connection and one request over it.

use std::{io, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures::future::poll_fn;
use h2::{
    Ping, Reason, RecvStream,
    client::{Connection, SendRequest},
};
use http::{Request, Response};

use super::{
    super::{About, Failure, Fault, Progress, Reply, ReplyBody, Stream, open::Open},
    Body as ReplyStream, Counted, Life, MOST_GIVEN_UP, Pool,
    life::TwoWay,
    pump::Pump,
    window::{NARROW, Window},
};
use crate::{
    batched::{Batched, Corked},
    body::Body,
    cluster::Host,
    connection::Backlog,
};

/// How much a host may send unasked on all streams of a connection. Far more than one stream may, so
/// that replies which nobody reads do not hold up the others.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The longest head of a reply.
const MAX_HEAD: u32 = 64 * 1024;

/// How long streams that we reset are remembered, so that what the host still sends does no harm.
const RESET_MEMORY: Duration = Duration::from_secs(5);

/// How many streams h2 remembers that long. Of others it only knows that they were there.
const REMEMBERED: usize = 1024;

/// How often h2 may have to answer what comes on a stream that it forgot: at most some pieces of a
/// window for each request that was given up.
const MOST_FORGOTTEN: usize = 16 * MOST_GIVEN_UP;

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
    /// Where the request counts, if it is given up.
    client: Option<Arc<Backlog>>,
    /// Whether the host has a request that it is not done with.
    open: bool,
    /// To its end, not only to that of the request: what the host was promised must hold.
    two_way: Option<Arc<TwoWay>>,
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
        .initial_window_size(NARROW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD)
        .max_concurrent_reset_streams(REMEMBERED)
        .max_local_error_reset_streams(Some(MOST_FORGOTTEN))
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
    tokio::spawn(run(Batched::new(connection, stream), counted));
    Ok(sender)
}

/// Runs a connection to its end. The places of requests that are given up become free once the host
/// is told.
async fn run(connection: Batched<Connection<Corked<Stream>, Bytes>, Stream>, counted: Counted) {
    let mut connection = pin!(connection);
    let mut window = Window::default();
    let ended = poll_fn(|cx| {
        // First: whoever begins to go both ways after this wakes the task.
        let given_up = counted.life.poll_given_up(cx);
        window.adapt(connection.as_mut().inner().get_mut(), &counted.life);
        let ended = connection.as_mut().poll(cx);
        // The host may just have confirmed a change that another waits for.
        if window.waits() && window.adapt(connection.as_mut().inner().get_mut(), &counted.life) {
            cx.waker().wake_by_ref();
        }
        if given_up > 0 && connection.is_clear() {
            counted.told(given_up);
        }
        ended
    });
    let ended = ended.await;
    counted.end(ended.is_err());
    if let Err(error) = ended {
        tracing::debug!(%error, "connection to an upstream failed");
    }
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

    /// If it is given up, the request counts there until the host is told.
    pub(in crate::upstream) fn count_into(&mut self, client: Option<Arc<Backlog>>) {
        self.place.client = client;
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
        self.place.open = true;
        let mut pump = (!ended).then(|| {
            let two_way = self.place.two_way.insert(TwoWay::new(&self.place.life));
            Pump::new(stream, body, Arc::clone(two_way))
        });
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
        let reply = reply.await;
        // If the request broke off, the host must be told; all else is the host's word or its end.
        self.place.open = !matches!(&reply, Err(failure) if failure.fault != Fault::Request);
        Ok(self.answer(reply?, pump))
    }

    fn answer(mut self, reply: Response<RecvStream>, pump: Option<Pump>) -> Reply {
        let (head, stream) = reply.into_parts();
        if pump.is_none() && stream.is_end_stream() {
            self.place.close();
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
        life.begin_request();
        Self {
            pool,
            number,
            sender: Some(sender),
            life,
            client: None,
            open: false,
            two_way: None,
        }
    }

    /// The host is done with the request.
    pub(super) fn close(&mut self) {
        self.open = false;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.life.end_request();
        let Some(sender) = self.sender.take() else {
            return;
        };
        if self.open {
            drop(sender);
            self.life.give_up(self.client.as_ref().map(Backlog::begin));
        } else {
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
    // A farewell ends only the streams that the host did not begin (RFC 9113, section 8.7).
    let untouched =
        error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
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
