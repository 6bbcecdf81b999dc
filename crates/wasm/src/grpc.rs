//! gRPC as guests see it: a call has one answer, its message or its status; a stream tells of each
//! thing that comes, and of its status at the end.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream, stream::BoxStream};
use tokio::{sync::mpsc, time::timeout};

use crate::{Headers, calls::Held};

/// gRPC's DEADLINE_EXCEEDED.
const DEADLINE_EXCEEDED: u32 = 4;
/// gRPC's INTERNAL.
const INTERNAL: u32 = 13;
/// gRPC's UNAVAILABLE.
const UNAVAILABLE: u32 = 14;

/// How many messages of a guest wait to be taken.
const QUEUE: usize = 64;

/// A call or a stream that a guest begins.
#[derive(Debug)]
pub struct Call {
    /// The cluster it goes to.
    pub cluster: String,
    /// The service, as `package.Service`.
    pub service: String,
    /// The method of it.
    pub method: String,
    /// What is sent before the messages.
    pub metadata: Headers,
    /// What the guest sends; it sends nothing more when this ends.
    pub messages: Messages,
    /// How long the guest waits for the end; `None`: as long as it wants to.
    pub timeout: Option<Duration>,
}

/// How long a stream of a request's context may be silent. The root context waits as long as it wants
/// to, once there is a reply: it has no caller who waits for it.
pub const SILENCE: Duration = Duration::from_secs(300);

/// What comes back, in this order; messages as often as there are any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The head of the reply, perhaps empty.
    Initial(Headers),
    /// A message.
    Message(Bytes),
    /// The trailers of the reply, perhaps empty.
    Trailing(Headers),
    /// The end.
    Closed(Closed),
}

/// How a call or stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// gRPC's status; 0 is OK.
    pub status: u32,
    /// What is said of it.
    pub message: String,
}

impl Event {
    /// The end, with a status of gRPC's.
    pub fn closed(status: u32, message: impl Into<String>) -> Self {
        Self::Closed(Closed {
            status,
            message: message.into(),
        })
    }
}

/// What a guest sends. A message counts for what it may have waiting as long as there is a part of it.
#[derive(Debug)]
pub struct Messages(mpsc::Receiver<Sent>);

/// A message that waits.
pub(crate) struct Sent {
    message: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

impl Messages {
    /// Where messages go, and where they come out.
    pub(crate) fn channel() -> (mpsc::Sender<Sent>, Self) {
        let (into, out) = mpsc::channel(QUEUE);
        (into, Self(out))
    }

    /// One message and no other.
    pub(crate) fn one(message: Bytes, held: Held) -> Self {
        let (into, out) = mpsc::channel(1);
        // There is room for one.
        drop(into.try_send(Self::weigh(message, held)));
        Self(out)
    }

    pub(crate) fn weigh(message: Bytes, held: Held) -> Sent {
        Sent { message, _held: held }
    }
}

impl Stream for Messages {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_recv(cx).map(|sent| sent.map(Bytes::from_owner))
    }
}

/// The one answer of a call: its message, or the end.
pub(crate) async fn unary(events: BoxStream<'static, Event>, limit: Duration) -> Event {
    let answer = timeout(limit, answer(events)).await;
    answer.unwrap_or_else(|_| Event::closed(DEADLINE_EXCEEDED, "timed out"))
}

async fn answer(mut events: BoxStream<'static, Event>) -> Event {
    let mut reply = None;
    while let Some(event) = events.next().await {
        match event {
            Event::Message(_) if reply.is_some() => {
                return Event::closed(INTERNAL, "the reply has more than one message");
            }
            Event::Message(message) => reply = Some(message),
            Event::Closed(Closed { status: 0, .. }) => {
                let none = || Event::closed(INTERNAL, "the reply has no message");
                return reply.map_or_else(none, Event::Message);
            }
            Event::Closed(_) => return event,
            Event::Initial(_) | Event::Trailing(_) => {}
        }
    }
    lost()
}

/// What a stream tells, to its end; it ends, too, where nothing comes for so long.
pub(crate) fn all(
    events: BoxStream<'static, Event>,
    silence: Option<Duration>,
) -> impl Stream<Item = Event> + Send {
    stream::unfold(Some(events), move |events| async move {
        let mut events = events?;
        let next = match silence {
            Some(most) => timeout(most, events.next()).await,
            None => Ok(events.next().await),
        };
        let event = match next {
            Ok(event) => event.unwrap_or_else(lost),
            Err(_) => Event::closed(DEADLINE_EXCEEDED, "nothing came for too long"),
        };
        let rest = Some(events).filter(|_| !matches!(event, Event::Closed(_)));
        Some((event, rest))
    })
}

fn lost() -> Event {
    Event::closed(UNAVAILABLE, "it broke off")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Calls;

    fn events(events: &[Event]) -> BoxStream<'static, Event> {
        stream::iter(events.to_vec()).boxed()
    }

    fn message(text: &'static str) -> Event {
        Event::Message(text.into())
    }

    const LIMIT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_call_is_answered_once() {
        let initial = Event::Initial(Headers::default());
        let trailing = Event::Trailing(Headers::default());
        let good = [initial.clone(), message("a"), trailing, Event::closed(0, "")];
        assert_eq!(unary(events(&good), LIMIT).await, message("a"));
        let refused = Event::closed(7, "no");
        let failed = [initial.clone(), message("a"), refused.clone()];
        assert_eq!(unary(events(&failed), LIMIT).await, refused);
        for (wrong, status) in [
            (vec![message("a"), message("b")], INTERNAL),
            (vec![initial, Event::closed(0, "")], INTERNAL),
            (vec![message("a")], UNAVAILABLE),
        ] {
            let Event::Closed(closed) = unary(events(&wrong), LIMIT).await else {
                panic!("{wrong:?} is no answer");
            };
            assert_eq!(closed.status, status, "{wrong:?}");
        }
        let never = unary(stream::pending().boxed(), LIMIT).await;
        assert_eq!(never, Event::closed(DEADLINE_EXCEEDED, "timed out"));
    }

    #[tokio::test]
    async fn a_message_counts_until_the_last_of_it_is_gone() {
        let calls = Calls::default();
        let held = calls.room(4, 4).unwrap();
        let mut message = Messages::one("text".into(), held).next().await.unwrap();
        drop(message.split_to(2));
        assert!(calls.room(1, 4).is_none(), "it is on its way");
        drop(message);
        assert!(calls.room(4, 4).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_always_has_an_end_and_one_only() {
        let two = [message("a"), Event::closed(0, ""), message("b")];
        let told: Vec<_> = all(events(&two), None).collect().await;
        assert_eq!(told, two[..2]);
        let told: Vec<_> = all(events(&two[..1]), None).collect().await;
        assert_eq!(told, [message("a"), lost()]);
        let silent = events(&two[..1]).chain(stream::pending()).boxed();
        let told: Vec<_> = all(silent, Some(LIMIT)).collect().await;
        assert_eq!(
            told,
            [
                message("a"),
                Event::closed(DEADLINE_EXCEEDED, "nothing came for too long")
            ]
        );
    }
}
