//! Components for tests: they note what they are asked, and fail when told to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use layotto_core::{
    Component, Error, ErrorKind, Metadata, Result, Settings, binding,
    binding::Binding,
    configuration::{self, ConfigStore, Selector, Subscription},
    file::{Content, FileStore, List, Page, Stat},
    health::{Health, Required},
    hello::Hello,
    key_prefix::{KeyPrefix, Scope},
    lock::{Grant, LockStore, Owned, Status},
    rpc::{self, Invoker},
    secret::SecretStore,
    state::{Delete, Features, Get, Item, Operation, Set, StateStore},
};
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Components, Runtime, Slot, Store, metrics::Metrics};

/// The application of every test.
pub(crate) const APP: &str = "app1";

/// What a fake was asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asked {
    Get(Get),
    Set(Set),
    Delete(Delete),
    Transact(Vec<Operation>),
    TryLock(Owned, Duration),
    Unlock(Owned),
    KeepAlive(Owned, Duration),
    Select(Selector),
    Save(String, Vec<configuration::Item>),
    Apply(Settings),
    Rpc(rpc::Request),
    Put(String, Bytes),
    List(List),
}

/// A component of every kind.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) asked: Mutex<Vec<Asked>>,
    pub(crate) error: Mutex<Option<(ErrorKind, &'static str)>>,
    pub(crate) transactional: bool,
    pub(crate) dynamic: bool,
    pub(crate) items: Mutex<HashMap<String, Item>>,
    pub(crate) answer: Mutex<rpc::Response>,
    pub(crate) pieces: Mutex<Vec<Result<Bytes>>>,
    pub(crate) grant: Mutex<Option<Grant>>,
    pub(crate) changes: Mutex<Vec<mpsc::Sender<Vec<configuration::Item>>>>,
    /// What new subscriptions wait for.
    pub(crate) gate: Mutex<Option<Arc<Notify>>>,
    /// Told at each new subscription, and at each upload that failed.
    pub(crate) happened: Notify,
    pub(crate) upload_error: Mutex<Option<ErrorKind>>,
}

impl Fake {
    fn note(&self, asked: Asked) -> Result<()> {
        self.asked.lock().unwrap().push(asked);
        self.outcome()
    }

    fn outcome(&self) -> Result<()> {
        match *self.error.lock().unwrap() {
            Some((kind, text)) => Err(Error::new(kind, text)),
            None => Ok(()),
        }
    }

