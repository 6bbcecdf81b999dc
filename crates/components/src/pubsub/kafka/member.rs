//! A process's part in a consumer group: joins it, serves the partitions it gets, commits what is
//! done, and lets go of them when the group is rearranged. Here is what it does when, and how it
//! serves.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use layotto_core::{Error, Result};
use rdkafka::consumer::Consumer;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, sleep_until},
};

use self::committing::Commit;
use super::{
    consumer::{Client, Event},
    groups::{Member, Setup},
    offsets::{Partition, Start},
    part::{Part, Step},
};
use crate::pubsub::queue::Entry;

mod committing;
mod joining;

/// How long the broker may take to note the last offsets before partitions are let go.
const LAST_COMMIT: Duration = Duration::from_secs(2);
/// How long leaving a group may take, the last offsets included.
const FAREWELL: Duration = Duration::from_secs(3);
/// The least time between two commits.
const COMMITS: Duration = Duration::from_millis(10);
/// The pause after a commit that failed, and after another question that did.
const PAUSE: Duration = Duration::from_millis(300);
/// How long a member waits for a partition before it believes that the others have them all.
const ALL_TAKEN: Duration = Duration::from_secs(3);
/// How often topics that could not be found are looked for, and new partitions where no group tells.
const LOOK: Duration = Duration::from_secs(10);
/// The longest pause before the group is joined anew after an error.
const REJOIN: Duration = Duration::from_secs(5);

/// Where the group is in partitions.
type Starts = HashMap<Partition, Start>;

/// How many partitions topics have, or why that is not known.
type Counts = Vec<(String, Result<i32>)>;

/// A question to the broker; nothing where none is open.
type Asked<T> = Option<BoxFuture<'static, T>>;

/// Belongs to the group as long as a topic is wanted.
pub(super) async fn run(member: Arc<Member>, setup: Arc<Setup>) {
    let mut pause = PAUSE;
    while !member.topics().is_empty() {
        let begun = Instant::now();
        let ended = match Session::start(&member, &setup) {
            Ok(session) => session.run().await,
            Err(error) => Err(error),
        };
        let Err(error) = ended else { continue };
        tracing::warn!(group = member.group, %error, "left the consumer group");
        member.refuse(None, &error);
        pause = if begun.elapsed() > REJOIN {
            PAUSE
        } else {
            (pause * 2).min(REJOIN)
        };
        // Nobody waits for it where it is wanted no more.
        tokio::select! {
            () = sleep(pause) => {}
            () = member.changed.notified() => {}
        }
    }
}

/// Where a member stands in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has no partitions.
    Out,
    /// It has partitions, and finds out where to begin.
    Asking,
    /// It serves its partitions, since then.
    In(Instant),
    /// It is to let go of its partitions, and finishes what it can until then.
    Leaving { until: Instant, is_told: bool },
}

/// One connection of a member.
struct Session<'a> {
    member: &'a Arc<Member>,
    setup: &'a Setup,
    client: Client,
    standing: Standing,
    /// The topics asked for, with the number of partitions they had then.
    topics: HashMap<String, i32>,
    parts: HashMap<Partition, Part>,
    steps: FuturesUnordered<BoxFuture<'static, (Partition, Step)>>,
    /// What is asked of the broker.
    starts: Asked<Starts>,
    counts: Asked<Counts>,
    look: Instant,
    /// When offsets are sent next, and which ones are on their way.
    commit_at: Option<Instant>,
    committing: Asked<Commit>,
    /// Held while the library has offsets to send.
    turn: Arc<Mutex<()>>,
    /// It is not known what became of the offsets that were sent last.
    is_in_doubt: bool,
    last_id: u64,
}

/// What happens next.
enum Happening {
    Said(Option<Event>),
    Step(Partition, Step),
    Started(Starts),
    Counted(Counts),
    Committed(Commit),
    Changed,
    Failed,
    CommitDue,
    LookDue,
    LeaveDue,
    TakenDue,
    Lost(Error),
}

impl<'a> Session<'a> {
    fn start(member: &'a Arc<Member>, setup: &'a Setup) -> Result<Self> {
        Ok(Self {
            client: Client::start(&setup.config, &member.group, setup.producer.told().clone())?,
            member,
            setup,
            standing: Standing::Out,
            topics: HashMap::new(),
            parts: HashMap::new(),
            steps: FuturesUnordered::new(),
            starts: None,
            counts: None,
            look: Instant::now() + LOOK,
            commit_at: None,
            committing: None,
            turn: Arc::default(),
            is_in_doubt: false,
            last_id: 0,
        })
    }

