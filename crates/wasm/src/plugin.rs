//! One version of a plug-in: its module, started once for good and again for every request.

mod places;
mod proxied;
mod quiet;
mod root;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::FutureExt;
use thiserror::Error;
use tokio::{task::coop::consume_budget, time::timeout_at};
use tracing::warn;

pub use self::proxied::LONGEST_HELD;
use self::{
    places::{Place, Places},
    quiet::Quiet,
    root::Root,
};
use crate::{
    caller::Caller,
    clock::OverTime,
    guest::{Facts, Guest, ROOT},
    health::Health,
    host::Asker,
    instance::{Instance, Prepared, Served},
    stream::{Reply, Request},
    trap::Trap,
};

/// How deep functions call each other, and themselves.
pub const DEEPEST: u32 = 16;

/// Why a request to a function has no reply of the function's.
#[derive(Debug, Clone, Error)]
#[allow(missing_docs)]
pub enum CallError {
    #[error("no function has the id {0:?}")]
    Unknown(String),
    #[error("no place became free in {} ms", .0.as_millis())]
    Busy(Duration),
    #[error("no room for another instance")]
    NoRoom,
    #[error("the function is down after repeated traps")]
    Down,
    #[error("functions call each other more than {DEEPEST} deep")]
    TooDeep,
    #[error("the function failed")]
    Trapped(#[source] Trap),
    #[error(transparent)]
    OverTime(#[from] OverTime),
    #[error("the caller waits no longer")]
    Deadline,
    #[error("the function paused the request and waits for nothing")]
    Stuck,
    #[error("the function closed the stream")]
    Closed,
    #[error("the filter {0:?} is not loaded")]
    Missing(String),
    #[error("the filter holds more than {LONGEST_HELD} bytes of the body")]
    TooLong,
}

impl From<Trap> for CallError {
    fn from(trap: Trap) -> Self {
        match trap {
            Trap::NoRoom => Self::NoRoom,
            Trap::OverTime(over) => Self::OverTime(over),
            trap => Self::Trapped(trap),
        }
    }
}

impl CallError {
    /// The HTTP status that says it.
    pub fn status(&self) -> u16 {
        match self {
            Self::Unknown(_) => 404,
            Self::Busy(_) | Self::NoRoom | Self::Down | Self::Missing(_) => 503,
            Self::TooLong => 413,
            Self::TooDeep | Self::Trapped(_) | Self::Stuck | Self::Closed => 500,
            Self::OverTime(_) | Self::Deadline => 504,
        }
    }
}

/// How requests to a plug-in are served.
#[derive(Debug, Clone, Copy)]
pub struct Serving {
    /// How many at a time, at least 1; calls among functions do not count.
    pub places: usize,
    /// How long a request waits for a place.
    pub wait: Duration,
    /// Whether instances serve one request after another, instead of one only.
    pub reuse: bool,
    /// Whether errors are to be hidden from callers, as upstream does. It is for whoever answers.
    pub forgive: bool,
}

/// Numbers of a plug-in since it was installed, over all its versions.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) calls: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) running: AtomicUsize,
    pub(crate) memory: AtomicUsize,
    last_trap: Mutex<Option<String>>,
}

impl Counts {
    pub(crate) fn last_trap(&self) -> MutexGuard<'_, Option<String>> {
        self.last_trap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &CallError) {
        self.errors.fetch_add(1, Relaxed);
        let text = match error {
            CallError::Trapped(trap) => trap.to_string(),
            CallError::OverTime(over) => over.to_string(),
            _ => return,
        };
        *self.last_trap() = Some(text);
    }
}

/// A version of a plug-in.
pub(crate) struct Plugin {
    id: Arc<str>,
    prepared: Arc<Prepared>,
    facts: Arc<Facts>,
    serving: Serving,
    places: Arc<Places>,
    idle: Mutex<Vec<Instance>>,
    next_context: AtomicU32,
    health: Health,
    counts: Arc<Counts>,
    quiet: Mutex<Quiet>,
    _root: Root,
}

