//! Tells subscribers of changes: each gets all changes of its keys, in order, at its own pace.
//!
//! A subscriber that does not read holds up nobody, and costs one item per key: a newer value
//! takes the place of the older one that still waits.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use layotto_core::{
    Context,
    configuration::{Item, Selector, Subscription},
};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Changes handed over that the subscriber need not have read yet.
const CAPACITY: usize = 16;

/// Where items live: application, group, label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Scope {
    app_id: String,
    group: String,
    label: String,
}

/// The subscribers of a store.
#[derive(Default)]
pub(super) struct Feed(Mutex<HashMap<Scope, Vec<Arc<Watch>>>>);

/// Which keys of a scope a subscriber wants.
#[derive(Debug)]
pub(super) enum Keys {
    /// All, present and future.
    All,
    /// These.
    Only(HashSet<String>),
}

/// One subscriber: what it was not told yet.
struct Watch {
    keys: Keys,
    pending: Mutex<Pending>,
    news: Notify,
}

#[derive(Default)]
struct Pending {
    items: HashMap<String, Item>,
    order: VecDeque<String>,
}

/// A subscriber made and not yet connected to its channel.
pub(super) struct Watcher {
    feed: Arc<Feed>,
    scope: Scope,
    watch: Arc<Watch>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    /// Adds a subscriber whose first news are `current`. No change may be published between
    /// reading `current` and this call.
    pub(super) fn watch(self: &Arc<Self>, selector: &Selector, keys: Keys, current: Vec<Item>) -> Watcher {
        let scope = Scope {
            app_id: selector.app_id.clone(),
            group: selector.group.clone(),
            label: selector.label.clone(),
        };
        let watch = Arc::new(Watch {
            keys,
            pending: Mutex::default(),
            news: Notify::new(),
        });
        current.into_iter().for_each(|item| watch.tell(item));
        lock(&self.0)
            .entry(scope.clone())
            .or_default()
            .push(Arc::clone(&watch));
        Watcher {
            feed: Arc::clone(self),
            scope,
            watch,
        }
    }

    /// Tells the subscribers of `app_id` of `items`, in the order of the calls.
    pub(super) fn publish(&self, app_id: &str, items: impl IntoIterator<Item = Item>) {
        let scopes = lock(&self.0);
        for item in items {
            let scope = Scope {
                app_id: app_id.to_owned(),
                group: item.group.clone(),
                label: item.label.clone(),
            };
            for watch in scopes.get(&scope).into_iter().flatten() {
                if watch.wants(&item.key) {
                    watch.tell(item.clone());
                }
            }
        }
    }
}

impl Watch {
    fn wants(&self, key: &str) -> bool {
        match &self.keys {
            Keys::All => true,
            Keys::Only(keys) => keys.contains(key),
        }
    }

    fn tell(&self, item: Item) {
        let mut pending = lock(&self.pending);
        let key = item.key.clone();
        if pending.items.insert(key.clone(), item).is_none() {
            pending.order.push_back(key);
        }
        self.news.notify_one();
    }

    fn next(&self) -> Option<Item> {
        let mut pending = lock(&self.pending);
        let key = pending.order.pop_front()?;
        pending.items.remove(&key)
    }
}

impl Watcher {
    /// Connects the subscriber to a channel that a task of `cx` fills until `stop`.
    pub(super) fn start(self, cx: &Context, stop: CancellationToken) -> Subscription {
        self.start_beside(cx, stop, std::future::pending())
    }

    /// Like [`start`](Self::start); `source`, which publishes the changes, is there for this
    /// subscriber alone and ends with it.
    pub(super) fn start_beside(
        self,
        cx: &Context,
        stop: CancellationToken,
        source: impl Future<Output = ()> + Send + 'static,
    ) -> Subscription {
        let (sender, changes) = mpsc::channel(CAPACITY);
        cx.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.forward(sender) => {}
                () = source => {}
            }
        });
        Subscription { changes }
    }

    async fn forward(self, changes: mpsc::Sender<Vec<Item>>) {
        // The place in the channel comes first: while there is none, newer values replace older.
        while let Ok(place) = changes.reserve().await {
            let item = tokio::select! {
                () = changes.closed() => return,
                item = self.news() => item,
            };
            place.send(vec![item]);
        }
    }

    async fn news(&self) -> Item {
        loop {
            match self.watch.next() {
                Some(item) => return item,
                None => self.watch.news.notified().await,
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut scopes = lock(&self.feed.0);
        if let Some(watches) = scopes.get_mut(&self.scope) {
            watches.retain(|watch| !Arc::ptr_eq(watch, &self.watch));
            if watches.is_empty() {
                scopes.remove(&self.scope);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector() -> Selector {
        Selector {
            app_id: "app".to_owned(),
            group: "g".to_owned(),
            label: "l".to_owned(),
            ..Selector::default()
        }
    }

    fn item(key: &str, content: impl ToString) -> Item {
        Item {
            key: key.to_owned(),
            content: content.to_string(),
            group: "g".to_owned(),
            label: "l".to_owned(),
            ..Item::default()
        }
    }

    fn only(key: &str) -> Keys {
        Keys::Only(HashSet::from([key.to_owned()]))
    }

    #[tokio::test]
    async fn a_subscriber_that_does_not_read_gets_the_latest_value_and_holds_up_nobody() {
        let (feed, cx) = (Arc::new(Feed::default()), Context::standalone("test", "."));
        let watcher = feed.watch(&selector(), only("k"), Vec::new());
        let watch = Arc::clone(&watcher.watch);
        let mut subscription = watcher.start(&cx, cx.shutdown.child_token());
        for n in 0..10_000 {
            feed.publish("app", [item("k", n)]);
            tokio::task::yield_now().await;
        }
        assert!(lock(&watch.pending).items.len() <= 1);
        let mut last = Vec::new();
        while last != [item("k", 9_999)] {
            last = subscription.changes.recv().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_dropped_subscription_is_forgotten_and_the_others_go_on() {
        let (feed, cx) = (Arc::new(Feed::default()), Context::standalone("test", "."));
        let start = |keys| {
            feed.watch(&selector(), keys, Vec::new())
                .start(&cx, cx.shutdown.child_token())
        };
        let (gone, mut other) = (start(only("k")), start(Keys::All));
        drop(gone);
        while lock(&feed.0).values().flatten().count() > 1 {
            tokio::task::yield_now().await;
        }
        feed.publish("app", [item("k", 1)]);
        feed.publish("another", [item("k", 2)]);
        feed.publish("app", [item("new", 3)]);
        assert_eq!(other.changes.recv().await.unwrap(), [item("k", 1)]);
        assert_eq!(other.changes.recv().await.unwrap(), [item("new", 3)]);
    }
}
