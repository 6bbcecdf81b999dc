//! A process's part in a consumer group: joins it, serves the partitions it gets, commits what is
//! done, and lets go of them when the group is rearranged.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use layotto_core::{Error, ErrorKind, Result};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    InitialOffset,
    consumer::{Client, Event, GroupConsumer},
    groups::{Member, Setup},
    offsets::{self, Mark, Partition, Start},
    part::{Part, Step},
};
use crate::{client::kafka::failure, pubsub::queue::Entry};

/// How long a member keeps the others of its group waiting for handlers that run.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the broker may take to note the last offsets before partitions are let go.
const LAST_COMMIT: Duration = Duration::from_secs(2);
/// The least time between two commits.
const COMMITS: Duration = Duration::from_millis(10);
/// The pause after a commit that failed, and after another question that did.
const PAUSE: Duration = Duration::from_millis(300);
/// How long a member waits for a partition before it believes that the others have them all.
const ALL_TAKEN: Duration = Duration::from_secs(3);
/// How often topics that could not be found are looked for, and new partitions where no group tells.
const LOOK: Duration = Duration::from_secs(10);
/// How long a topic may take to appear that was just made.
const NEW_TOPIC: Duration = Duration::from_secs(15);
const NEW_TOPIC_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause before the group is joined anew after an error.
const REJOIN: Duration = Duration::from_secs(5);

/// Where the group is in partitions.
type Starts = HashMap<Partition, Start>;

/// How many partitions topics have, or why that is not known.
type Counts = Vec<(String, Result<i32>)>;