/// A plug-in cannot be started.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum StartError {
    #[error("its first instance failed")]
    Trapped(#[from] Trap),
    #[error("it has not started in {} s", .0.as_secs())]
    Late(Duration),
    #[error("it answers no id to proxy_get_id, and its configuration has no name")]
    NoId,
}

impl Plugin {
    /// Starts the root instance, and learns the id of the function from it; `name` is the id of one
    /// that does not say.
    pub(crate) async fn start(
        prepared: Prepared,
        facts: Facts,
        serving: Serving,
        counts: Arc<Counts>,
        name: &str,
    ) -> Result<Arc<Self>, StartError> {
        let (prepared, facts) = (Arc::new(prepared), Arc::new(facts));
        let (root, id) = Root::start(prepared.clone(), facts.clone()).await?;
        let id = if id.is_empty() { name } else { &id };
        if id.is_empty() {
            return Err(StartError::NoId);
        }
        Ok(Arc::new(Self {
            id: id.into(),
            prepared,
            facts,
            serving,
            places: Places::new(serving.places),
            idle: Mutex::default(),
            next_context: AtomicU32::new(ROOT + 1),
            health: Health::default(),
            counts,
            quiet: Mutex::new(Quiet::new(Instant::now())),
            _root: root,
        }))
    }

