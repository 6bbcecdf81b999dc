//! What the host knows of one instance while it lives: the data of its store.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio_util::task::TaskTracker;
use wasmtime::{Memory, ResourceLimiter, TypedFunc};

use crate::{
    Headers,
    caller::Caller,
    calls::Calls,
    clock::Clock,
    functions::Functions,
    grpc::Event,
    host::{Asker, Host, HttpReply},
    shared::{Shared, Signals},
    stream::Stream,
};

/// The id of the context that every plug-in has.
pub(crate) const ROOT: u32 = 1;

/// What all instances of a plug-in have in common.
pub(crate) struct Facts {
    /// The name of the plug-in.
    pub(crate) name: Arc<str>,
    /// Buffer 6.
    pub(crate) vm_configuration: Bytes,
    /// Buffer 7.
    pub(crate) configuration: Bytes,
    /// The parent of the contexts of requests.
    pub(crate) root_context: u32,
    pub(crate) limits: Limits,
    pub(crate) allowed: Arc<Allowed>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) shared: Arc<Shared>,
    /// What guests do that nobody waits for, until the process ends.
    pub(crate) endings: TaskTracker,
    /// The functions of this process; gone while it ends.
    pub(crate) functions: Weak<Functions>,
}

/// What one instance may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: usize,
    /// Run time of one call.
    pub time: Duration,
}

/// What a guest may use of the runtime; `*` stands for everything.
#[derive(Debug, Clone)]
pub struct Allowed {
    /// Methods of the runtime API.
    pub methods: Vec<String>,
    /// State stores.
    pub stores: Vec<String>,
    /// Clusters of `proxy_http_call` and of gRPC.
    pub clusters: Vec<String>,
}

impl Default for Allowed {
    fn default() -> Self {
        Self {
            methods: vec!["GetState".to_owned(), "InvokeService".to_owned()],
            stores: vec!["*".to_owned()],
            clusters: Vec::new(),
        }
    }
}

/// Whether `name` is in a list of [`Allowed`].
pub fn allows(list: &[String], name: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == name)
}

/// One instance.
pub(crate) struct Guest {
    pub(crate) facts: Arc<Facts>,
    pub(crate) asker: Asker,
    pub(crate) caller: Caller,
    pub(crate) clock: Clock,
    pub(crate) born: Instant,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
    /// While the guest's allocator runs for the host: its own calls are refused.
    pub(crate) allocating: bool,
    /// The context that host functions act on.
    pub(crate) effective: u32,
    pub(crate) stream: Option<Stream>,
    pub(crate) call_data: Bytes,
    pub(crate) calls: Calls,
    /// While the guest is told of it.
    pub(crate) reply: Option<HttpReply>,
    /// Of gRPC, while the guest is told of it.
    pub(crate) event: Option<Event>,
    /// What `proxy_get_status` says.
    pub(crate) status: (u32, String),
    pub(crate) tick: Option<Duration>,
    pub(crate) done: Done,
    /// Lines written to standard output and error that have not ended.
    pub(crate) lines: [Vec<u8>; 2],
    /// Where it hears of queues; only the root instance does.
    pub(crate) signals: Option<Arc<Signals>>,
    /// The most memory it had, in bytes.
    pub(crate) memory_used: usize,
}

/// Whether a context that was told of its end is ready for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// It was not told.
    Running,
    /// It asked for time.
    Pending,
    /// It called `proxy_done`.
    Finished,
}

impl Guest {
    pub(crate) fn new(facts: Arc<Facts>, asker: Asker) -> Self {
        Self {
            clock: Clock::start(facts.limits.time),
            born: Instant::now(),
            facts,
            asker,
            caller: Caller::default(),
            memory: None,
            allocate: None,
            allocating: false,
            effective: ROOT,
            stream: None,
            call_data: Bytes::new(),
            calls: Calls::default(),
            reply: None,
            event: None,
            status: (0, String::new()),
            tick: None,
            done: Done::Running,
            lines: Default::default(),
            signals: None,
            memory_used: 0,
        }
    }

    /// The stream, if its context is the one that host functions act on.
    pub(crate) fn stream(&mut self) -> Option<&mut Stream> {
        let effective = self.effective;
        self.stream.as_mut().filter(|stream| stream.id == effective)
    }

    /// The message of gRPC that the guest is told of.
    pub(crate) fn message(&self) -> Option<&Bytes> {
        match &self.event {
            Some(Event::Message(message)) => Some(message),
            _ => None,
        }
    }

    pub(crate) fn trailers_of_reply(&mut self) -> Option<&mut Headers> {
        self.reply.as_mut().map(|reply| &mut reply.trailers)
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired <= self.facts.limits.memory;
        if allowed {
            self.memory_used = self.memory_used.max(desired);
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= 100_000)
    }
}
