//! Joining: asks the group for topics, finds out where to begin with the partitions it gives, and
//! lets go of them when it is rearranged.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use layotto_core::{Error, ErrorKind, Result};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::Consumer,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{ALL_TAKEN, Counts, LAST_COMMIT, LOOK, PAUSE, Session, Standing, Starts};
use crate::{
    client::kafka::failure,
    pubsub::kafka::{
        InitialOffset,
        consumer::{Event, GroupConsumer, Lent},
        offsets::{self, Partition, Start},
        part::Part,
    },
};

/// How long a member keeps the others of its group waiting for handlers that run.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a topic may take to appear that was just made.
const NEW_TOPIC: Duration = Duration::from_secs(15);
const NEW_TOPIC_PAUSE: Duration = Duration::from_millis(100);

impl Session<'_> {
    /// Finds out what is wanted now. `false` where nothing is.
    pub(super) fn follow(&mut self) -> Result<bool> {
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
            self.counts = Some(count(self.client.lend(), new).boxed());
        }
        self.accept();
        Ok(true)
    }

    /// Asks for topics of which it is known by now that they are there.
    pub(super) fn ask_for(&mut self, counts: Counts) -> Result<()> {
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

    pub(super) fn look_again(&mut self) -> Result<()> {
        self.look = Instant::now() + LOOK;
        if self.member.is_ephemeral && self.counts.is_none() {
            let topics = self.topics.keys().cloned().collect();
            self.counts = Some(count(self.client.lend(), topics).boxed());
            return Ok(());
        }
        self.follow().map(drop)
    }

    pub(super) fn hear(&mut self, event: Option<Event>) -> Result<()> {
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
        self.starts = Some(look_up(self.client.lend(), asked, has_group).boxed());
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
    pub(super) fn begin(&mut self, starts: Starts) -> Result<()> {
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

    /// Subscriptions are made once the group has a position in each partition of their topic that
    /// this member has; where it has none, once it seems that other members have them.
    pub(super) fn accept(&self) {
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
    pub(super) fn leave(&mut self) -> Result<()> {
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
        // Older offsets may have been on their way when the last ones were due.
        if !is_late && (self.committing.is_some() || !self.is_in_doubt && self.commit(true)) {
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
        // Nobody hears any more what becomes of what is on its way.
        self.is_in_doubt |= self.committing.is_some();
        (self.commit_at, self.committing) = (None, None);
        Ok(())
    }
}

/// Finds out where the group is in partitions, and where to begin in others. Tries until it knows.
async fn look_up(consumer: Lent, asked: Vec<(Partition, InitialOffset)>, has_group: bool) -> Starts {
    let asked = Arc::new(asked);
    loop {
        let (consumer, asked) = (consumer.clone(), Arc::clone(&asked));
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
async fn count(consumer: Lent, topics: Vec<String>) -> Counts {
    let mut counts = Vec::new();
    for topic in topics {
        let count = count_one(&consumer, &topic).await;
        counts.push((topic, count));
    }
    counts
}

async fn count_one(consumer: &Lent, topic: &str) -> Result<i32> {
    let until = Instant::now() + NEW_TOPIC;
    loop {
        let (asking, name) = (consumer.clone(), topic.to_owned());
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