    /// Lets go of the pages of its code, if nobody called it for a while.
    pub(crate) fn rest(&self, now: Instant) {
        let (calls, running) = (self.counts.calls.load(Relaxed), self.counts.running.load(Relaxed));
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        if quiet.begins(calls, running > 0, now) {
            self.prepared.let_go();
        }
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(crate) fn serving(&self) -> &Serving {
        &self.serving
    }

    pub(crate) fn up(&self) -> bool {
        self.health.up()
    }

    pub(crate) fn version(&self) -> crate::abi::Version {
        self.prepared.version()
    }

    /// Changes how many requests are served at a time. Those that are, are served to their end.
    pub(crate) fn resize(&self, places: usize) {
        self.places.resize(places);
        self.idle().truncate(places);
    }

    /// Serves one request.
    pub(crate) async fn call(
        self: &Arc<Self>,
        request: Request,
        depth: u32,
        deadline: Option<tokio::time::Instant>,
    ) -> Result<Reply, CallError> {
        let asker = Asker {
            function: self.id.clone(),
            allowed: self.facts.allowed.clone(),
            depth,
            deadline,
        };
        let _counted = Counted::start(&self.counts);
        let served = match deadline {
            None => self.serve(request, asker).await,
            Some(at) => timeout_at(at, self.serve(request, asker))
                .await
                .unwrap_or(Err(CallError::Deadline)),
        };
        served.inspect_err(|error| self.note(error))
    }

    /// Notes how a call failed.
    fn note(&self, error: &CallError) {
        self.counts.failed(error);
        let failed = matches!(error, CallError::Trapped(_) | CallError::OverTime(_));
        if failed && !self.up() {
            self.changed();
        }
    }

    /// Notes that a call went well.
    fn note_success(&self) {
        if self.health.worked() {
            self.changed();
        }
    }

    /// Its health, or why it is down, is another now.
    fn changed(&self) {
        if let Some(functions) = self.facts.functions.upgrade() {
            functions.changed();
        }
    }

    async fn serve(self: &Arc<Self>, request: Request, asker: Asker) -> Result<Reply, CallError> {
        // Of calls within calls each may be too quick to give way, and all together not.
        consume_budget().await;
        if asker.depth > DEEPEST {
            return Err(CallError::TooDeep);
        }
        if !self.health.admits() {
            return Err(CallError::Down);
        }
        let place = self.place(asker.depth).await?;
        let context = self.next_context();
        let (instance, served) = match self.run(context, request, asker).await {
            Ok(done) => done,
            Err(trap) => return Err(self.failed(trap)),
        };
        self.note_success();
        let outcome = match served {
            Served::Reply(reply) => Ok(reply),
            Served::Closed => Err(CallError::Closed),
            Served::Stuck => return Err(CallError::Stuck),
        };
        self.end(context, instance, place).await;
        outcome
    }

    /// Lets the guest hear of the end. The caller does not wait for it: what takes longer has a task of
    /// its own, with the place. Without one nothing bounds how many of these there are, so a function
    /// that calls others waits.
    async fn end(self: &Arc<Self>, context: u32, mut instance: Instance, place: Option<Place>) {
        if !instance.hears_of_ends() {
            instance.forget();
            return self.keep(instance);
        }
        let (plugin, has_place) = (self.clone(), place.is_some());
        let mut ending = Box::pin(async move {
            let _place = place;
            plugin.finish(context, instance).await;
        });
        if ending.as_mut().now_or_never().is_some() {
            return;
        }
        match has_place {
            true => drop(self.facts.endings.spawn(ending)),
            false => ending.await,
        }
    }

    async fn finish(&self, context: u32, mut instance: Instance) {
        let finished = {
            let _running = instance.running();
            instance.finish(context).await
        };
        self.note_memory(&mut instance);
        match finished {
            Ok(()) => self.keep(instance),
            Err(trap) => {
                warn!(function = &*self.id, %trap, "the function failed after its reply");
                self.counts.failed(&trap.into());
            }
        }
    }

    /// Notes that an instance ended badly, if it began.
    fn failed(&self, trap: Trap) -> CallError {
        if !matches!(trap, Trap::NoRoom) {
            self.health.trapped();
        }
        trap.into()
    }

    /// Calls among functions do not wait: the place that they would wait for may be their own.
    async fn place(&self, depth: u32) -> Result<Option<Place>, CallError> {
        if depth > 0 {
            return Ok(None);
        }
        let place = self.places.take(self.serving.wait).await;
        place.map(Some).ok_or(CallError::Busy(self.serving.wait))
    }

    async fn run(&self, context: u32, request: Request, asker: Asker) -> Result<(Instance, Served), Trap> {
        let mut instance = self.take(asker).await?;
        let served = instance.serve(context, request).await?;
        self.note_memory(&mut instance);
        Ok((instance, served))
    }

    /// An instance that is configured: one that is idle, or a new one.
    async fn take(&self, asker: Asker) -> Result<Instance, Trap> {
        let idle = self.idle().pop();
        match idle {
            Some(mut instance) => {
                let guest = instance.guest();
                (guest.asker, guest.caller) = (asker, Caller::default());
                instance.guest().clock.restart();
                Ok(instance)
            }
            None => self.instance(asker).await,
        }
    }

    fn next_context(&self) -> u32 {
        self.next_context.fetch_add(1, Relaxed).max(ROOT + 1)
    }

    fn note_memory(&self, instance: &mut Instance) {
        let used = instance.guest().memory_used;
        self.counts.memory.fetch_max(used, Relaxed);
    }

    async fn instance(&self, asker: Asker) -> Result<Instance, Trap> {
        let guest = Guest::new(self.facts.clone(), asker);
        let mut instance = Instance::start(self.prepared.clone(), guest).await?;
        instance.configure().await?;
        Ok(instance)
    }

    fn keep(&self, instance: Instance) {
        let mut idle = self.idle();
        if self.serving.reuse && idle.len() < self.places.number() {
            idle.push(instance);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Instance>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call while it goes on.
struct Counted(Arc<Counts>);

impl Counted {
    fn start(counts: &Arc<Counts>) -> Self {
        counts.calls.fetch_add(1, Relaxed);
        counts.running.fetch_add(1, Relaxed);
        Self(counts.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("id", &self.id).finish()
    }
}
