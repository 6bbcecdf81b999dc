//! One exchange of proxied traffic on its way through a filter: what is handed to the guest, and what
//! it lets pass.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::{CallError, Headers, Reply};

/// A part of a body, or what follows it.
#[derive(Debug)]
pub enum Piece {
    /// Bytes, perhaps none; nothing follows the last.
    Data {
        /// The bytes.
        bytes: Bytes,
        /// Whether nothing follows.
        last: bool,
    },
    /// Trailers; nothing follows.
    Trailers(Headers),
}

/// Why an exchange does not go its way.
#[derive(Debug)]
pub enum Stop {
    /// The guest answered it. If there was no reply before, this one passes the guest as any other
    /// does: it is for [`Exchange::respond`].
    Reply(Reply),
    /// It failed.
    Failed(CallError),
}

/// One direction of an exchange whose body the guest sees. Neither end holds more than one piece.
/// When the exchange fails, `out` ends without a last piece.
#[derive(Debug)]
pub struct Lane {
    /// Where pieces go.
    pub into: mpsc::Sender<Piece>,
    /// Where they come out.
    pub out: mpsc::Receiver<Piece>,
}

/// The other end of a [`Lane`].
pub(crate) struct Port {
    pub(crate) from: mpsc::Receiver<Piece>,
    pub(crate) to: mpsc::Sender<Piece>,
}

/// An exchange. Dropping it ends the exchange, and the guest is told of the end; unless the whole reply
/// has gone, what the guest has under way ends, too.
#[derive(Debug)]
pub struct Exchange {
    request_head: Option<oneshot::Receiver<Headers>>,
    response: Option<oneshot::Sender<Response>>,
    response_head: Option<oneshot::Receiver<Headers>>,
    stop: mpsc::Receiver<Stop>,
    /// It was answered by the guest, and that was heard.
    is_answered: bool,
    lanes: [Option<Lane>; 2],
    alive: oneshot::Sender<()>,
}

/// The head of a reply, which the guest has yet to see.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) head: Headers,
    /// No body follows.
    pub(crate) ends: bool,
    /// It is what the guest answered.
    pub(crate) is_local: bool,
}

/// The guest's end of an [`Exchange`].
pub(crate) struct Ends {
    pub(crate) heads: [Option<oneshot::Sender<Headers>>; 2],
    pub(crate) response: Option<oneshot::Receiver<Response>>,
    pub(crate) stop: mpsc::Sender<Stop>,
    pub(crate) ports: [Option<Port>; 2],
}

impl Exchange {
    /// Both ends, and what ends with the exchange; `bodies`: which bodies the guest sees, that of the
    /// request first.
    pub(crate) fn new(bodies: [bool; 2]) -> (Self, Ends, oneshot::Receiver<()>) {
        let (request_in, request_head) = oneshot::channel();
        let (response_in, response_head) = oneshot::channel();
        let (response, responded) = oneshot::channel();
        // The guest answers, and then what came of its answer may fail.
        let (stopping, stop) = mpsc::channel(2);
        let (alive, living) = oneshot::channel();
        let (mut lanes, mut ports) = ([None, None], [None, None]);
        for at in [0, 1] {
            if bodies[at] {
                let ((into, from), (to, out)) = (mpsc::channel(1), mpsc::channel(1));
                lanes[at] = Some(Lane { into, out });
                ports[at] = Some(Port { from, to });
            }
        }
        let exchange = Self {
            request_head: Some(request_head),
            response: Some(response),
            response_head: Some(response_head),
            stop,
            is_answered: false,
            lanes,
            alive,
        };
        let ends = Ends {
            heads: [Some(request_in), Some(response_in)],
            response: Some(responded),
            stop: stopping,
            ports,
        };
        (exchange, ends, living)
    }

    /// The head of the request as the guest lets it pass. To be asked once.
    pub async fn request(&mut self) -> Result<Headers, Stop> {
        let head = self.request_head.take();
        self.passed(head).await
    }

    /// The way of the request's body; `None`: the guest does not look at it.
    pub fn request_body(&mut self) -> Option<Lane> {
        self.lanes[0].take()
    }

    /// Hands the head of the reply to the guest, `:status` first; the answer is what it lets pass.
    /// `ends`: no body follows. To be called once.
    pub async fn respond(&mut self, head: Headers, ends: bool) -> Result<Headers, Stop> {
        if let Some(response) = self.response.take() {
            // Whoever does not listen any more has said why.
            drop(response.send(Response {
                head,
                ends,
                is_local: self.is_answered,
            }));
        }
        let head = self.response_head.take();
        self.passed(head).await
    }

    /// The way of the reply's body; `None`: the guest does not look at it.
    pub fn response_body(&mut self) -> Option<Lane> {
        self.lanes[1].take()
    }

    /// Waits until the guest ends the exchange, which it may never do. Losing the future loses
    /// nothing.
    pub async fn stopped(&mut self) -> Stop {
        let stop = self.stop.recv().await;
        self.hears(stop.unwrap_or(Stop::Failed(CallError::Closed)))
    }

    /// What [`stopped`](Self::stopped) would give at once.
    pub fn has_stopped(&mut self) -> Option<Stop> {
        let stop = self.stop.try_recv().ok()?;
        Some(self.hears(stop))
    }

    /// Ends it with a reply that has gone whole, where the guest does not look at the body and so does
    /// not see the end of that.
    pub fn finish(self) {
        // The guest may have failed meanwhile.
        self.alive.send(()).ok();
    }

    fn hears(&mut self, stop: Stop) -> Stop {
        self.is_answered |= matches!(stop, Stop::Reply(_));
        stop
    }

    async fn passed(&mut self, head: Option<oneshot::Receiver<Headers>>) -> Result<Headers, Stop> {
        let passed = match head {
            Some(head) => head.await.ok(),
            None => None,
        };
        match passed {
            Some(head) => Ok(head),
            None => Err(self.stopped().await),
        }
    }
}
