//! Configuration in etcd, in the layout of Go Layotto.

mod follow;
mod layout;

use std::{collections::HashSet, slice, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use layotto_core::{
    Component, Context, Error, Metadata, Open, Result, Secret,
    configuration::{ConfigStore, Item, Selector, Subscription},
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use self::{
    follow::Follower,
    layout::{Place, Tags},
};
use super::{
    DEFAULT,
    feed::{Feed, Keys},
};
use crate::{
    client::etcd::{
        Client, Endpoints, Repeat, Settings,
        wire::{
            Compare, DeleteRangeRequest, KeyValue, Operand, RangeRequest, RequestOp, Response, TxnRequest,
            TxnResponse,
        },
    },
    seconds::Seconds,
};

/// The most operations of one transaction, as etcd has it by default.
const OPERATIONS: usize = 128;
/// The most bytes written by one transaction, unless one item alone has more: etcd takes 1.5 MiB.
const BYTES: usize = 1 << 20;
/// How often items are written again that somebody else changes meanwhile.
const TRIES: usize = 16;

/// Configuration in etcd: one key for each item, the same as Go Layotto's, so that sidecars of both
/// kinds share it. A request that names no keys reads, or watches, all keys of its group and label.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// The nodes, `host:port` each, as a list or parted by `;`. Another is used when one is away.
    pub address: Endpoints,
    /// The longest wait for a connection to a node: whole seconds, or a duration such as `500ms`.
    /// Default 10.
    pub timeout: Option<Seconds>,
    /// The nodes, under the name that other kinds of components in etcd have for them, so that all
    /// can use one connection. Where there is an `address`, that counts.
    pub endpoints: Endpoints,
    /// The same as `timeout`, for nodes named by `endpoints`. Default 5.
    pub dial_timeout: Option<Seconds>,
    /// The user; none where the nodes need none.
    pub username: String,
    /// The user's password.
    pub password: Secret,
    /// The certificates that the nodes' certificates must come from: a PEM file, or PEM itself.
    /// Default, where TLS is used: those that the system trusts.
    pub tls_ca: String,
    /// The client's certificate: a PEM file, or PEM itself.
    pub tls_cert: String,
    /// The key of the client's certificate: a PEM file, or PEM itself.
    pub tls_cert_key: Secret,
    /// Takes any certificate of a node: whoever is on the way can read and change everything. Use
    /// it in no production. Default false.
    pub tls_skip_verify: bool,
}

impl Config {
    fn settings(self) -> Settings {
        let ten = Seconds(Duration::from_secs(10));
        let (endpoints, dial_timeout) = match self.address.0.is_empty() {
            true => (self.endpoints, self.dial_timeout.or(self.timeout)),
            false => (self.address, self.timeout.or(Some(ten))),
        };
        Settings {
            endpoints,
            dial_timeout,
            key_prefix_path: String::new(),
            username: self.username,
            password: self.password,
            tls_ca: self.tls_ca,
            tls_cert: self.tls_cert,
            tls_cert_key: self.tls_cert_key,
            tls_skip_verify: self.tls_skip_verify,
        }
    }
}

/// A configuration store in etcd.
pub struct Etcd {
    client: Arc<Client>,
    cx: Context,
    stop: CancellationToken,
}

impl Open for Etcd {
    const TYPE: &'static str = "etcd";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        Ok(Self {
            client: Client::shared(&config.settings(), "address", &cx).await?,
            stop: cx.shutdown.child_token(),
            cx,
        })
    }
}

/// What is stored of one item.
#[derive(Debug, Default)]
struct Stored {
    item: Option<KeyValue>,
    /// Our own record of its tags.
    tags: Option<KeyValue>,
    /// Keys below the item's: tags as Go Layotto writes them.
    below: Vec<KeyValue>,
}

impl Stored {
    fn into_item(self, place: &Place) -> Option<Item> {
        let tags = layout::tags(self.item.as_ref()?, self.tags.as_ref(), &self.below, place);
        Some(layout::item(place, &self.item?.value, tags))
    }
}

