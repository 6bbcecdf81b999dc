//! Proxied traffic through a plug-in: one instance and one context for the whole exchange, which goes
//! both ways at a time while the guest sees one thing after the other.

mod side;

use std::{future::pending, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use self::side::{Held, Moved, Side};
use super::{CallError, Counted, Place, Plugin};
use crate::{
    Headers,
    caller::{Caller, Left},
    calls::News,
    exchange::{Ends, Exchange, Piece, Response, Stop},
    guest::Guest,
    host::Asker,
    instance::Instance,
    stream::Request,
    trap::Trap,
};

/// The most of a body that waits while the guest pauses it, in bytes.
pub const LONGEST_HELD: usize = 4 << 20;

const REQUEST: usize = 0;
const REPLY: usize = 1;

/// What the guest is told of each direction.
const CALLBACKS: [[&str; 3]; 2] = [
    [
        "proxy_on_request_headers",
        "proxy_on_request_body",
        "proxy_on_request_trailers",
    ],
    [
        "proxy_on_response_headers",
        "proxy_on_response_body",
        "proxy_on_response_trailers",
    ],
];

enum Event {
    Left(Left),
    Head(Response),
    Moved(usize, Moved),
    News(News),
}

/// Why an exchange fails.
enum Fail {
    Trap(Trap),
    Other(CallError),
}

impl From<Trap> for Fail {
    fn from(trap: Trap) -> Self {
        Self::Trap(trap)
    }
}

impl Plugin {
    /// Lets a request and its reply pass the guest; `ends`: the request has no body. A task of its
    /// own, which ends with the exchange, calls the guest.
    pub(crate) async fn exchange(
        self: &Arc<Self>,
        request: Request,
        ends: bool,
    ) -> Result<Exchange, CallError> {
        let counted = Counted::start(&self.counts);
        let begun = self.begin().await;
        let (place, instance) = begun.inspect_err(|error| self.note(error))?;
        let sees = |at: usize| CALLBACKS[at][1..].iter().any(|name| self.prepared.exports(name));
        let (exchange, far, alive) = Exchange::new([sees(REQUEST), sees(REPLY)]);
        let mut course = Course::new(instance, self.next_context(), far, alive);
        let plugin = self.clone();
        self.facts.endings.spawn(async move {
            let (_counted, _place) = (counted, place);
            let error = match course.run(request, ends).await {
                Ok(()) => {
                    plugin.note_success();
                    plugin.note_memory(&mut course.instance);
                    return plugin.keep(course.instance);
                }
                Err(Fail::Trap(trap)) => plugin.failed(trap),
                Err(Fail::Other(error)) => error,
            };
            plugin.note(&error);
            course.stop(Stop::Failed(error));
        });
        Ok(exchange)
    }

    async fn begin(&self) -> Result<(Option<Place>, Instance), CallError> {
        if !self.health.admits() {
            return Err(CallError::Down);
        }
        let place = self.place(0).await?;
        let asker = Asker {
            function: self.id.clone(),
            allowed: self.facts.allowed.clone(),
            depth: 0,
            deadline: None,
        };
        let instance = self.take(asker).await.map_err(|trap| self.failed(trap))?;
        Ok((place, instance))
    }
}

/// An exchange while it goes on.
struct Course {
    instance: Instance,
    context: u32,
    sides: [Side; 2],
    far: Ends,
    /// The guest answered the request itself.
    is_answered: bool,
}

impl Course {
    fn new(mut instance: Instance, context: u32, mut far: Ends, alive: oneshot::Receiver<()>) -> Self {
        instance.guest().caller = Caller::of(alive);
        let sides = far.ports.each_mut().map(|port| Side::new(port.take()));
        Self {
            instance,
            context,
            sides,
            far,
            is_answered: false,
        }
    }

    async fn run(&mut self, request: Request, ends: bool) -> Result<(), Fail> {
        self.instance.open(self.context, request).await?;
        self.head(REQUEST, ends).await?;
        loop {
            if let Some(reply) = self.instance.decision() {
                self.stop(Stop::Reply(reply.ok_or(Fail::Other(CallError::Closed))?));
                if self.sides[REPLY].began {
                    break;
                }
                self.turn();
            }
            self.release();
            if self.over() {
                break;
            }
            if self.is_stuck() {
                return Err(Fail::Other(CallError::Stuck));
            }
            match self.event().await {
                Event::Left(Left::Served) => break,
                Event::Left(Left::Gone) => {
                    self.instance.guest().calls.hang_up();
                    break;
                }
                // It came while the guest answered itself, and that counts.
                Event::Head(Response { is_local: false, .. }) if self.is_answered => break,
                Event::Head(Response { head, ends, .. }) => {
                    self.far.response = None;
                    self.instance.stream_now().response_headers = head;
                    self.head(REPLY, ends).await?;
                }
                Event::Moved(at, Moved::Came(piece)) => self.piece(at, piece).await?,
                Event::Moved(_, Moved::On) => {}
                Event::News(news) => {
                    let _running = self.instance.runs_again();
                    self.instance.hears(news).await?;
                }
            }
        }
        // Whoever waits for a head or for more of the reply's body need not wait for what follows.
        self.far.heads = [None, None];
        self.sides[REPLY].port = None;
        let _running = self.instance.runs_again();
        self.instance.finish(self.context).await?;
        Ok(())
    }

    /// Tells whoever waits that the exchange does not go its way.
    fn stop(&mut self, stop: Stop) {
        // It may be gone, or have all it wants.
        drop(self.far.stop.try_send(stop));
    }

    /// Turns from a request that the guest answered itself to the reply, which will come as others
    /// do. The guest may answer that anew, and that answer will not come again.
    fn turn(&mut self) {
        self.is_answered = true;
        let stream = self.instance.stream_now();
        stream.local = None;
        stream.take_continued();
        self.far.heads[REQUEST] = None;
        let request = &mut self.sides[REQUEST];
        (request.port, request.held, request.cut) = (None, None, true);
        request.out.clear();
    }

    async fn event(&mut self) -> Event {
        let Guest { calls, caller, .. } = self.instance.guest();
        let response = &mut self.far.response;
        let [request, reply] = &mut self.sides;
        let head = async {
            if let Some(coming) = response.as_mut() {
                if let Ok(head) = coming.await {
                    return head;
                }
                // None comes any more.
                *response = None;
            }
            pending().await
        };
        tokio::select! {
            left = caller.left() => Event::Left(left),
            head = head => Event::Head(head),
            moved = request.moves() => Event::Moved(REQUEST, moved),
            moved = reply.moves() => Event::Moved(REPLY, moved),
            Some(news) = calls.next() => Event::News(news),
        }
    }

    async fn head(&mut self, at: usize, ends: bool) -> Result<(), Fail> {
        let side = &mut self.sides[at];
        side.began = true;
        side.ended = ends;
        let count = self.headers(at).0.len();
        let pauses = self.tell(CALLBACKS[at][0], &[count, usize::from(ends)]).await?;
        match pauses {
            true => self.sides[at].held = Some(Held::Head),
            false => self.pass(at, Held::Head),
        }
        Ok(())
    }

    async fn piece(&mut self, at: usize, piece: Piece) -> Result<(), Fail> {
        match piece {
            Piece::Data { bytes, last } => self.data(at, bytes, last).await,
            Piece::Trailers(trailers) => self.trailers(at, trailers).await,
        }
    }

    async fn data(&mut self, at: usize, bytes: Bytes, last: bool) -> Result<(), Fail> {
        if bytes.is_empty() && !last {
            return Ok(());
        }
        self.sides[at].ended = last;
        let held = self.sides[at].held.is_some();
        let buffer = self.instance.stream_now().body(at == REPLY);
        if held && buffer.len() + bytes.len() > LONGEST_HELD {
            return Err(Fail::Other(CallError::TooLong));
        }
        append(buffer, bytes);
        let length = buffer.len();
        let pauses = self.tell(CALLBACKS[at][1], &[length, usize::from(last)]).await?;
        match pauses {
            true => self.sides[at].held = Some(Held::Body),
            false => self.pass(at, Held::Body),
        }
        Ok(())
    }

    async fn trailers(&mut self, at: usize, trailers: Headers) -> Result<(), Fail> {
        self.sides[at].ended = true;
        let count = trailers.0.len();
        *self.instance.stream_now().trailers(at == REPLY) = Some(trailers);
        let pauses = self.tell(CALLBACKS[at][2], &[count]).await?;
        match pauses {
            true => self.sides[at].held = Some(Held::Trailers),
            false => self.pass(at, Held::Trailers),
        }
        Ok(())
    }

    /// Tells the guest of something; whether it wants to pause. One that answered or closed the
    /// exchange lets nothing pass, whatever it says.
    async fn tell(&mut self, name: &str, numbers: &[usize]) -> Result<bool, Fail> {
        let _running = self.instance.runs_again();
        let number = |number: &usize| u32::try_from(*number).unwrap_or(u32::MAX);
        let context = [self.context];
        let arguments: Vec<u32> = context.into_iter().chain(numbers.iter().map(number)).collect();
        let pauses = self.instance.event(name, &arguments).await?;
        Ok(pauses || self.instance.decision().is_some())
    }

    /// Lets go what the guest holds and wants to go on.
    fn release(&mut self) {
        let goes_on = self.instance.stream_now().take_continued();
        for at in [REQUEST, REPLY] {
            if let Some(held) = self.sides[at].held.filter(|_| goes_on[at]) {
                self.pass(at, held);
            }
        }
    }

    /// Sends on what passed the guest, as the guest left it.
    fn pass(&mut self, at: usize, what: Held) {
        self.sides[at].held = None;
        if what == Held::Head {
            self.sides[at].passed = true;
            self.instance.stream_now().answered |= at == REPLY;
            let head = self.headers(at).clone();
            if let Some(waiting) = self.far.heads[at].take() {
                // Gone with the exchange.
                drop(waiting.send(head));
            }
            return;
        }
        let stream = self.instance.stream_now();
        let bytes = std::mem::take(stream.body(at == REPLY));
        let trailers = match what {
            Held::Trailers => stream.trailers(at == REPLY).take(),
            _ => None,
        };
        let side = &mut self.sides[at];
        let last = side.ended && trailers.is_none();
        if last || !bytes.is_empty() {
            side.out.push_back(Piece::Data { bytes, last });
        }
        side.out.extend(trailers.map(Piece::Trailers));
    }

    fn headers(&mut self, at: usize) -> &Headers {
        let stream = self.instance.stream_now();
        match at {
            REQUEST => &stream.request.headers,
            _ => &stream.response_headers,
        }
    }

    /// Whether the whole reply has gone.
    fn over(&self) -> bool {
        let reply = &self.sides[REPLY];
        reply.passed && reply.ended && reply.held.is_none() && reply.out.is_empty()
    }

    /// Whether the guest holds something and nothing will come that lets it go on.
    fn is_stuck(&mut self) -> bool {
        let calls = !self.instance.guest().calls.is_empty();
        let [request, reply] = &self.sides;
        // A request of whose body no more is wanted waits for the reply, or for the end.
        let held = reply.is_held_whole() || request.is_held_whole() && !request.cut;
        held && !calls && !self.sides.iter().any(Side::lives)
    }
}

fn append(buffer: &mut Bytes, more: Bytes) {
    if buffer.is_empty() {
        *buffer = more;
        return;
    }
    let mut all = match std::mem::take(buffer).try_into_mut() {
        Ok(all) => all,
        Err(shared) => BytesMut::from(&shared[..]),
    };
    all.extend_from_slice(&more);
    *buffer = all.freeze();
}
