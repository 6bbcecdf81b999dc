//! Messages in the embedded store. Queues in memory hold their order and ids; payloads stay in the
//! file until they are delivered.
//!
//! All changes are made on the store's writer thread, queues included, so that the queues and the
//! tables agree.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use layotto_core::{Metadata, Result};
use redb::{ReadableTable, WriteTransaction};

use crate::{
    client::embedded::{self, Attempt, Effect, Failure, GROUP, MESSAGE, MESSAGE_USERS, QUEUE_ENTRY, Store},
    clock::Millis,
    pubsub::{
        broker::{Journal, Stored, Times},
        queue::{Entry, Place, Queue, Room, Topics},
    },
};

/// The group that holds what is published before there is a real one.
const UNCLAIMED: &str = "";

/// A message in a queue: due, failed attempts, end.
type Row = (Millis, u32, Millis);

/// The messages of a store.
pub(super) struct Log {
    store: Arc<Store>,
    topics: Arc<Topics<()>>,
}

/// A message taken in, with room for it in every queue.
struct Appended {
    room: Room<()>,
    due: Millis,
    entry: Entry<()>,
}

impl Log {
    /// Finds what earlier processes left.
    pub(super) async fn open(store: Arc<Store>) -> Result<Self> {
        let topics = store.write(recover).await?;
        Ok(Self {
            store,
            topics: Arc::new(topics),
        })
    }

    /// Fails when the store can no longer be used.
    pub(super) fn check(&self) -> Result<()> {
        self.store.check()
    }
}

fn recover(tx: &WriteTransaction) -> Attempt<Topics<()>> {
    let (topics, known) = (Topics::default(), tx.open_table(GROUP)?);
    for row in known.iter()? {
        topics.queue(&place(row?.0.value()));
    }
    let mut orphans = Vec::new();
    for row in tx.open_table(QUEUE_ENTRY)?.iter()? {
        let (key, row) = row?;
        let ((topic, group, id), (due, attempts, end)) = (key.value(), row.value());
        let place = place((topic, group));
        if group != UNCLAIMED && known.get((topic, group))?.is_none() {
            orphans.push((place, id));
            continue;
        }
        let entry = Entry {
            id,
            attempts,
            end,
            body: (),
        };
        topics.queue(&place).put(due, entry);
    }
    // Groups of one subscription that a crash kept from being left.
    for (place, id) in &orphans {
        remove(tx, &place.topic, &place.group, *id)?;
    }
    let effect = if orphans.is_empty() {
        Effect::None
    } else {
        Effect::Lazy
    };
    Ok((topics, effect))
}

fn place((topic, group): (&str, &str)) -> Place {
    Place {
        topic: topic.to_owned(),
        group: group.to_owned(),
    }
}

fn append(
    tx: &WriteTransaction,
    topics: &Topics<()>,
    message: &Stored,
    times: Times,
    (limit, now): (usize, Millis),
) -> Result<Appended, Failure> {
    let mut groups = topics.groups(&message.topic);
    if groups.iter().all(|(_, queue)| queue.is_ephemeral()) {
        let unclaimed = topics.queue(&place((&message.topic, UNCLAIMED)));
        groups.push((UNCLAIMED.to_owned(), unclaimed));
    }
    let room = Room::make(&message.topic, &groups, (limit, now), |group, entry| {
        remove(tx, &message.topic, group, entry.id).map(drop)
    })?;
    let id = embedded::count(tx, "message")?;
    let metadata = serde_json::to_vec(&message.metadata).expect("invariant: a map of texts has a JSON form");
    let row = (message.topic.as_str(), &metadata[..], &message.data[..]);
    tx.open_table(MESSAGE)?.insert(id, row)?;
    let users = u32::try_from(groups.len()).unwrap_or(u32::MAX);
    tx.open_table(MESSAGE_USERS)?.insert(id, users)?;
    let mut entries = tx.open_table(QUEUE_ENTRY)?;
    for (group, _) in &groups {
        let key = (message.topic.as_str(), group.as_str(), id);
        entries.insert(key, (times.due, 0, times.end))?;
    }
    let entry = Entry {
        id,
        attempts: 0,
        end: times.end,
        body: (),
    };
    Ok(Appended {
        room,
        due: times.due.max(now),
        entry,
    })
}

/// Takes a message out of a queue, and away when it was the last. `false` where it was gone.
fn remove(tx: &WriteTransaction, topic: &str, group: &str, id: u64) -> Result<bool, Failure> {
    let known = tx.open_table(QUEUE_ENTRY)?.remove((topic, group, id))?.is_some();
    if !known {
        return Ok(false);
    }
    let mut users = tx.open_table(MESSAGE_USERS)?;
    let left = users.get(id)?.map_or(0, |users| users.value().saturating_sub(1));
    if left > 0 {
        users.insert(id, left)?;
    } else {
        users.remove(id)?;
        tx.open_table(MESSAGE)?.remove(id)?;
    }
    Ok(true)
}

/// The messages of a group as the table has them.
fn waiting(tx: &WriteTransaction, topic: &str, group: &str) -> Result<Vec<(u64, Row)>, Failure> {
    let entries = tx.open_table(QUEUE_ENTRY)?;
    let mut waiting = Vec::new();
    for row in entries.range((topic, group, 0)..=(topic, group, u64::MAX))? {
        let (key, row) = row?;
        waiting.push((key.value().2, row.value()));
    }
    Ok(waiting)
}