impl Etcd {
    /// What is stored at `places`, read at one moment as far as one transaction reaches.
    async fn look(&self, places: &[Place]) -> Result<Vec<Stored>> {
        let mut found = Vec::new();
        for places in places.chunks(OPERATIONS / 3) {
            let ranges = places.iter().flat_map(|place| {
                [
                    RangeRequest::one(place.key()),
                    RangeRequest::one(place.tags_key()),
                    RangeRequest::prefix(place.below()),
                ]
            });
            let answer = self.client.read(ranges.collect()).await?;
            let mut ranges = keys_of(answer).into_iter();
            for _ in places {
                let mut next = || ranges.next().unwrap_or_default();
                found.push(Stored {
                    item: next().pop(),
                    tags: next().pop(),
                    below: next(),
                });
            }
        }
        Ok(found)
    }

    async fn all(&self, selector: &Selector) -> Result<Vec<Item>> {
        let scope = Place::new(&selector.app_id, &selector.group, &selector.label, "");
        let ranges = vec![
            RangeRequest::prefix(scope.key()),
            RangeRequest::prefix(scope.tags_key()),
        ];
        let mut ranges = keys_of(self.client.read(ranges).await?).into_iter();
        let (items, tags) = (
            ranges.next().unwrap_or_default(),
            ranges.next().unwrap_or_default(),
        );
        Ok(layout::items(&scope, items, &tags))
    }

