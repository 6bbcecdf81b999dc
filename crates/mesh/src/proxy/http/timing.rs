//! How long an exchange may take: the route's word, then the request's headers, then what a filter
//! decided; and the caller's own deadline above all.

use std::{
    pin::pin,
    task::{Poll, ready},
    time::Duration,
};

use futures::future::poll_fn;
use http::{HeaderMap, request};
use tokio::time::{Instant, Sleep, sleep_until};

use super::headers::has_any;
use crate::{
    exchange::Exchange,
    reply::Kind,
    router::Forward,
    stack::deadline::{self, Deadline},
    upstream::Progress,
};

const GLOBAL: &str = "x-mosn-global-timeout";
const PER_TRY: &str = "x-mosn-try-timeout";

/// Where no timeout is set.
const DEFAULT: Duration = Duration::from_secs(60);

/// What stands for times too far away for the clock.
const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);

/// How long an exchange may take.
#[derive(Debug)]
pub(super) struct Timing {
    global: Duration,
    per_try: Option<Duration>,
    /// How long the request's body may stand still; `None`: for ever.
    stall: Option<Duration>,
    deadline: Option<Instant>,
    /// When the global timeout is over; known once the request was read.
    over: Option<Instant>,
    /// When the try began, or the request was read, whichever came later.
    try_begun: Option<Instant>,
}

/// Which time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// That of the try; another one may follow.
    Try,
    /// That of the exchange.
    All,
    /// The client sends nothing more.
    Stalled,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A connection.
    Connection,
    /// The reply.
    Reply,
}

impl Timing {
    pub(super) fn new(
        forward: &Forward,
        head: &request::Parts,
        kind: Kind,
        exchange: &Exchange,
        body_idle: Duration,
    ) -> Self {
        let asked = Asked::by(head, kind);
        let (global, per_try) = overrides(exchange);
        let policy = forward.retry.as_ref().and_then(|retry| retry.retry_timeout);
        let global = global.or(asked.global).unwrap_or(forward.timeout);
        let global = if global.is_zero() { DEFAULT } else { global };
        let per_try = per_try.or(asked.per_try).or(policy);
        Self {
            global,
            per_try: per_try.filter(|time| !time.is_zero() && *time < global),
            stall: (kind == Kind::Http).then_some(body_idle),
            deadline: asked.deadline,
            over: None,
            try_begun: None,
        }
    }

    /// When the caller stops waiting.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long the reply's body may stand still.
    pub(super) fn stall(&self) -> Option<Duration> {
        self.stall
    }

    /// Whether there is time left for another try after `pause`.
    pub(super) fn allows(&self, pause: Duration) -> bool {
        let then = Instant::now() + pause;
        [self.over, self.deadline]
            .into_iter()
            .flatten()
            .all(|end| then < end)
    }

    /// Another try begins.
    pub(super) fn begin_try(&mut self) {
        self.try_begun = None;
    }

    /// Waits for `future` as long as there is time. `progress` is that of the request's body.
    pub(super) async fn within<T>(
        &mut self,
        phase: Phase,
        progress: Option<&Progress>,
        future: impl Future<Output = T>,
    ) -> Result<T, Over> {
        let mut future = pin!(future);
        let mut timer = pin!(None::<Sleep>);
        let mut armed = None;
        let mut seen = Seen::default();
        poll_fn(|cx| {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            loop {
                let (due, over) = self.due(phase, progress, &mut seen);
                // A timer that rings too early is set anew then, and not with every frame.
                if armed.is_none_or(|armed| due < armed) {
                    timer.set(Some(sleep_until(due)));
                    armed = Some(due);
                }
                let Some(sleep) = timer.as_mut().as_pin_mut() else {
                    return Poll::Pending;
                };
                ready!(sleep.poll(cx));
                if due <= Instant::now() {
                    return Poll::Ready(Err(over));
                }
                armed = None;
            }
        })
        .await
    }

    fn due(&mut self, phase: Phase, progress: Option<&Progress>, seen: &mut Seen) -> (Instant, Over) {
        let mut due = match progress.is_none_or(Progress::is_done) {
            true => self.due_after_request(),
            false => (
                seen.at(progress) + self.patience(phase),
                match phase {
                    Phase::Connection => Over::All,
                    Phase::Reply => Over::Stalled,
                },
            ),
        };
        if let Some(deadline) = self.deadline
            && deadline < due.0
        {
            due = (deadline, Over::All);
        }
        due
    }

    fn due_after_request(&mut self) -> (Instant, Over) {
        let (Some(over), Some(begun)) = (self.over, self.try_begun) else {
            let now = Instant::now();
            self.over
                .get_or_insert_with(|| now.checked_add(self.global).unwrap_or(now + FAR));
            self.try_begun.get_or_insert(now);
            return self.due_after_request();
        };
        match self.per_try.map(|per_try| begun + per_try) {
            Some(end) if end < over => (end, Over::Try),
            _ => (over, Over::All),
        }
    }

    /// How long to wait while the request is not read to its end.
    fn patience(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Connection => self.global.min(FAR),
            Phase::Reply => self.stall.unwrap_or(FAR),
        }
    }
}

/// When the request's body last moved.
#[derive(Debug, Default)]
struct Seen(Option<(u64, Instant)>);

impl Seen {
    fn at(&mut self, progress: Option<&Progress>) -> Instant {
        let frames = progress.map_or(0, Progress::frames);
        match self.0 {
            Some((seen, at)) if seen == frames => at,
            _ => self.0.insert((frames, Instant::now())).1,
        }
    }
}

fn overrides(exchange: &Exchange) -> (Option<Duration>, Option<Duration>) {
    let facts = exchange.facts();
    (facts.global_timeout, facts.try_timeout)
}

/// What the request itself asks for.
#[derive(Debug, Default)]
struct Asked {
    global: Option<Duration>,
    per_try: Option<Duration>,
    deadline: Option<Instant>,
}

impl Asked {
    fn by(head: &request::Parts, kind: Kind) -> Self {
        let mut asked = Self {
            deadline: Deadline::of(&head.extensions).map(|Deadline(deadline)| deadline),
            ..Self::default()
        };
        if has_any(&head.headers, |name| matches!(name, GLOBAL | PER_TRY)) {
            asked.global = millis(&head.headers, GLOBAL);
            asked.per_try = millis(&head.headers, PER_TRY);
        }
        if kind == Kind::Grpc && asked.deadline.is_none() {
            asked.deadline = deadline(&head.headers);
        }
        asked
    }
}

fn millis(headers: &HeaderMap, name: &str) -> Option<Duration> {
    let text = headers.get(name)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_millis)
}

fn deadline(headers: &HeaderMap) -> Option<Instant> {
    let timeout = deadline::of_headers(headers)?;
    let now = Instant::now();
    Some(now.checked_add(timeout).unwrap_or(now + FAR))
}
