//! Configuration in Apollo, in the layout of Go Layotto.
//!
//! | namespace | item | value |
//! |---|---|---|
//! | the group | `key`, or `key@$label` | the content |
//! | `sidecar_config_tags` | `group@$key`, or `group@$key@$label` | JSON of the tags |

mod backup;
mod follow;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Error, ErrorKind, Metadata, Open, Result, Secret,
    configuration::{ConfigStore, Item, Selector, Subscription},
};
use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use self::{backup::Backup, follow::Follower};
use super::{
    check_items,
    feed::{Feed, Keys},
};
use crate::{
    client::apollo::{self, Release, Target},
    seconds::Seconds,
};

const GROUP: &str = "application";
const TAGS: &str = "sidecar_config_tags";
const DELIMITER: &str = "@$";
/// Namespaces whose last release is kept in memory.
const NAMESPACES: usize = 256;

/// Configuration in Apollo, which people edit in its portal: a group is a namespace. Items are read
/// and watched through its configuration service, as the application of these settings, and written
/// through its open API. Tried against Apollo's own mock and a stand-in, not against the product.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["address", "app_id", "open_api_address", "open_api_token", "open_api_user"]))]
pub struct Config {
    /// The configuration service, or a meta server that knows where it is, such as
    /// `http://127.0.0.1:8080`; of a list the first.
    pub address: Vec<String>,
    /// The longest wait for a connection, and for an answer: whole seconds, or a duration such as
    /// `500ms`. Default 10.
    pub timeout: Option<Seconds>,
    /// Whose items are read.
    pub app_id: String,
    /// The cluster. Default `default`.
    pub cluster: String,
    /// Accepted since Go Layotto has it; not used: every namespace is read when it is asked for.
    pub namespace_name: String,
    /// The access key that requests are signed with, where the application has one.
    pub secret: Secret,
    /// Keeps what was read last in the folder `apollo` of the data directory, for when Apollo is
    /// away. Default true.
    pub is_backup_config: bool,
    /// The portal, such as `http://127.0.0.1:8070`, for writing.
    pub open_api_address: String,
    /// The token of the open API.
    pub open_api_token: Secret,
    /// The user in whose name items are written; Apollo must know it.
    pub open_api_user: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: Vec::new(),
            timeout: None,
            app_id: String::new(),
            cluster: "default".to_owned(),
            namespace_name: String::new(),
            secret: Secret::default(),
            is_backup_config: true,
            open_api_address: String::new(),
            open_api_token: Secret::default(),
            open_api_user: String::new(),
        }
    }
}

impl Config {
    fn target(&self) -> Result<Target> {
        let token = self.open_api_token.expose();
        for (key, value) in [
            ("app_id", &self.app_id),
            ("open_api_token", token),
            ("open_api_user", &self.open_api_user),
        ] {
            if value.is_empty() {
                return Err(Error::invalid(format!("{key}: needed")));
            }
        }
        let ten = Seconds(Duration::from_secs(10));
        let Seconds(timeout) = self.timeout.unwrap_or(ten);
        Ok(Target {
            address: url("address", self.address.first().map_or("", String::as_str))?,
            app_id: self.app_id.clone(),
            cluster: self.cluster.clone(),
            secret: Some(&self.secret)
                .filter(|secret| !secret.expose().is_empty())
                .cloned(),
            open_api: url("open_api_address", &self.open_api_address)?,
            token: self.open_api_token.clone(),
            user: self.open_api_user.clone(),
            timeout,
        })
    }
}

fn url(key: &str, text: &str) -> Result<Url> {
    let refuse = || Error::invalid(format!("{key}: expected a URL such as \"http://127.0.0.1:8080\""));
    let full = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let url = Url::parse(&full).map_err(|_| refuse())?;
    match matches!(url.scheme(), "http" | "https") && url.has_host() {
        true => Ok(url),
        false => Err(refuse()),
    }
}

/// A configuration store in Apollo.
pub struct Apollo {
    reader: Arc<Reader>,
    cx: Context,
    stop: CancellationToken,
}

/// Reads namespaces, and keeps what was read last.
struct Reader {
    client: apollo::Apollo,
    known: Mutex<HashMap<String, Arc<Release>>>,
    backup: Option<Backup>,
}

impl Open for Apollo {
    const TYPE: &'static str = "apollo";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        let target = config.target()?;
        let backup = config
            .is_backup_config
            .then(|| Backup::new(&cx.data_dir, &target.app_id, &target.cluster));
        Ok(Self {
            reader: Arc::new(Reader {
                client: apollo::Apollo::new(target),
                known: Mutex::default(),
                backup,
            }),
            stop: cx.shutdown.child_token(),
            cx,
        })
    }
}

