//! The connection to one place, opened when it is needed and opened again when it is lost.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use layotto_core::{ErrorKind, Result};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    failure::Failure,
    sentinel::Sentinels,
    settings::{Address, Connection},
    transport::{Dial, Opened, Task},
    wire::Wire,
};
use crate::client::pace::Backoff;

/// The least time between two tries to connect, of all links of one client.
const PACE: Duration = Duration::from_millis(100);
/// The waits for another try.
const WAITS: Backoff = Backoff::new(PACE, Duration::from_millis(400));
/// How long a call waits for a connection that could not be had the last time.
const GRACE: Duration = Duration::from_millis(250);
/// How long nobody wanted a link that could not be connected, for the next try to be due whatever
/// the others do: so long that those of one server stay below the pace.
const LULL: Duration = Duration::from_millis(1500);

/// Where a link leads.
#[derive(Debug)]
pub(super) enum Place {
    Server(Address),
    /// The server that the sentinels call the primary.
    Primary(Arc<Sentinels>),
}

/// Spaces out what the links of one client try again.
#[derive(Debug, Default)]
pub(super) struct Spacing(Mutex<Option<Instant>>);

impl Spacing {
    fn admits(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let admits = last.is_none_or(|last| now >= last + PACE);
        if admits {
            *last = Some(now);
        }
        admits
    }
}

/// When a link to a server was connected last, of all links to it.
#[derive(Debug, Default)]
pub(super) struct Reached(Mutex<Option<Instant>>);

impl Reached {
    fn now(&self) {
        *self.last() = Some(Instant::now());
    }

    fn is_since(&self, tried: Instant) -> bool {
        self.last().is_some_and(|last| last > tried)
    }

    fn last(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that all calls share; clones are the same link.
///
/// The first call opens it. Once it is known to be down, calls fail at once, and one of them every
/// now and then tries anew; those that come while it tries wait with it for a moment. What was sent
/// over a connection that is lost fails, and is not sent again: it may have been carried out.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

struct Inner {
    place: Arc<Place>,
    settings: Arc<Connection>,
    spacing: Arc<Spacing>,
    reached: Arc<Reached>,
    /// For how long its commands may keep the server waiting.
    block: Duration,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// Tries that failed since the last that did not.
    failures: u32,
    /// When the last try began.
    tried: Option<Instant>,
    /// Counts the connections.
    number: u64,
}

enum Phase {
    New,
    Connecting(Attempt),
    Up(Wire, Task),
    Down(Failure, Instant),
}

struct Attempt {
    outcome: watch::Receiver<Option<Outcome>>,
    /// Why there is no connection, where a try failed before.
    known: Option<Failure>,
    _task: Task,
}

type Outcome = Result<Leased, Failure>;

/// The connection of a link, as one call uses it.
#[derive(Clone)]
pub(super) struct Leased {
    pub(super) wire: Wire,
    number: u64,
}

impl Link {
    /// A link for commands that keep the server waiting for up to `block`.
    pub(super) fn new(
        place: Arc<Place>,
        settings: Arc<Connection>,
        spacing: Arc<Spacing>,
        reached: Arc<Reached>,
        block: Duration,
    ) -> Self {
        Self(Arc::new(Inner {
            place,
            settings,
            spacing,
            reached,
            block,
            state: Mutex::new(State {
                phase: Phase::New,
                failures: 0,
                tried: None,
                number: 0,
            }),
        }))
    }

    /// Whether there is a connection.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.0.state().phase, Phase::Up(..))
    }

    /// The connection. An error means that nothing was sent.
    pub(super) async fn lease(&self) -> Result<Leased> {
        let (mut outcome, known) = {
            let mut state = self.0.state();
            if let Phase::Up(wire, _) = &state.phase {
                return Ok(Leased {
                    wire: wire.clone(),
                    number: state.number,
                });
            }
            let attempt = self.0.attempt(&mut state)?;
            (attempt.outcome.clone(), attempt.known.clone())
        };
        let settled = outcome.wait_for(Option::is_some);
        let settled = match known {
            None => settled.await,
            Some(known) => timeout(GRACE, settled).await.map_err(|_| known)?,
        };
        let settled = settled.ok().and_then(|outcome| outcome.clone());
        let gone = || Err(Failure::unavailable("the connection to redis was given up"));
        Ok(settled.unwrap_or_else(gone)?)
    }

    /// Has the next call find a connection anew, as this one's server does not do what it should.
    /// Calls under way on it go on.
    pub(super) fn renew(&self, leased: &Leased) {
        let failure = Failure::unavailable("redis changes its primary");
        if let Some(task) = self.0.leave(leased, failure) {
            task.detach();
        }
    }

    /// Ends the connection, and whatever is under way on it.
    pub(super) fn end(&self, leased: &Leased) {
        let failure = Failure::unavailable("the connection to redis was given up");
        drop(self.0.leave(leased, failure));
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the next call find another connection. Returns the task of this one, if it was still there.
    fn leave(&self, leased: &Leased, failure: Failure) -> Option<Task> {
        let mut state = self.state();
        if state.number != leased.number || !matches!(state.phase, Phase::Up(..)) {
            return None;
        }
        let next = state.tried.map_or_else(Instant::now, |tried| tried + PACE);
        match std::mem::replace(&mut state.phase, Phase::Down(failure, next)) {
            Phase::Up(_, task) => Some(task),
            _ => None,
        }
    }

    /// The attempt under way, or a new one if it is time for it.
    fn attempt<'a>(self: &Arc<Self>, state: &'a mut State) -> Result<&'a Attempt, Failure> {
        let now = Instant::now();
        if state.failures > 0
            && matches!(state.phase, Phase::Down(..))
            && state.tried.is_some_and(|tried| self.reached.is_since(tried))
        {
            // Its failure says nothing any more.
            (state.phase, state.failures) = (Phase::New, 0);
        }
        let due = match &state.phase {
            Phase::Down(failure, until) if state.failures > 0 => {
                let is_due = || self.spacing.admits(now) || now >= *until + LULL;
                if now < *until || !is_due() {
                    return Err(failure.clone());
                }
                now
            }
            // It was there: who comes too early for another waits a moment for what that finds.
            Phase::Down(_, until) => now.max(*until),
            _ => now,
        };
        if !matches!(state.phase, Phase::Connecting(_)) {
            let known = match &state.phase {
                Phase::Down(failure, _) if state.failures > 0 => Some(failure.clone()),
                _ => None,
            };
            state.tried = Some(due);
            state.phase = Phase::Connecting(self.begin(known, due));
        }
        match &state.phase {
            Phase::Connecting(attempt) => Ok(attempt),
            _ => Err(Failure::new(ErrorKind::Internal, "a connection has no attempt")),
        }
    }