    /// Writes items none of whose keys is written twice.
    async fn write(&self, app_id: &str, items: &[Item]) -> Result<()> {
        let places: Vec<_> = items
            .iter()
            .map(|item| Place::new(app_id, &item.group, &item.label, &item.key))
            .collect();
        for _ in 0..TRIES {
            let mut request = TxnRequest::default();
            let stored = self.look(&places).await?;
            for ((place, item), stored) in places.iter().zip(items).zip(&stored) {
                put(&mut request, place, item, stored);
            }
            if request.success.len() > OPERATIONS && items.len() > 1 {
                // Many old tags have to go.
                for item in items {
                    Box::pin(self.write(app_id, slice::from_ref(item))).await?;
                }
                return Ok(());
            }
            // Refused where the tags of an item have changed since they were read.
            if self.client.txn(request, Repeat::Never).await?.succeeded {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// Removes items, each with its tags.
    async fn remove(&self, places: &[Place]) -> Result<()> {
        for _ in 0..TRIES {
            let mut request = TxnRequest::default();
            for (place, stored) in places.iter().zip(self.look(places).await?) {
                take_away(&mut request, place, &stored);
            }
            if request.success.is_empty() {
                return Ok(());
            }
            if request.success.len() > OPERATIONS && places.len() > 1 {
                for place in places {
                    Box::pin(self.remove(slice::from_ref(place))).await?;
                }
                return Ok(());
            }
            if self.make(request).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// Makes removals, in as many transactions as they need. `false` where an item has changed since it
    /// was read.
    async fn make(&self, removals: TxnRequest) -> Result<bool> {
        for part in removals.success.chunks(OPERATIONS) {
            let request = TxnRequest {
                compare: removals.compare.clone(),
                success: part.to_vec(),
                ..TxnRequest::default()
            };
            if !self.client.txn(request, Repeat::Never).await?.succeeded {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn contended() -> Error {
    Error::unavailable("others change the same items all the time")
}

/// Adds what it takes to write an item over what is stored.
fn put(request: &mut TxnRequest, place: &Place, item: &Item, stored: &Stored) {
    let old = stored.tags.as_ref();
    let revision = old.map_or(0, |old| old.mod_revision);
    let unchanged = Compare::equal(place.tags_key(), Operand::ModRevision(revision));
    request.compare.push(unchanged);
    request
        .success
        .push(RequestOp::put(place.key(), item.content.clone(), 0));
    // Several tags may have one value, and so one key.
    let values: HashSet<&str> = item.tags.values().map(String::as_str).collect();
    for value in &values {
        let key = place.tag_key(value);
        request.success.push(RequestOp::put(key, item.content.clone(), 0));
    }
    let old_tags = old.map(|old| Tags::read(&old.value)).unwrap_or_default();
    let old_values: HashSet<&str> = old_tags.0.values().map(String::as_str).collect();
    for value in old_values.difference(&values) {
        let removal = DeleteRangeRequest::one(place.tag_key(value));
        request.success.push(removal.into());
    }
    match (item.tags.is_empty(), old) {
        (true, None) => {}
        (true, Some(_)) => request
            .success
            .push(DeleteRangeRequest::one(place.tags_key()).into()),
        (false, _) => {
            let tags = Tags(item.tags.clone()).write();
            request.success.push(RequestOp::put(place.tags_key(), tags, 0));
        }
    }
}

/// Adds what it takes to remove an item that is stored, with its tags.
fn take_away(request: &mut TxnRequest, place: &Place, stored: &Stored) {
    let Some(item) = &stored.item else { return };
    let unchanged = Compare::equal(place.key(), Operand::ModRevision(item.mod_revision));
    request.compare.push(unchanged);
    // The item last: it is what tells the rest from items.
    let tags = layout::tag_keys(item, stored.tags.as_ref(), &stored.below, place);
    let keys = tags.into_iter().chain([place.tags_key(), place.key()]);
    let removals = keys.map(|key| DeleteRangeRequest::one(key).into());
    request.success.extend(removals);
}

/// Parts `items` into those that one transaction can write.
fn parted(app_id: &str, items: Vec<Item>) -> Vec<Vec<Item>> {
    let mut parts: Vec<Vec<Item>> = Vec::new();
    let (mut keys, mut operations, mut bytes) = (HashSet::<Bytes>::new(), 0, 0);
    for item in items {
        let place = Place::new(app_id, &item.group, &item.label, &item.key);
        let values: HashSet<&str> = item.tags.values().map(String::as_str).collect();
        let mut own: HashSet<Bytes> = values.iter().map(|value| place.tag_key(value)).collect();
        own.insert(place.key());
        // As many tags may have to be removed as are written.
        let needed = 2 * own.len() + 1;
        let size = item.content.len() * own.len();
        let is_full = operations + needed > OPERATIONS || bytes + size > BYTES || !keys.is_disjoint(&own);
        if is_full || parts.is_empty() {
            parts.push(Vec::new());
            (operations, bytes) = (0, 0);
            keys.clear();
        }
        operations += needed;
        bytes += size;
        keys.extend(own);
        if let Some(part) = parts.last_mut() {
            part.push(item);
        }
    }
    parts
}

/// The keys found by each operation.
fn keys_of(answer: TxnResponse) -> Vec<Vec<KeyValue>> {
    let ranges = answer.responses.into_iter().map(|one| match one.response {
        Some(Response::Range(range)) => range.kvs,
        _ => Vec::new(),
    });
    ranges.collect()
}

fn places(selector: &Selector) -> Vec<Place> {
    let place = |key: &String| Place::new(&selector.app_id, &selector.group, &selector.label, key);
    selector.keys.iter().map(place).collect()
}

#[async_trait]
impl Component for Etcd {
    async fn ping(&self) -> Result<()> {
        self.client.ping("/ping").await
    }

    async fn close(&self) -> Result<()> {
        self.stop.cancel();
        Ok(())
    }
}

#[async_trait]
impl ConfigStore for Etcd {
    fn default_group(&self) -> &str {
        DEFAULT
    }

    fn default_label(&self) -> &str {
        DEFAULT
    }

    async fn get(&self, selector: &Selector) -> Result<Vec<Item>> {
        if selector.keys.is_empty() {
            return self.all(selector).await;
        }
        let places = places(selector);
        let stored = self.look(&places).await?;
        let items = stored.into_iter().zip(&places);
        Ok(items
            .filter_map(|(stored, place)| stored.into_item(place))
            .collect())
    }

    async fn set(&self, app_id: &str, items: Vec<Item>, _: &Metadata) -> Result<()> {
        for items in parted(app_id, items) {
            self.write(app_id, &items).await?;
        }
        Ok(())
    }

    async fn delete(&self, selector: &Selector) -> Result<()> {
        for places in places(selector).chunks(OPERATIONS / 3) {
            self.remove(places).await?;
        }
        Ok(())
    }

    async fn subscribe(&self, selector: &Selector) -> Result<Subscription> {
        let feed = Arc::new(Feed::default());
        let keys = match selector.keys.is_empty() {
            true => Keys::All,
            false => Keys::Only(selector.keys.iter().cloned().collect()),
        };
        let watcher = feed.watch(selector, keys, Vec::new());
        let follower = Follower::begin(&self.client, selector, feed).await?;
        Ok(watcher.start_beside(&self.cx, self.stop.child_token(), follower.run()))
    }
}

#[cfg(test)]
mod tests;
