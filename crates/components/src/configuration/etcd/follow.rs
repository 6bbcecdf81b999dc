//! Following the changes of an application's items, over lost connections and compactions.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use layotto_core::{
    Error, ErrorKind, Result,
    configuration::{Item, Selector},
};

use super::layout::{self, Place, Tags};
use crate::{
    client::{
        etcd::{
            Client, Ended, Watching,
            wire::{Event, KeyValue, RangeRequest, WatchCreateRequest, WatchResponse, end_of},
        },
        pace::{Backoff, spread},
    },
    configuration::feed::Feed,
};

/// Pauses between tries to go on.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(800));
/// The pause where the user may not watch: each try has a node check the password.
const REFUSED: Duration = Duration::from_secs(10);

/// Follows the items of one subscription.
pub(super) struct Follower {
    client: Arc<Client>,
    feed: Arc<Feed>,
    /// Group and label, without a key.
    scope: Place,
    /// The keys wanted; `None` for all.
    keys: Option<HashSet<String>>,
    /// The revision of each item that is there, as far as the subscriber was told.
    known: HashMap<String, i64>,
    /// The first revision not seen yet.
    next: i64,
    watching: Option<Watching>,
}

impl Follower {
    /// Begins with the changes after the answer.
    pub(super) async fn begin(client: &Arc<Client>, selector: &Selector, feed: Arc<Feed>) -> Result<Self> {
        let mut follower = Self {
            client: Arc::clone(client),
            feed,
            scope: Place::new(&selector.app_id, &selector.group, &selector.label, ""),
            keys: (!selector.keys.is_empty()).then(|| selector.keys.iter().cloned().collect()),
            known: HashMap::new(),
            next: 0,
            watching: None,
        };
        let (revision, items) = follower.state().await?;
        follower.known = items
            .into_iter()
            .map(|(name, (key, _))| (name, key.mod_revision))
            .collect();
        follower.next = revision + 1;
        let begun = follower.watch().await;
        follower.watching = Some(begun.map_err(|ended| match ended {
            Ended::Lost(error) => error,
            Ended::Compacted => Error::unavailable("etcd: the revision just read is gone"),
        })?);
        Ok(follower)
    }

    /// Tells of changes until it is dropped.
    pub(super) async fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            match self.step().await {
                Ok(()) => failures = 0,
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    tracing::warn!(%error, "a subscription in etcd is not permitted any more");
                    tokio::time::sleep(spread(REFUSED)).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "a subscription in etcd is interrupted");
                    failures = failures.saturating_add(1);
                    tokio::time::sleep(PAUSES.after(failures)).await;
                }
            }
        }
    }

    /// As after a lost connection.
    #[cfg(test)]
    pub(super) fn interrupted(mut self) -> Self {
        self.watching = None;
        self
    }

    async fn step(&mut self) -> Result<()> {
        let outcome = match &mut self.watching {
            Some(watching) => watching.next().await.map(Some),
            None => self.watch().await.map(|watching| {
                self.watching = Some(watching);
                None
            }),
        };
        match outcome {
            Ok(Some(changes)) => self.take(changes),
            Ok(None) => {}
            Err(Ended::Lost(error)) => {
                self.watching = None;
                return Err(error);
            }
            Err(Ended::Compacted) => {
                self.watching = None;
                self.catch_up().await?;
            }
        }
        Ok(())
    }

    async fn watch(&self) -> Result<Watching, Ended> {
        let key = self.scope.application();
        let request = WatchCreateRequest {
            range_end: end_of(&key),
            key,
            start_revision: self.next,
            progress_notify: true,
        };
        self.client.watch(request).await
    }

    fn take(&mut self, changes: WatchResponse) {
        self.next = match (
            changes.events.last().and_then(|event| event.kv.as_ref()),
            &changes.header,
        ) {
            (Some(last), _) => last.mod_revision + 1,
            // Nothing has changed up to here.
            (None, Some(header)) => self.next.max(header.revision + 1),
            (None, None) => self.next,
        };
        let records = records(&changes.events);
        for event in &changes.events {
            let Some(key) = &event.kv else { continue };
            let Some(name) = self.scope.rest_of(&key.key) else {
                continue;
            };
            let known = self.known.get(&name).copied();
            let is_news = match known {
                Some(known) => known < key.mod_revision,
                None => !event.is_removal() && self.wants(&name),
            };
            if is_news {
                let place = self.scope.beside(&name);
                let tags_key = place.tags_key();
                let record = records.get(&(&tags_key[..], key.mod_revision)).copied();
                self.tell(place, event.is_removal(), key, record);
            }
        }
    }

    /// Tells of one change; `record` is what the same write said of tags.
    fn tell(&mut self, place: Place, is_removal: bool, key: &KeyValue, record: Option<&KeyValue>) {
        let item = if is_removal {
            self.known.remove(&place.key);
            layout::item(&place, b"", HashMap::new())
        } else {
            self.known.insert(place.key.clone(), key.mod_revision);
            let tags = record.map(|record| Tags::read(&record.value)).unwrap_or_default();
            layout::item(&place, &key.value, tags.0)
        };
        self.publish(item);
    }

    fn publish(&self, item: Item) {
        self.feed.publish(&self.scope.app_id, [item]);
    }

    /// Whether a key of the group and label is that of an item wanted, not of a tag.
    fn wants(&self, name: &str) -> bool {
        match &self.keys {
            Some(keys) => keys.contains(name),
            None => name
                .split_once('/')
                .is_none_or(|(owner, _)| !self.known.contains_key(owner)),
        }
    }

    /// Tells of what differs between the items as they were told and as they are.
    async fn catch_up(&mut self) -> Result<()> {
        let (revision, items) = self.state().await?;
        let gone: Vec<_> = self
            .known
            .keys()
            .filter(|name| !items.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            self.known.remove(&name);
            self.publish(layout::item(&self.scope.beside(&name), b"", HashMap::new()));
        }
        for (name, (key, tags)) in items {
            if self.known.insert(name.clone(), key.mod_revision) != Some(key.mod_revision) {
                self.publish(layout::item(&self.scope.beside(&name), &key.value, tags));
            }
        }
        self.next = revision + 1;
        Ok(())
    }

    /// All items wanted, with their tags, at one revision.
    async fn state(&self) -> Result<(i64, BTreeMap<String, (KeyValue, HashMap<String, String>)>)> {
        let ranges = vec![
            RangeRequest::prefix(self.scope.key()),
            RangeRequest::prefix(self.scope.tags_key()),
        ];
        let answer = self.client.read(ranges).await?;
        let revision = answer.revision();
        let mut ranges = super::keys_of(answer).into_iter();
        let (keys, records) = (
            ranges.next().unwrap_or_default(),
            ranges.next().unwrap_or_default(),
        );
        let items = layout::gather(&self.scope, keys, &records).into_iter();
        let wanted =
            items.filter(|(place, ..)| self.keys.as_ref().is_none_or(|keys| keys.contains(&place.key)));
        Ok((
            revision,
            wanted
                .map(|(place, key, tags)| (place.key, (key, tags)))
                .collect(),
        ))
    }
}

/// The records of tags among `events`, by key and revision.
fn records(events: &[Event]) -> HashMap<(&[u8], i64), &KeyValue> {
    let written = events.iter().filter(|event| !event.is_removal());
    let keys = written.filter_map(|event| event.kv.as_ref());
    keys.map(|key| ((&key.key[..], key.mod_revision), key)).collect()
}