    fn begin(self: &Arc<Self>, known: Option<Failure>, due: Instant) -> Attempt {
        let (sender, outcome) = watch::channel(None);
        let (place, settings) = (Arc::clone(&self.place), Arc::clone(&self.settings));
        let weak = Arc::downgrade(self);
        let patience = settings.read_timeout.map(|time| time + self.block);
        let task = async move {
            sleep_until(due).await;
            let opened = place.open(&settings, patience).await;
            if let Some(inner) = weak.upgrade() {
                sender.send_replace(Some(inner.settle(opened)));
            }
        };
        Attempt {
            outcome,
            known,
            _task: Task::spawn(task),
        }
    }

    fn settle(self: &Arc<Self>, opened: Result<Opened, Failure>) -> Outcome {
        let mut state = self.state();
        match opened {
            Ok(Opened { wire, driver, .. }) => {
                self.reached.now();
                state.failures = 0;
                state.number += 1;
                let number = state.number;
                let weak = Arc::downgrade(self);
                let task = Task::spawn(async move {
                    driver.await;
                    lost(&weak, number);
                });
                state.phase = Phase::Up(wire.clone(), task);
                Ok(Leased { wire, number })
            }
            Err(failure) => {
                state.failures = state.failures.saturating_add(1);
                state.phase = Phase::Down(failure.clone(), Instant::now() + WAITS.after(state.failures));
                Err(failure)
            }
        }
    }
}

/// The driver of connection `number` ended.
fn lost(link: &Weak<Inner>, number: u64) {
    let Some(link) = link.upgrade() else { return };
    let mut state = link.state();
    if state.number == number && matches!(state.phase, Phase::Up(..)) {
        let next = state.tried.map_or_else(Instant::now, |tried| tried + PACE);
        let failure = Failure::unavailable("the connection to redis was lost");
        state.phase = Phase::Down(failure, next);
    }
}

impl Place {
    /// Opens another connection, whose server may owe an answer for `patience`.
    pub(super) async fn open(
        &self,
        settings: &Connection,
        patience: Option<Duration>,
    ) -> Result<Opened, Failure> {
        match self {
            Self::Primary(sentinels) => sentinels.open(patience).await,
            Self::Server(address) => {
                let dial = Dial {
                    patience,
                    ..Dial::new(address, settings)
                };
                dial.open(settings).await
            }
        }
    }
}
