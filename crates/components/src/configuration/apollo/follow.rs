//! Following the releases of a namespace.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use layotto_core::{
    Result,
    configuration::{Item, Selector},
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Reader, TAGS, select};
use crate::{
    client::pace::spread,
    configuration::{deletion, feed::Feed},
};

/// A service that answers at once without news is asked no more often than this.
const PACE: Duration = Duration::from_millis(500);
/// Pauses while the service is away, each longer by up to a half at random.
const PAUSE: Duration = Duration::from_millis(500);

/// Follows the items of one subscription.
pub(super) struct Follower {
    reader: Arc<Reader>,
    feed: Arc<Feed>,
    selector: Selector,
    /// The items as the subscriber was told of them, by key.
    known: BTreeMap<String, Item>,
    /// The last release heard of.
    notification: i64,
}

impl Follower {
    /// Begins with the changes after the answer.
    pub(super) async fn begin(reader: &Arc<Reader>, selector: &Selector, feed: Arc<Feed>) -> Result<Self> {
        let (release, tags) = tokio::try_join!(reader.read(&selector.group), reader.read(TAGS))?;
        Ok(Self {
            reader: Arc::clone(reader),
            feed,
            known: by_key(select(&release, &tags, selector)),
            selector: selector.clone(),
            // The service tells its last release at once: what came since the reading shows.
            notification: -1,
        })
    }

    /// Tells of changes until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let begun = Instant::now();
            match self.step().await {
                Ok(true) => {}
                Ok(false) => sleep_until(begun + PACE).await,
                Err(error) => {
                    tracing::debug!(%error, "a subscription in Apollo is interrupted");
                    sleep(spread(PAUSE)).await;
                }
            }
        }
    }

    /// Waits for a release and tells of it; whether it brought a change.
    async fn step(&mut self) -> Result<bool> {
        let client = &self.reader.client;
        let Some(news) = client
            .wait_for_release(&self.selector.group, self.notification)
            .await?
        else {
            return Ok(false);
        };
        // The release of tags comes first, so tags are read after the release that was told of.
        let release = self.reader.fresh(&self.selector.group).await?;
        let tags = self.reader.fresh(TAGS).await?;
        self.notification = news;
        Ok(self.tell(by_key(select(&release, &tags, &self.selector))))
    }

    fn tell(&mut self, items: BTreeMap<String, Item>) -> bool {
        let gone = self.known.iter().filter(|(key, _)| !items.contains_key(*key));
        let mut changes: Vec<_> = gone.map(|(_, item)| deletion(item.clone())).collect();
        let changed = items
            .iter()
            .filter(|(key, item)| self.known.get(*key) != Some(item));
        changes.extend(changed.map(|(_, item)| item.clone()));
        self.known = items;
        let is_news = !changes.is_empty();
        self.feed.publish(&self.selector.app_id, changes);
        is_news
    }
}

fn by_key(items: Vec<Item>) -> BTreeMap<String, Item> {
    items.into_iter().map(|item| (item.key.clone(), item)).collect()
}
