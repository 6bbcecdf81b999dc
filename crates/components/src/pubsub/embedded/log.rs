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
        broker::{Journal, Times},
        delivery::{Source, Stored},
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
) -> Attempt<Result<Appended>> {
    let mut groups = topics.groups(&message.topic);
    if groups.iter().all(|(_, queue)| queue.is_ephemeral()) {
        let unclaimed = topics.queue(&place((&message.topic, UNCLAIMED)));
        groups.push((UNCLAIMED.to_owned(), unclaimed));
    }
    let mut effect = Effect::None;
    let room = Room::make(&message.topic, &groups, (limit, now), |group, entry| {
        effect = Effect::Lazy;
        remove(tx, &message.topic, group, entry.id).map(drop)
    });
    let room = match room {
        // Not a refusal of the operation, which would keep the messages that ended.
        Err(Failure::Refused(full)) => return Ok((Err(full), effect)),
        room => room?,
    };
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
    let appended = Appended {
        room,
        due: times.due.max(now),
        entry,
    };
    Ok((Ok(appended), Effect::Durable))
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
    async fn append(&self, message: Stored, times: Times, limit: usize) -> Result<u64> {
        let (topics, clock) = (Arc::clone(&self.topics), self.store.clock().clone());
        let operation =
            move |tx: &WriteTransaction| append(tx, &topics, &message, times, (limit, clock.now()));
        self.store
            .write_then(operation, |outcome| outcome?.map(enter))
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
}

#[async_trait]
impl Source for Log {
    type Body = ();

    fn load(&self, entry: &Entry<()>) -> Result<Option<Stored>> {
        self.store.read(|tx| {
            let row = tx.open_table(MESSAGE)?.get(entry.id)?;
            Ok(row.map(|row| stored(row.value())))
        })
    }

    async fn settle(&self, place: &Place, entry: &Entry<()>) -> Result<()> {
        let (place, id) = (place.clone(), entry.id);
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
                return Ok((Ok(None), Effect::None));
            };
            let (moved, effect) = append(tx, &topics, &copy, Times::default(), (limit, clock.now()))?;
            if moved.is_ok() {
                remove(tx, &place.topic, &place.group, id)?;
            }
            Ok((moved.map(Some), effect))
        };
        let enter = |outcome: Result<Result<Option<Appended>>>| outcome?.map(|moved| moved.map(enter));
        self.store.write_then(operation, enter).await.map(drop)
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
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{client::embedded::Durability, clock::Clock};

    #[tokio::test]
    async fn what_a_refused_message_pushed_out_is_gone_from_the_file_too() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
        let file = folder.path().join("layotto.db");
        let store = Arc::new(Store::open(file, Durability::Os, clock.clone()).await.unwrap());
        let (log, place) = (Log::open(Arc::clone(&store)).await.unwrap(), place(("t", "g")));
        let _queue = log.group(&place, false).await.unwrap();
        let message = || Stored {
            topic: "t".to_owned(),
            data: Bytes::from_static(b"m"),
            metadata: Metadata::new(),
        };
        let brief = Times {
            due: 0,
            end: clock.after(Duration::from_secs(1)),
        };
        log.append(message(), brief, 2).await.unwrap();
        let lasting = log.append(message(), Times::default(), 2).await.unwrap();
        clock.advance(Duration::from_secs(1));
        assert!(log.append(message(), Times::default(), 1).await.is_err());
        let left = store
            .write(move |tx| Ok((waiting(tx, "t", "g")?, Effect::None)))
            .await
            .unwrap();
        assert_eq!(left.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [lasting]);
    }
}
