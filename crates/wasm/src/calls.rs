//! What a guest has asked of the network and has not heard the end of, by token. It goes on while the
//! guest is not running; the guest is told of it piece by piece.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::mpsc;

use crate::{
    abi::Status,
    grpc::{Event, Messages, Sent},
    host::{Failure, HttpReply},
};

/// The most that a guest has under way at a time.
const MOST: usize = 64;

/// Calls and streams of one guest.
#[derive(Default)]
pub(crate) struct Calls {
    under_way: Vec<Call>,
    last_token: u32,
    /// How many bytes of what the guest sent are kept for those who have not taken them.
    held: Arc<AtomicUsize>,
}

struct Call {
    token: u32,
    context: u32,
    kind: Kind,
    news: BoxStream<'static, What>,
    /// The guest has the last of it, or is being told.
    is_over: bool,
}

/// What a token stands for.
pub(crate) enum Kind {
    /// `proxy_http_call`.
    Http,
    /// `proxy_grpc_call`.
    Unary,
    /// `proxy_grpc_stream`, with where its messages go until the guest has sent the last.
    Stream(Option<mpsc::Sender<Sent>>),
}

/// What there is to tell.
pub(crate) enum What {
    /// How a call of HTTP ended.
    Http(Result<HttpReply, Failure>),
    Grpc(Event),
}

/// Something to tell the guest.
pub(crate) struct News {
    /// The context that is told.
    pub(crate) context: u32,
    pub(crate) token: u32,
    pub(crate) what: What,
    /// Whether nothing follows.
    pub(crate) last: bool,
}

/// Bytes that are kept for somebody, until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Relaxed);
    }
}

impl Calls {
    /// Whether nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Makes room for something that holds so many bytes, beside those that are held: `most` in all.
    /// While a guest is told of an end, it can begin the next.
    pub(crate) fn room(&self, bytes: usize, most: usize) -> Option<Held> {
        let going = self.under_way.iter().filter(|call| !call.is_over).count();
        let free = going < MOST;
        free.then(|| self.hold(bytes, most)).flatten()
    }

    fn hold(&self, bytes: usize, most: usize) -> Option<Held> {
        if bytes > most.saturating_sub(self.held.load(Relaxed)) {
            return None;
        }
        self.held.fetch_add(bytes, Relaxed);
        Some(Held {
            all: self.held.clone(),
            bytes,
        })
    }

    /// Begins something for a context; the answer is its token.
    pub(crate) fn begin(&mut self, context: u32, kind: Kind, news: BoxStream<'static, What>) -> u32 {
        self.last_token += 1;
        let token = self.last_token;
        self.under_way.push(Call {
            token,
            context,
            kind,
            news,
            is_over: false,
        });
        token
    }

    /// Waits for what there is to tell next; `None`: nothing is under way. Losing the future loses
    /// nothing.
    pub(crate) async fn next(&mut self) -> Option<News> {
        poll_fn(|cx| {
            let mut at = 0;
            while let Some(call) = self.under_way.get_mut(at) {
                match call.news.poll_next_unpin(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(None) => drop(self.under_way.remove(at)),
                    Poll::Ready(Some(what)) => {
                        let news = call.tells(what);
                        // One that has much to tell is not the only one that is heard.
                        self.under_way.rotate_left(at + 1);
                        return Poll::Ready(Some(news));
                    }
                }
            }
            match self.under_way.is_empty() {
                true => Poll::Ready(None),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Sends a message over a stream, or with `None` says that there is no other; `last`: both.
    pub(crate) fn send(
        &mut self,
        token: u32,
        message: Option<Bytes>,
        last: bool,
        most: usize,
    ) -> Result<(), Status> {
        let held = self.hold(message.as_ref().map_or(0, Bytes::len), most);
        let Kind::Stream(way) = &mut self.find(token)?.kind else {
            return Err(Status::BadArgument);
        };
        if let Some(message) = message {
            let open = way.as_ref().ok_or(Status::BadArgument)?;
            // The ABI has no number for a peer that does not take what it is sent.
            let sent = Messages::weigh(message, held.ok_or(Status::BadArgument)?);
            match open.try_send(sent) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => return Err(Status::BadArgument),
                // The peer has ended the stream; the guest has yet to be told.
                Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        }
        if last {
            *way = None;
        }
        Ok(())
    }

    /// Ends what a guest sends over a stream, which tells of its end later; gives up a call.
    pub(crate) fn close(&mut self, token: u32) -> Result<(), Status> {
        match &mut self.find(token)?.kind {
            Kind::Stream(way) => *way = None,
            _ => self.end(token),
        }
        Ok(())
    }

    /// Gives up a call or stream of gRPC: the guest hears no more of it.
    pub(crate) fn cancel(&mut self, token: u32) -> Result<(), Status> {
        self.find(token)?;
        self.end(token);
        Ok(())
    }

    /// Forgets a token.
    pub(crate) fn end(&mut self, token: u32) {
        self.under_way.retain(|call| call.token != token);
    }

    /// Gives up everything.
    pub(crate) fn hang_up(&mut self) {
        self.under_way.clear();
    }

    /// A call or stream of gRPC.
    fn find(&mut self, token: u32) -> Result<&mut Call, Status> {
        let found = self.under_way.iter_mut().find(|call| call.token == token);
        match found.ok_or(Status::NotFound)? {
            Call { kind: Kind::Http, .. } => Err(Status::BadArgument),
            call => Ok(call),
        }
    }
}

impl Call {
    fn tells(&mut self, what: What) -> News {
        let last = match &what {
            What::Http(_) | What::Grpc(Event::Closed(_)) => true,
            What::Grpc(_) => matches!(self.kind, Kind::Unary),
        };
        self.is_over = last;
        News {
            context: self.context,
            token: self.token,
            what,
            last,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::Headers;

    #[tokio::test]
    async fn a_call_makes_room_for_the_next_when_its_end_is_told() {
        let mut calls = Calls::default();
        let events = [Event::Initial(Headers::default()), Event::closed(0, "")];
        let events = stream::iter(events.map(What::Grpc));
        calls.begin(1, Kind::Stream(None), events.boxed());
        for _ in 1..MOST {
            calls.begin(1, Kind::Http, stream::pending().boxed());
        }
        assert!(calls.room(0, 0).is_none());
        assert!(!calls.next().await.unwrap().last);
        assert!(calls.room(0, 0).is_none(), "it goes on");
        let end = calls.next().await.unwrap();
        assert!(end.last && calls.room(0, 0).is_some());
        calls.begin(1, Kind::Http, stream::pending().boxed());
        assert!(calls.room(0, 0).is_none());
        calls.end(end.token);
        assert!(calls.room(0, 0).is_none(), "it does not count twice");
    }
}
