//! Where a group is in a partition: what is committed to the broker, and where to begin without.

use std::{collections::HashMap, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::Consumer,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    topic_partition_list::TopicPartitionListElem,
};

use super::{InitialOffset, consumer::GroupConsumer, source::Held};

/// How long the library may ask the broker for one thing.
const ANSWER: Duration = Duration::from_secs(2);

/// Before the number of failed deliveries in the metadata of a committed offset.
const FAILED: &str = "layotto failed ";

/// A partition of a topic.
pub(super) type Partition = (String, i32);

/// A position of a group: the first record it is not done with, and how often that one failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) offset: i64,
    pub(super) attempts: u32,
}

impl Mark {
    /// The group is done with `held`, the first it was not done with.
    pub(super) fn after(held: &Held) -> Self {
        Self {
            offset: held.offset + 1,
            attempts: 0,
        }
    }
}

/// Where the group is in a partition, as the broker knows it or as it should from now on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) mark: Mark,
    pub(super) is_committed: bool,
}

/// The list with which the library is told `marks`.
pub(super) fn list<'a>(
    marks: impl Iterator<Item = (&'a Partition, Mark)>,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), mark) in marks {
        let mut element = list.add_partition(topic, *partition);
        element.set_offset(Offset::Offset(mark.offset))?;
        if mark.attempts > 0 {
            element.set_metadata(format!("{FAILED}{}", mark.attempts));
        }
    }
    Ok(list)
}

/// What the group committed for `partitions`.
pub(super) fn committed<'a>(
    consumer: &GroupConsumer,
    partitions: impl Iterator<Item = &'a Partition>,
) -> KafkaResult<HashMap<Partition, Mark>> {
    let mut marks = HashMap::new();
    for element in ask(consumer, partitions)?.elements() {
        element.error()?;
        marks.extend(told(&element));
    }
    Ok(marks)
}

/// Those of `marks` that are what the group committed; others may be unknown.
pub(super) fn noted(
    consumer: &GroupConsumer,
    marks: &[(Partition, Mark)],
) -> KafkaResult<Vec<(Partition, Mark)>> {
    let answer = ask(consumer, marks.iter().map(|(partition, _)| partition))?;
    let elements = answer.elements();
    let known = elements.iter().filter(|element| element.error().is_ok());
    let known: HashMap<_, _> = known.filter_map(told).collect();
    let is_noted = |(partition, mark): &&(Partition, Mark)| known.get(partition) == Some(mark);
    Ok(marks.iter().filter(is_noted).cloned().collect())
}

fn ask<'a>(
    consumer: &GroupConsumer,
    partitions: impl Iterator<Item = &'a Partition>,
) -> KafkaResult<TopicPartitionList> {
    let mut asked = TopicPartitionList::new();
    for (topic, partition) in partitions {
        asked.add_partition(topic, *partition);
    }
    consumer.committed_offsets(asked, ANSWER)
}

/// The position that the broker told of a partition; `None` where there is none.
fn told(element: &TopicPartitionListElem<'_>) -> Option<(Partition, Mark)> {
    let Offset::Offset(offset) = element.offset() else {
        return None;
    };
    let failed = element.metadata().strip_prefix(FAILED);
    let attempts = failed.and_then(|count| count.parse().ok()).unwrap_or(0);
    let partition = (element.topic().to_owned(), element.partition());
    Some((partition, Mark { offset, attempts }))
}

/// The offsets of the oldest or the next record of `partitions`.
pub(super) fn ends(
    consumer: &GroupConsumer,
    partitions: &[&(Partition, InitialOffset)],
) -> KafkaResult<HashMap<Partition, Mark>> {
    if partitions.is_empty() {
        return Ok(HashMap::new());
    }
    let mut asked = TopicPartitionList::with_capacity(partitions.len());
    for ((topic, partition), end) in partitions {
        // Taken for times by the broker: -1 is the end, -2 the beginning.
        let end = match end {
            InitialOffset::Newest => Offset::End,
            InitialOffset::Oldest => Offset::Beginning,
        };
        asked.add_partition_offset(topic, *partition, end)?;
    }
    let answer = consumer.offsets_for_times(asked, ANSWER)?;
    let mut marks = HashMap::new();
    for element in answer.elements() {
        element.error()?;
        let Offset::Offset(offset) = element.offset() else {
            return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset));
        };
        let mark = Mark { offset, attempts: 0 };
        marks.insert((element.topic().to_owned(), element.partition()), mark);
    }
    Ok(marks)
}

/// How many partitions `topic` has. Asking makes the topic, where brokers are set up to do so.
pub(super) fn partitions(consumer: &GroupConsumer, topic: &str) -> KafkaResult<i32> {
    let unknown = || KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or_else(unknown)?;
    if let Some(error) = found.error() {
        return Err(KafkaError::MetadataFetch(error.into()));
    }
    let partitions = found.partitions();
    if partitions.iter().any(|partition| partition.leader() < 0) {
        return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable));
    }
    i32::try_from(partitions.len())
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(unknown)
}