    pub(crate) fn fail(&self, kind: ErrorKind, text: &'static str) {
        *self.error.lock().unwrap() = Some((kind, text));
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// A slot that holds `component`.
pub(crate) fn slot<T: ?Sized>(name: &str, scope: Scope, component: Arc<T>) -> Arc<Slot<T>> {
    let prefix = KeyPrefix::new(scope, None, APP, name).unwrap();
    let slot = Slot::new(
        name,
        "fake",
        prefix,
        Health::default().indicator(name, Required::No),
    );
    slot.fill(component);
    Arc::new(slot)
}

pub(crate) fn runtime_of(components: Components) -> Arc<Runtime> {
    let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
    Arc::new(Runtime::new(
        APP,
        components,
        Arc::new(Metrics::default()),
        shutdown,
        tasks,
    ))
}

/// A runtime whose every kind has `fake`, named `demo`; the invoker is named `mosn`.
pub(crate) fn runtime(fake: &Arc<Fake>) -> Arc<Runtime> {
    fn one<T: ?Sized>(name: &str, scope: Scope, component: Arc<T>) -> Store<T> {
        let mut store = Store::default();
        store.insert(slot(name, scope, component));
        store
    }
    let components = Components {
        hello: one("demo", Scope::State, Arc::clone(fake) as Arc<dyn Hello>),
        configuration: one("demo", Scope::State, Arc::clone(fake) as Arc<dyn ConfigStore>),
        rpc: one("mosn", Scope::State, Arc::clone(fake) as Arc<dyn Invoker>),
        state: one("demo", Scope::State, Arc::clone(fake) as Arc<dyn StateStore>),
        file: one("demo", Scope::State, Arc::clone(fake) as Arc<dyn FileStore>),
        lock: one("demo", Scope::Lock, Arc::clone(fake) as Arc<dyn LockStore>),
        secret: one("demo", Scope::State, Arc::clone(fake) as Arc<dyn SecretStore>),
        binding: one("demo", Scope::State, Arc::clone(fake) as Arc<dyn Binding>),
        ..Components::default()
    };
    runtime_of(components)
}

#[async_trait]
impl Component for Fake {
    fn is_dynamic(&self) -> bool {
        self.dynamic
    }

    async fn apply(&self, settings: Settings) -> Result<()> {
        self.note(Asked::Apply(settings))
    }
}

#[async_trait]
impl Hello for Fake {
    async fn hello(&self, name: &str) -> Result<String> {
        self.outcome().map(|()| format!("hello, {name}"))
    }
}

#[async_trait]
impl StateStore for Fake {
    fn features(&self) -> Features {
        Features {
            transactional: self.transactional,
            ..Features::default()
        }
    }

    async fn get(&self, request: &Get) -> Result<Option<Item>> {
        self.note(Asked::Get(request.clone()))?;
        if request.key.0 == "broken" {
            return Err(Error::unavailable("away"));
        }
        Ok(self.items.lock().unwrap().get(&request.key.0).cloned())
    }

    async fn set(&self, request: Set) -> Result<()> {
        self.note(Asked::Set(request))
    }

    async fn delete(&self, request: Delete) -> Result<()> {
        self.note(Asked::Delete(request))
    }

    async fn transact(&self, operations: Vec<Operation>, _: &Metadata) -> Result<()> {
        self.note(Asked::Transact(operations))
    }
}

#[async_trait]
impl LockStore for Fake {
    async fn try_lock(&self, lock: &Owned, expire: Duration) -> Result<Grant> {
        self.note(Asked::TryLock(lock.clone(), expire))?;
        Ok(self.grant.lock().unwrap().unwrap_or(Grant::Busy))
    }

    async fn unlock(&self, lock: &Owned) -> Result<Status> {
        self.note(Asked::Unlock(lock.clone()))?;
        Ok(Status::BelongsToOthers)
    }

    async fn keep_alive(&self, lock: &Owned, expire: Duration) -> Result<(Status, Option<u64>)> {
        self.note(Asked::KeepAlive(lock.clone(), expire))?;
        Ok((Status::Success, Some(8)))
    }
}

#[async_trait]
impl ConfigStore for Fake {
    fn default_group(&self) -> &str {
        "usual group"
    }

    fn default_label(&self) -> &str {
        "usual label"
    }

    async fn get(&self, selector: &Selector) -> Result<Vec<configuration::Item>> {
        self.note(Asked::Select(selector.clone())).map(|()| Vec::new())
    }

    async fn set(&self, app_id: &str, items: Vec<configuration::Item>, _: &Metadata) -> Result<()> {
        self.note(Asked::Save(app_id.to_owned(), items))
    }

    async fn delete(&self, selector: &Selector) -> Result<()> {
        self.note(Asked::Select(selector.clone()))
    }

    async fn subscribe(&self, selector: &Selector) -> Result<Subscription> {
        self.note(Asked::Select(selector.clone()))?;
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        let (sender, changes) = mpsc::channel(1);
        self.changes.lock().unwrap().push(sender);
        self.happened.notify_one();
        Ok(Subscription { changes })
    }
}

#[async_trait]
impl Invoker for Fake {
    async fn invoke(&self, request: rpc::Request) -> Result<rpc::Response> {
        self.note(Asked::Rpc(request))?;
        Ok(self.answer.lock().unwrap().clone())
    }
}

#[async_trait]
impl FileStore for Fake {
    async fn get(&self, _: &str, _: &Metadata) -> Result<Content> {
        self.outcome()?;
        let pieces = std::mem::take(&mut *self.pieces.lock().unwrap());
        Ok(Box::pin(futures::stream::iter(pieces)))
    }

    async fn put(&self, name: &str, _: &Metadata, mut content: Content) -> Result<()> {
        let mut whole = Vec::new();
        while let Some(piece) = content.next().await {
            match piece {
                Ok(piece) => whole.extend_from_slice(&piece),
                Err(error) => {
                    *self.upload_error.lock().unwrap() = Some(error.kind());
                    self.happened.notify_one();
                    return Err(error);
                }
            }
            self.happened.notify_one();
        }
        self.note(Asked::Put(name.to_owned(), whole.into()))
    }

    async fn list(&self, request: &List) -> Result<Page> {
        self.note(Asked::List(request.clone())).map(|()| Page::default())
    }

    async fn delete(&self, _: &str, _: &Metadata) -> Result<()> {
        self.outcome()
    }

    async fn stat(&self, _: &str, _: &Metadata) -> Result<Stat> {
        self.outcome().map(|()| Stat::default())
    }
}

#[async_trait]
impl SecretStore for Fake {
    async fn get(&self, name: &str, _: &Metadata) -> Result<HashMap<String, String>> {
        self.outcome()
            .map(|()| HashMap::from([(name.to_owned(), "s".to_owned())]))
    }

    async fn bulk_get(&self, _: &Metadata) -> Result<HashMap<String, HashMap<String, String>>> {
        self.outcome().map(|()| HashMap::new())
    }
}

#[async_trait]
impl Binding for Fake {
    fn operations(&self) -> &'static [&'static str] {
        &["get", "post"]
    }

    async fn invoke(&self, request: binding::Request) -> Result<binding::Response> {
        self.outcome().map(|()| binding::Response {
            data: request.data,
            metadata: request.metadata,
        })
    }
}