impl Reader {
    /// The last release of a namespace, as Apollo has it now.
    async fn fresh(&self, namespace: &str) -> Result<Arc<Release>> {
        let known = self.known().get(namespace).cloned();
        let key = known.as_ref().map_or("", |known| &known.key);
        let Some(release) = self.client.read(namespace, key).await? else {
            return Ok(known.unwrap_or_default());
        };
        if release.key.is_empty()
            && let Some(last) = self.last(namespace).await
        {
            // A namespace that is gone, or that somebody else answered for: as with Apollo's own
            // clients, what it held counts until there is another release.
            return Ok(last);
        }
        if let Some(known) = known.filter(|known| **known == release) {
            return Ok(known);
        }
        let release = Arc::new(release);
        // Names that callers make up are not kept; that there are no tags is.
        let is_kept = !release.key.is_empty() || namespace == TAGS;
        self.keep(namespace, is_kept.then(|| Arc::clone(&release)));
        if let Some(backup) = &self.backup {
            backup.write(namespace, is_kept.then_some(&release)).await;
        }
        Ok(release)
    }

    fn keep(&self, namespace: &str, release: Option<Arc<Release>>) {
        let mut known = self.known();
        if known.len() >= NAMESPACES && !known.contains_key(namespace) {
            known.clear();
        }
        match release {
            Some(release) => drop(known.insert(namespace.to_owned(), release)),
            None => drop(known.remove(namespace)),
        }
    }