/// Offsets that were sent, and whether the broker has them.
type Commit = (Vec<(Partition, Mark)>, Result<()>);

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
            last_id: 0,
        })
    }

    async fn run(mut self) -> Result<()> {
        let ended = self.serve().await;
        if ended.is_ok() {
            self.say_last().await;
        }
        for part in self.parts.values_mut() {
            part.lose();
        }
        // The library may wait for an answer that is no longer given.
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
        client.close().await;
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

    /// Finds out what is wanted now. `false` where nothing is.
    fn follow(&mut self) -> Result<bool> {
        let wanted: HashSet<_> = self.member.topics().into_iter().collect();
        if wanted.is_empty() {
            return Ok(false);
        }
        let known = self.topics.len();
        self.topics.retain(|topic, _| wanted.contains(topic));
        if self.topics.len() < known {
            let topics = &self.topics;
            let unwanted = self
                .parts
                .iter_mut()
                .filter(|((topic, _), _)| !topics.contains_key(topic));
            unwanted.for_each(|(_, part)| part.set_aside());
            self.ask()?;
        }
        let new: Vec<_> = wanted
            .into_iter()
            .filter(|topic| !self.topics.contains_key(topic))
            .collect();
        if !new.is_empty() && self.counts.is_none() {
            self.counts = Some(count(Arc::clone(&self.client.consumer), new).boxed());
        }
        self.accept();
        Ok(true)
    }

    /// Asks for topics of which it is known by now that they are there.
    fn ask_for(&mut self, counts: Counts) -> Result<()> {
        self.counts = None;
        let mut is_more = false;
        for (topic, count) in counts {
            match count {
                Ok(count) => is_more |= self.topics.insert(topic, count) != Some(count),
                Err(error) => {
                    tracing::warn!(group = self.member.group, topic, %error, "cannot find a topic");
                    self.member.refuse(Some(&topic), &error);
                }
            }
        }
        // Others may have become wanted meanwhile; those that were not found are looked for later.
        if self.member.is_awaited() {
            self.member.changed.notify_one();
        }
        if is_more { self.ask() } else { Ok(()) }
    }

    /// Asks the group for the topics; without a group, takes all their partitions.
    fn ask(&mut self) -> Result<()> {
        if self.member.is_ephemeral {
            let all = self
                .topics
                .iter()
                .flat_map(|(topic, count)| (0..*count).map(|number| (topic.clone(), number)));
            let all = all.collect();
            self.look_up(all);
            return Ok(());
        }
        let topics: Vec<_> = self.topics.keys().map(String::as_str).collect();
        let consumer = &self.client.consumer;
        if topics.is_empty() {
            consumer.unsubscribe();
            return Ok(());
        }
        consumer
            .subscribe(&topics)
            .map_err(|error| failure::of("cannot join the consumer group", error))
    }

    fn look_again(&mut self) -> Result<()> {
        self.look = Instant::now() + LOOK;
        if self.member.is_ephemeral && self.counts.is_none() {
            let topics = self.topics.keys().cloned().collect();
            self.counts = Some(count(Arc::clone(&self.client.consumer), topics).boxed());
            return Ok(());
        }
        self.follow().map(drop)
    }

    fn hear(&mut self, event: Option<Event>) -> Result<()> {
        match event {
            Some(Event::Assigned(partitions)) => {
                let topics = &self.topics;
                let wanted = partitions
                    .into_iter()
                    .filter(|(topic, _)| topics.contains_key(topic))
                    .collect();
                self.standing = Standing::Asking;
                self.look_up(wanted);
            }
            Some(Event::Revoked) => {
                self.starts = None;
                let until = Instant::now() + PATIENCE;
                self.standing = Standing::Leaving {
                    until,
                    is_told: false,
                };
            }
            Some(Event::Failed(error)) => self.failed(error)?,
            Some(Event::Strayed) | None => {
                return Err(Error::internal(
                    "the client of the consumer group is not served as it must be",
                ));
            }
        }
        Ok(())
    }

    fn failed(&self, error: KafkaError) -> Result<()> {
        use RDKafkaErrorCode as Code;
        let is_fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        match error.rdkafka_error_code() {
            Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::GroupAuthorizationFailed) => {
                Err(failure::of("cannot join the consumer group", error))
            }
            _ if is_fatal => Err(failure::of("the client of the consumer group gave up", error)),
            Some(Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve) => Ok(()),
            _ => {
                tracing::warn!(group = self.member.group, %error, "trouble with a consumer group");
                Ok(())
            }
        }
    }

    /// Finds out where the group is in `partitions`.
    fn look_up(&mut self, partitions: Vec<Partition>) {
        let has_group = !self.member.is_ephemeral;
        let asked: Vec<_> = partitions
            .into_iter()
            .map(|partition| {
                let end = self.end_of(&partition);
                (partition, end)
            })
            .collect();
        self.starts = Some(look_up(Arc::clone(&self.client.consumer), asked, has_group).boxed());
    }

    /// Where to begin with a partition that the group has no position in.
    fn end_of(&self, partition: &Partition) -> InitialOffset {
        let (topic, number) = partition;
        let is_new = if self.member.is_ephemeral {
            !self.parts.is_empty()
        } else {
            // The topic got it after it was subscribed to, or the brokers lost where the group was:
            // what is in it came later.
            self.topics.get(topic).is_some_and(|count| number >= count) || self.pinned().contains(partition)
        };
        match (is_new, self.member.is_ephemeral) {
            (true, _) => InitialOffset::Oldest,
            (false, true) => InitialOffset::Newest,
            (false, false) => self.setup.initial,
        }
    }

    /// Begins to serve the partitions assigned.
    fn begin(&mut self, starts: Starts) -> Result<()> {
        self.starts = None;
        let refused = |error| failure::of("cannot take over partitions", error);
        for (partition, part) in &mut self.parts {
            if !starts.contains_key(partition) {
                part.lose();
            }
        }
        let mut list = TopicPartitionList::with_capacity(starts.len());
        for (partition, start) in starts {
            let (topic, number) = &partition;
            if start.is_committed {
                self.pinned().insert(partition.clone());
            }
            if !self.parts.contains_key(&partition) {
                let part = Part::new(&self.client.consumer, topic, *number)
                    .ok_or_else(|| Error::internal(format!("no partition {number} of {topic}")))?;
                self.parts.insert(partition.clone(), part);
            }
            if let Some(part) = self.parts.get_mut(&partition) {
                let from = Offset::Offset(part.assign(start));
                list.add_partition_offset(topic, *number, from).map_err(refused)?;
            }
        }
        self.client.consumer.assign(&list).map_err(refused)?;
        self.standing = Standing::In(Instant::now());
        let served: Vec<_> = self.parts.keys().cloned().collect();
        served.into_iter().for_each(|partition| self.fetch(partition));
        self.plan_commit(Duration::ZERO);
        self.accept();
        Ok(())
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

    fn plan_commit(&mut self, wait: Duration) {
        self.commit_at.get_or_insert(Instant::now() + wait);
    }

    /// Sends what the broker does not know yet, after what is on its way. `false` where there is
    /// nothing to wait for.
    fn commit(&mut self, is_last: bool) -> bool {
        if self.committing.is_some() {
            return true;
        }
        self.commit_at = None;
        if self.member.is_ephemeral {
            return false;
        }
        let unsaid = self
            .parts
            .iter()
            .filter_map(|(partition, part)| Some((partition, part.unsaid(is_last)?)));
        let marks: Vec<_> = unsaid
            .map(|(partition, mark)| (partition.clone(), mark))
            .collect();
        if marks.is_empty() {
            return false;
        }
        self.committing = Some(commit(Arc::clone(&self.client.consumer), marks).boxed());
        true
    }

    /// The broker answered. Returns whether it took the offsets.
    fn committed(&mut self, (marks, result): Commit) -> bool {
        self.committing = None;
        if let Err(error) = result {
            // Partitions that went to others are not this member's to speak of.
            tracing::debug!(group = self.member.group, %error, "offsets were not committed");
            self.plan_commit(PAUSE);
            return false;
        }
        for (partition, mark) in marks {
            let Some(part) = self.parts.get_mut(&partition) else {
                continue;
            };
            let is_first = !part.is_pinned();
            part.said(mark);
            if is_first {
                self.pinned().insert(partition);
            }
        }
        self.accept();
        true
    }

    /// Subscriptions are made once the group has a position in each partition of their topic that
    /// this member has; where it has none, once it seems that other members have them.
    fn accept(&self) {
        let Standing::In(since) = self.standing else {
            return;
        };
        if !self.member.is_awaited() {
            return;
        }
        for topic in self.topics.keys() {
            let own = || {
                self.parts
                    .iter()
                    .filter(|((of, _), part)| of == topic && part.is_assigned())
            };
            let is_made = if own().next().is_none() {
                since.elapsed() >= ALL_TAKEN
            } else {
                self.member.is_ephemeral || own().all(|(_, part)| part.is_pinned())
            };
            if is_made {
                self.member.accept(topic);
            }
        }
    }

    /// Goes on letting go of the partitions, where it must.
    fn leave(&mut self) -> Result<()> {
        let Standing::Leaving { until, is_told } = self.standing else {
            return Ok(());
        };
        let is_late = Instant::now() >= until;
        if !is_told {
            let is_running = self
                .parts
                .values()
                .any(|part| part.is_assigned() && part.is_running());
            if !is_late && (is_running || self.committing.is_some()) {
                return Ok(());
            }
            self.standing = Standing::Leaving {
                until: Instant::now() + LAST_COMMIT,
                is_told: true,
            };
            self.commit(true);
            return self.leave();
        }
        if self.committing.is_some() && !is_late {
            return Ok(());
        }
        self.let_go()
    }

    fn let_go(&mut self) -> Result<()> {
        self.client
            .consumer
            .unassign()
            .map_err(|error| failure::of("cannot give up partitions", error))?;
        self.parts.values_mut().for_each(Part::unassign);
        self.standing = Standing::Out;
        (self.commit_at, self.committing) = (None, None);
        Ok(())
    }

    /// Commits all there is, before the group is left.
    async fn say_last(&mut self) {
        let said = async {
            while self.commit(true) {
                let Some(commit) = answer(&mut self.committing).await else {
                    return true;
                };
                if !self.committed(commit) {
                    return false;
                }
            }
            true
        };
        if timeout(LAST_COMMIT, said).await.is_err() {
            tracing::warn!(
                group = self.member.group,
                "the last offsets were not committed in time"
            );
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

/// Sends offsets, and asks the broker for them. What became of them the library tells nobody but a
/// thread that waits for as long as that takes; the question has an end.
async fn commit(consumer: Arc<GroupConsumer>, marks: Vec<(Partition, Mark)>) -> Commit {
    let list = offsets::list(marks.iter().map(|(partition, mark)| (partition, *mark)));
    let sent = list.and_then(|list| consumer.commit(&list, CommitMode::Async));
    let noted = match sent {
        Ok(()) => are_noted(consumer, &marks).await,
        Err(error) => Err(failure::of("offsets cannot be sent", error)),
    };
    (marks, noted)
}

async fn are_noted(consumer: Arc<GroupConsumer>, marks: &[(Partition, Mark)]) -> Result<()> {
    let partitions: Vec<_> = marks.iter().map(|(partition, _)| partition.clone()).collect();
    // Behind the offsets on their connection: what it finds is what became of them.
    let asked = spawn_blocking(move || offsets::committed(&consumer, partitions.iter())).await;
    let known = asked
        .map_err(|panic| Error::internal("cannot ask for offsets").with_source(panic))?
        .map_err(|error| failure::of("the broker does not say what it noted", error))?;
    match marks
        .iter()
        .all(|(partition, mark)| known.get(partition) == Some(mark))
    {
        true => Ok(()),
        false => Err(Error::unavailable("the broker did not note the offsets")),
    }
}

/// Finds out where the group is in partitions, and where to begin in others. Tries until it knows.
async fn look_up(
    consumer: Arc<GroupConsumer>,
    asked: Vec<(Partition, InitialOffset)>,
    has_group: bool,
) -> Starts {
    let asked = Arc::new(asked);
    loop {
        let (consumer, asked) = (Arc::clone(&consumer), Arc::clone(&asked));
        match spawn_blocking(move || starts(&consumer, &asked, has_group)).await {
            Ok(Ok(starts)) => return starts,
            Ok(Err(error)) => tracing::debug!(%error, "cannot find out where a consumer group is"),
            Err(panic) => tracing::error!(%panic, "cannot find out where a consumer group is"),
        }
        sleep(PAUSE).await;
    }
}

fn starts(
    consumer: &GroupConsumer,
    asked: &[(Partition, InitialOffset)],
    has_group: bool,
) -> KafkaResult<Starts> {
    let mut known = HashMap::new();
    if has_group && !asked.is_empty() {
        known = offsets::committed(consumer, asked.iter().map(|(partition, _)| partition))?;
    }
    let others: Vec<_> = asked
        .iter()
        .filter(|(partition, _)| !known.contains_key(partition))
        .collect();
    let ends = offsets::ends(consumer, &others)?;
    let start = |is_committed| move |(partition, mark)| (partition, Start { mark, is_committed });
    Ok(known
        .into_iter()
        .map(start(true))
        .chain(ends.into_iter().map(start(false)))
        .collect())
}

/// How many partitions topics have; asking for a topic makes it, where brokers are set up to do so.
async fn count(consumer: Arc<GroupConsumer>, topics: Vec<String>) -> Counts {
    let mut counts = Vec::new();
    for topic in topics {
        let count = count_one(&consumer, &topic).await;
        counts.push((topic, count));
    }
    counts
}

async fn count_one(consumer: &Arc<GroupConsumer>, topic: &str) -> Result<i32> {
    let until = Instant::now() + NEW_TOPIC;
    loop {
        let (asking, name) = (Arc::clone(consumer), topic.to_owned());
        let count = spawn_blocking(move || offsets::partitions(&asking, &name)).await;
        let error = match count {
            Ok(Ok(count)) => return Ok(count),
            Ok(Err(error)) => failure::of(&format!("cannot subscribe to topic {topic}"), error),
            Err(panic) => return Err(Error::internal("cannot look for a topic").with_source(panic)),
        };
        let is_coming = matches!(
            error.kind(),
            ErrorKind::NotFound | ErrorKind::Unavailable | ErrorKind::Timeout
        );
        if !is_coming || Instant::now() >= until {
            return Err(error);
        }
        sleep(NEW_TOPIC_PAUSE).await;
    }
}