/// Gives what nobody claimed to the group of `place`.
fn claim(tx: &WriteTransaction, place: &Place) -> Result<(), Failure> {
    let (topic, group) = (place.topic.as_str(), place.group.as_str());
    let unclaimed = waiting(tx, topic, UNCLAIMED)?;
    let mut entries = tx.open_table(QUEUE_ENTRY)?;
    for (id, row) in unclaimed {
        entries.remove((topic, UNCLAIMED, id))?;
        entries.insert((topic, group, id), row)?;
    }
    Ok(())
}

fn copy_to(tx: &WriteTransaction, to: &str, id: u64) -> Result<Option<Stored>, Failure> {
    let messages = tx.open_table(MESSAGE)?;
    let row = messages.get(id)?;
    Ok(row.map(|row| Stored {
        topic: to.to_owned(),
        ..stored(row.value())
    }))
}

fn stored((topic, metadata, data): (&str, &[u8], &[u8])) -> Stored {
    Stored {
        topic: topic.to_owned(),
        data: Bytes::copy_from_slice(data),
        metadata: serde_json::from_slice::<Metadata>(metadata).unwrap_or_default(),
    }
}

/// Lets the queues have a message, once it is committed.
fn enter(appended: Appended) -> u64 {
    appended.room.fill(appended.due, &appended.entry);
    appended.entry.id
}

#[async_trait]
impl Journal for Log {
    type Body = ();

    async fn append(&self, message: Stored, times: Times, limit: usize) -> Result<u64> {
        let (topics, clock) = (Arc::clone(&self.topics), self.store.clock().clone());
        let operation = move |tx: &WriteTransaction| {
            let appended = append(tx, &topics, &message, times, (limit, clock.now()))?;
            Ok((appended, Effect::Durable))
        };
        self.store
            .write_then(operation, |outcome| outcome.map(enter))
            .await
    }

    async fn group(&self, place: &Place, ephemeral: bool) -> Result<Arc<Queue<()>>> {
        let (topics, place) = (Arc::clone(&self.topics), place.clone());
        let operation = move |tx: &WriteTransaction| {
            if ephemeral {
                return Ok((topics.ephemeral_queue(&place), Effect::None));
            }
            let key = (place.topic.as_str(), place.group.as_str());
            if tx.open_table(GROUP)?.get(key)?.is_some() {
                return Ok((topics.queue(&place), Effect::None));
            }
            tx.open_table(GROUP)?.insert(key, ())?;
            if topics
                .groups(&place.topic)
                .iter()
                .any(|(group, _)| group == UNCLAIMED)
            {
                claim(tx, &place)?;
                topics.rename(&place.topic, UNCLAIMED, &place.group);
            }
            Ok((topics.queue(&place), Effect::Durable))
        };
        self.store.write(operation).await
    }

    async fn leave(&self, place: &Place) -> Result<()> {
        let (topics, place) = (Arc::clone(&self.topics), place.clone());
        let operation = move |tx: &WriteTransaction| {
            topics.remove(&place);
            for (id, _) in waiting(tx, &place.topic, &place.group)? {
                remove(tx, &place.topic, &place.group, id)?;
            }
            Ok(((), Effect::Lazy))
        };
        self.store.write(operation).await
    }

    fn load(&self, entry: &Entry<()>) -> Result<Option<Stored>> {
        self.store.read(|tx| {
            let row = tx.open_table(MESSAGE)?.get(entry.id)?;
            Ok(row.map(|row| stored(row.value())))
        })
    }

    async fn settle(&self, place: &Place, id: u64) -> Result<()> {
        let place = place.clone();
        // Lazy: the price of losing it is one more delivery after a crash.
        let operation = move |tx: &WriteTransaction| {
            remove(tx, &place.topic, &place.group, id)?;
            Ok(((), Effect::Lazy))
        };
        self.store.write(operation).await
    }

    async fn note_failure(&self, place: &Place, entry: &Entry<()>) -> Result<()> {
        let (place, id, attempts) = (place.clone(), entry.id, entry.attempts);
        let operation = move |tx: &WriteTransaction| {
            let mut entries = tx.open_table(QUEUE_ENTRY)?;
            let key = (place.topic.as_str(), place.group.as_str(), id);
            let known = entries.get(key)?.map(|row| row.value());
            let Some((due, _, end)) = known else {
                return Ok(((), Effect::None));
            };
            entries.insert(key, (due, attempts, end))?;
            Ok(((), Effect::Lazy))
        };
        self.store.write(operation).await
    }

    async fn move_to(&self, to: &str, place: &Place, entry: &Entry<()>, limit: usize) -> Result<()> {
        let (to, place, id) = (to.to_owned(), place.clone(), entry.id);
        let (topics, clock) = (Arc::clone(&self.topics), self.store.clock().clone());
        let operation = move |tx: &WriteTransaction| {
            let Some(copy) = copy_to(tx, &to, id)? else {
                return Ok((None, Effect::None));
            };
            let moved = append(tx, &topics, &copy, Times::default(), (limit, clock.now()))?;
            remove(tx, &place.topic, &place.group, id)?;
            Ok((Some(moved), Effect::Durable))
        };
        let enter = |outcome: Result<Option<Appended>>| outcome.map(|moved| moved.map(enter));
        self.store.write_then(operation, enter).await.map(|_| ())
    }
}