    async fn run(mut self) -> Result<()> {
        let ended = self.serve().await;
        let until = Instant::now() + FAREWELL;
        if ended.is_ok() {
            self.say_last().await;
        }
        for part in self.parts.values_mut() {
            part.lose();
        }
        // The library may wait for an answer that is no longer given: what it asks from here on is
        // answered where it asks.
        self.client.events.close();
        self.client.consumer.unassign().ok();
        let Self {
            client,
            parts,
            steps,
            starts,
            counts,
            committing,
            ..
        } = self;
        // They hold the client, whose end would then not be bounded by the close.
        drop((parts, steps, starts, counts, committing));
        client.close(until).await;
        ended
    }

    /// Serves until no topic is wanted any more.
    async fn serve(&mut self) -> Result<()> {
        if !self.follow()? {
            return Ok(());
        }
        loop {
            match self.next().await {
                Happening::Said(event) => self.hear(event)?,
                Happening::Step(partition, step) => self.step(partition, step),
                Happening::Started(starts) => self.begin(starts)?,
                Happening::Counted(counts) => self.ask_for(counts)?,
                Happening::Committed(commit) => drop(self.committed(commit)),
                Happening::Changed if !self.follow()? => return Ok(()),
                Happening::Failed => self.plan_commit(COMMITS),
                Happening::CommitDue => drop(self.commit(false)),
                Happening::LookDue => self.look_again()?,
                Happening::Lost(error) => self.member.refuse(None, &error),
                Happening::Changed | Happening::LeaveDue => {}
                Happening::TakenDue => self.accept(),
            }
            self.leave()?;
        }
    }

    async fn next(&mut self) -> Happening {
        let leave = match self.standing {
            Standing::Leaving { until, .. } => Some(until),
            _ => None,
        };
        let is_awaited = self.member.is_awaited();
        let taken = match self.standing {
            Standing::In(since) if is_awaited => Some(since + ALL_TAKEN).filter(|due| *due > Instant::now()),
            _ => None,
        };
        let commit = self.commit_at.filter(|_| self.committing.is_none());
        let (member, reach) = (self.member, self.setup.producer.reach());
        tokio::select! {
            event = self.client.events.recv() => Happening::Said(event),
            Some((partition, step)) = self.steps.next() => Happening::Step(partition, step),
            Some(starts) = answer(&mut self.starts) => Happening::Started(starts),
            Some(counts) = answer(&mut self.counts) => Happening::Counted(counts),
            Some(commit) = answer(&mut self.committing) => Happening::Committed(commit),
            () = member.changed.notified() => Happening::Changed,
            () = member.records.failed.notified() => Happening::Failed,
            Some(()) = at(commit) => Happening::CommitDue,
            Some(()) = at(leave) => Happening::LeaveDue,
            Some(()) = at(taken) => Happening::TakenDue,
            () = sleep_until(self.look) => Happening::LookDue,
            error = reach.lost(), if is_awaited => Happening::Lost(error),
        }
    }

    fn fetch(&mut self, partition: Partition) {
        let is_serving = matches!(self.standing, Standing::In(_)) && self.topics.contains_key(&partition.0);
        let Some(part) = self.parts.get_mut(&partition).filter(|_| is_serving) else {
            return;
        };
        if let Some(step) = part.fetch() {
            self.steps.push(step.map(|step| (partition, step)).boxed());
        }
    }

    fn step(&mut self, partition: Partition, step: Step) {
        let is_serving = matches!(self.standing, Standing::In(_));
        let Some(part) = self.parts.get_mut(&partition) else {
            return;
        };
        match step {
            Step::Fetched(fetched) => {
                let Some(held) = part.hold(fetched, is_serving) else {
                    return self.fetch(partition);
                };
                self.last_id += 1;
                let entry = Entry {
                    id: self.last_id,
                    attempts: held.attempts(),
                    end: 0,
                    body: Arc::clone(&held),
                };
                if !self.member.deliver(&partition.0, entry) {
                    return part.set_aside();
                }
                let ended = async move {
                    let is_done = held.ended().await;
                    (partition, Step::Ended { held, is_done })
                };
                self.steps.push(ended.boxed());
            }
            Step::Ended { held, is_done } => {
                if part.end(&held, is_done) {
                    self.plan_commit(COMMITS);
                    self.fetch(partition);
                }
            }
        }
    }

    fn pinned(&self) -> std::sync::MutexGuard<'_, HashSet<Partition>> {
        self.member.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the answer, where a question is open.
async fn answer<T>(asked: &mut Asked<T>) -> Option<T> {
    Some(asked.as_mut()?.await)
}

/// Waits until `time`, where there is one.
async fn at(time: Option<Instant>) -> Option<()> {
    sleep_until(time?).await;
    Some(())
}