    /// The last release of a namespace; the last that was read where Apollo is away.
    async fn read(&self, namespace: &str) -> Result<Arc<Release>> {
        let error = match self.fresh(namespace).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => error,
            other => return other,
        };
        let known = self.known().get(namespace).cloned();
        match known {
            Some(known) => Ok(known),
            None => self.kept(namespace).await.ok_or(error),
        }
    }

    /// The last release that was read, in this process or before it; `None` where there was none.
    async fn last(&self, namespace: &str) -> Option<Arc<Release>> {
        let known = self.known().get(namespace).cloned();
        let last = match known {
            Some(known) => Some(known),
            None => self.kept(namespace).await,
        };
        last.filter(|last| !last.key.is_empty())
    }

    /// What is kept on disk.
    async fn kept(&self, namespace: &str) -> Option<Arc<Release>> {
        let kept = Arc::new(self.backup.as_ref()?.read(namespace).await?);
        self.keep(namespace, Some(Arc::clone(&kept)));
        Some(kept)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<Release>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The items of `release` that `selector` selects, with their tags.
fn select(release: &Release, tags: &Release, selector: &Selector) -> Vec<Item> {
    let item = |key: &str, content: &str| Item {
        key: key.to_owned(),
        content: content.to_owned(),
        group: selector.group.clone(),
        label: selector.label.clone(),
        tags: tags_of(tags, &selector.group, &name(key, &selector.label)),
        metadata: Metadata::new(),
    };
    if selector.keys.is_empty() {
        let labelled = release.items.iter().filter_map(|(full, content)| {
            let (key, label) = full.split_once(DELIMITER).unwrap_or((full, ""));
            (label == selector.label).then(|| item(key, content))
        });
        return labelled.collect();
    }
    let named = selector.keys.iter().filter_map(|key| {
        let content = release.items.get(&name(key, &selector.label))?;
        Some(item(key, content))
    });
    named.collect()
}

/// The name of an item in its namespace.
fn name(key: &str, label: &str) -> String {
    match label {
        "" => key.to_owned(),
        label => [key, DELIMITER, label].concat(),
    }
}

/// The name of an item's tags in the namespace of tags.
fn tags_name(group: &str, name: &str) -> String {
    [group, DELIMITER, name].concat()
}

fn tags_of(tags: &Release, group: &str, name: &str) -> HashMap<String, String> {
    let text = tags.items.get(&tags_name(group, name));
    // What a person wrote there that is no map of texts counts as no tags.
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// Refuses names that would come back as something else, before anything is written.
fn check_name(group: &str, key: &str, label: &str) -> Result<()> {
    if [key, label].iter().any(|part| part.contains(DELIMITER)) {
        return Err(Error::invalid(format!(
            "a key or label in Apollo cannot hold {DELIMITER:?}"
        )));
    }
    apollo::check(group)?;
    apollo::check(&name(key, label))
}

impl Apollo {
    fn client(&self) -> &apollo::Apollo {
        &self.reader.client
    }

    /// Writes an item, in a namespace that is made where there is none.
    async fn put(&self, app_id: &str, namespace: &str, name: &str, value: &str) -> Result<()> {
        match self.client().put(app_id, namespace, name, value).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => return other,
        }
        self.client().create(app_id, namespace).await?;
        self.client().put(app_id, namespace, name, value).await
    }

    /// Removes an item; one that is missing is no error.
    async fn remove(&self, app_id: &str, namespace: &str, name: &str) -> Result<()> {
        match self.client().remove(app_id, namespace, name).await {
            // Apollo answers either for an item that it does not have.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidArgument) => Ok(()),
            other => other,
        }
    }

    /// Writes or removes the tags of an item; whether there was anything to do.
    async fn put_tags(&self, app_id: &str, item: &Item, known: &Release) -> Result<bool> {
        let name = tags_name(&item.group, &name(&item.key, &item.label));
        if item.tags.is_empty() {
            let there = known.items.contains_key(&name);
            if there {
                self.remove(app_id, TAGS, &name).await?;
            }
            return Ok(there);
        }
        let ordered: BTreeMap<_, _> = item.tags.iter().collect();
        let text = serde_json::to_string(&ordered).expect("invariant: a map of texts has a JSON form");
        self.put(app_id, TAGS, &name, &text).await?;
        Ok(true)
    }

    /// Releases the tags, if they changed.
    async fn release_tags(&self, app_id: &str, have_changed: bool) -> Result<()> {
        match have_changed {
            true => self.release(app_id, TAGS).await,
            false => Ok(()),
        }
    }

    /// Releases what was removed; there is nothing to release in a namespace that is missing.
    async fn release(&self, app_id: &str, namespace: &str) -> Result<()> {
        match self.client().release(app_id, namespace).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

#[async_trait]
impl Component for Apollo {
    async fn ping(&self) -> Result<()> {
        self.client().ping().await
    }

    async fn close(&self) -> Result<()> {
        self.stop.cancel();
        Ok(())
    }
}

#[async_trait]
impl ConfigStore for Apollo {
    fn default_group(&self) -> &str {
        GROUP
    }

    fn default_label(&self) -> &str {
        ""
    }

    async fn get(&self, selector: &Selector) -> Result<Vec<Item>> {
        let (release, tags) = tokio::try_join!(self.reader.read(&selector.group), self.reader.read(TAGS))?;
        Ok(select(&release, &tags, selector))
    }

    async fn set(&self, app_id: &str, items: Vec<Item>, _: &Metadata) -> Result<()> {
        check_items(&items)?;
        items
            .iter()
            .try_for_each(|item| check_name(&item.group, &item.key, &item.label))?;
        // Whoever hears of an item is to find its tags. A release takes along what others wrote in the
        // namespace, so an item is not even written before its tags are released.
        let known = self.reader.fresh(TAGS).await?;
        let mut has_tags = false;
        for item in &items {
            has_tags |= self.put_tags(app_id, item, &known).await?;
        }
        self.release_tags(app_id, has_tags).await?;
        for item in &items {
            let name = name(&item.key, &item.label);
            self.put(app_id, &item.group, &name, &item.content).await?;
        }
        let groups: HashSet<_> = items.iter().map(|item| item.group.as_str()).collect();
        for group in groups {
            self.client().release(app_id, group).await?;
        }
        Ok(())
    }

    async fn delete(&self, selector: &Selector) -> Result<()> {
        if selector.keys.is_empty() {
            return Ok(());
        }
        let Selector {
            app_id,
            group,
            label,
            keys,
            ..
        } = selector;
        keys.iter().try_for_each(|key| check_name(group, key, label))?;
        let known = self.reader.fresh(TAGS).await?;
        let mut has_tags = false;
        for key in keys {
            self.remove(app_id, group, &name(key, label)).await?;
            let item = Item {
                key: key.clone(),
                group: group.clone(),
                label: label.clone(),
                ..Item::default()
            };
            has_tags |= self.put_tags(app_id, &item, &known).await?;
        }
        self.release(app_id, group).await?;
        self.release_tags(app_id, has_tags).await
    }

    async fn subscribe(&self, selector: &Selector) -> Result<Subscription> {
        let feed = Arc::new(Feed::default());
        let keys = match selector.keys.is_empty() {
            true => Keys::All,
            false => Keys::Only(selector.keys.iter().cloned().collect()),
        };
        let watcher = feed.watch(selector, keys, Vec::new());
        let follower = Follower::begin(&self.reader, selector, feed).await?;
        Ok(watcher.start_beside(&self.cx, self.stop.child_token(), follower.run()))
    }
}

#[cfg(test)]
mod tests;
