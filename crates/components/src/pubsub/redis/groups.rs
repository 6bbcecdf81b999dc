//! The consumer groups of a component: one consumer for each topic and group, shared by the
//! subscriptions that name both.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use layotto_core::{Error, Result, pubsub::Subscription};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    delay::Delays,
    member::{self, Member, Seat, Start},
    stream::Streams,
};
use crate::pubsub::{delivery::Seeking, queue::Place};

/// What all consumers of a component need.
pub(super) struct Setup {
    pub(super) streams: Arc<Streams>,
    pub(super) delays: Arc<Delays>,
    /// After which an event is taken over from a consumer that says nothing; zero: never.
    pub(super) silence: Duration,
    /// How often such events are looked for; zero: never.
    pub(super) looks: Duration,
    /// Events read ahead.
    pub(super) depth: usize,
}

/// The groups of a component.
pub(super) struct Groups {
    setup: Arc<Setup>,
    members: Mutex<HashMap<(String, String), Weak<Member>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Groups {
    pub(super) fn new(setup: Setup, stop: CancellationToken, tasks: TaskTracker) -> Self {
        Self {
            setup: Arc::new(setup),
            members: Mutex::default(),
            stop,
            tasks,
        }
    }

    /// Ends all subscriptions; deliveries that run are finished.
    pub(super) fn close(&self) {
        self.stop.cancel();
    }

    /// Takes a seat in the group; done when the server has the group.
    pub(super) async fn subscribe(&self, seeking: Seeking) -> Result<Subscription> {
        let place = &seeking.place;
        let start = if seeking.is_ephemeral {
            Start::After(self.setup.streams.last_id(&place.topic).await?)
        } else {
            self.setup.streams.make_group(place).await?;
            Start::Group
        };
        if self.stop.is_cancelled() {
            return Err(Error::unavailable("the component is closed"));
        }
        let seat = self.sit(place, start);
        let member = seat.member();
        let taken = (Arc::clone(&member.records), Arc::clone(&member.queue));
        Ok(seeking.deliver(taken, seat, &self.stop, &self.tasks))
    }

    fn sit(&self, place: &Place, start: Start) -> Seat {
        if let Start::After(_) = start {
            return self.begin(place, start, None);
        }
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|_, member| member.strong_count() > 0);
        let key = (place.topic.clone(), place.group.clone());
        let known = members.get(&key).and_then(Weak::upgrade);
        if let Some(seat) = known.as_ref().and_then(Member::seat) {
            return seat;
        }
        // One that is leaving lets go of what it has first.
        let before = known.map(|member| member.ended.clone());
        let seat = self.begin(place, start, before);
        members.insert(key, Arc::downgrade(seat.member()));
        seat
    }

    fn begin(&self, place: &Place, start: Start, before: Option<CancellationToken>) -> Seat {
        let (member, seat) = Member::new(place, start, &self.setup);
        let running = member::run(member, Arc::clone(&self.setup), before);
        self.tasks.spawn(running);
        seat
    }
}
