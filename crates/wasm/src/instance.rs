//! One instance of a module: its start, and the calls into it.

mod exports;
mod news;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use wasmtime::{InstancePre, Linker, Store, UpdateDeadline};

use self::exports::{Export, Functions, exports};

use crate::{
    Engine, ModuleError,
    abi::Version,
    caller::Caller,
    engine::{Code, Running},
    guest::{Done, Guest, ROOT},
    hostcalls,
    stream::{Reply, Request, Stream},
    trap::Trap,
    wasi,
};

/// How long a guest may wait, and the runtime has for what it asks of it, after the end of an exchange.
const AFTERWARDS: Duration = Duration::from_secs(60);

/// What a guest hears of the end of a context.
const LAST: [&str; 3] = ["proxy_on_done", "proxy_on_log", "proxy_on_delete"];

/// A module that is ready to be instantiated.
pub(crate) struct Prepared {
    engine: Arc<Engine>,
    code: Code,
    pre: InstancePre<Guest>,
    exports: HashMap<String, Export>,
    version: Version,
}

/// The functions that every guest can call.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine.wasmtime());
    hostcalls::link(&mut linker)?;
    wasi::link(&mut linker)?;
    Ok(linker)
}

impl Prepared {
    /// Links a module. Host functions that nobody knows are there, and end the guest that calls them.
    pub(crate) fn new(engine: Arc<Engine>, linker: &Linker<Guest>, code: Code) -> Result<Self, ModuleError> {
        let module = &code.module;
        let mut linker = linker.clone();
        let linked = wasi::link_rest(&mut linker, module)
            .and_then(|()| linker.define_unknown_imports_as_traps(module))
            .and_then(|()| linker.instantiate_pre(module));
        Ok(Self {
            pre: linked.map_err(|error| ModuleError::Link(error.into_boxed_dyn_error()))?,
            exports: exports(module),
            version: Version::of(module),
            engine,
            code,
        })
    }

    /// Lets go of the pages of its code, until they are needed again.
    pub(crate) fn let_go(&self) {
        self.code.let_go();
    }

    /// Whether the guest has a function of this name that the host can call.
    pub(crate) fn exports(&self, name: &str) -> bool {
        self.exports.contains_key(name)
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }
}

/// An instance. After a trap it must be dropped.
pub(crate) struct Instance {
    prepared: Arc<Prepared>,
    store: Store<Guest>,
    instance: wasmtime::Instance,
    functions: Functions,
}

/// How a request ends.
#[derive(Debug)]
pub(crate) enum Served {
    Reply(Reply),
    /// The guest waits, and nothing that it waits for will come.
    Stuck,
    /// The guest closed the stream.
    Closed,
}

impl Instance {
    /// Instantiates, and lets the guest initialise itself.
    pub(crate) async fn start(prepared: Arc<Prepared>, guest: Guest) -> Result<Self, Trap> {
        let mut store = Store::new(prepared.engine.wasmtime(), guest);
        store.limiter(|guest| guest);
        store.set_epoch_deadline(1);
        let pace = prepared.engine.pace();
        store.epoch_deadline_callback(move |mut cx| {
            let clock = &mut cx.data_mut().clock;
            clock.check().map_err(wasmtime::Error::new)?;
            Ok(match pace.gives_way(clock) {
                true => UpdateDeadline::YieldCustom(1, Box::pin(clock.turn())),
                false => UpdateDeadline::Continue(1),
            })
        });
        let running = prepared.engine.running();
        let instance = prepared.pre.instantiate_async(&mut store).await?;
        let mut instance = Self {
            functions: Functions::of(prepared.exports.len()),
            prepared,
            store,
            instance,
        };
        instance.initialise().await?;
        drop(running);
        Ok(instance)
    }

    async fn initialise(&mut self) -> Result<(), Trap> {
        if !self.exports("_initialize") {
            return match self.call("_start", &[]).await {
                Err(Trap::Exited(wasi::Exited(0))) => Ok(()),
                other => other.map(drop),
            };
        }
        self.call("_initialize", &[]).await?;
        let main = if self.exports("main") {
            "main"
        } else {
            "__main_void"
        };
        self.call(main, &[0, 0]).await?;
        Ok(())
    }

    fn exports(&self, name: &str) -> bool {
        self.prepared.exports(name)
    }

    /// Layotto's way of asking a guest for the id of its function; "" if it does not say.
    pub(crate) async fn id(&mut self) -> Result<String, Trap> {
        let _running = self.running();
        self.call("proxy_get_id", &[]).await?;
        let data = std::mem::take(&mut self.store.data_mut().call_data);
        Ok(String::from_utf8_lossy(&data).into_owned())
    }

    /// Creates the root context and configures it. `false`: the guest does not like it.
    pub(crate) async fn configure(&mut self) -> Result<bool, Trap> {
        let _running = self.running();
        let facts = self.store.data().facts.clone();
        self.call("proxy_on_context_create", &[ROOT, 0]).await?;
        let vm = size(facts.vm_configuration.len());
        let started = self.call("proxy_on_vm_start", &[ROOT, vm]).await?;
        let plugin = size(facts.configuration.len());
        let configured = self.call("proxy_on_configure", &[ROOT, plugin]).await?;
        Ok(started != Some(0) && configured != Some(0))
    }

    /// Lets the guest answer a request in a context of its own.
    pub(crate) async fn serve(&mut self, context: u32, request: Request) -> Result<Served, Trap> {
        let _running = self.running();
        self.open(context, request).await?;
        self.stream(context).await
    }

    /// Creates the context of a request.
    pub(crate) async fn open(&mut self, context: u32, request: Request) -> Result<(), Trap> {
        let _running = self.running();
        self.store.data_mut().stream = Some(Stream::new(context, request));
        let parent = self.store.data().facts.root_context;
        self.call_in(context, "proxy_on_context_create", &[context, parent])
            .await
            .map(drop)
    }

    async fn stream(&mut self, context: u32) -> Result<Served, Trap> {
        let (headers, body, trailers) = {
            let request = &self.stream_now().request;
            let trailers = request.trailers.as_ref().map(|trailers| trailers.0.len());
            (request.headers.0.len(), request.body.len(), trailers)
        };
        let ends = u32::from(body == 0 && trailers.is_none());
        let mut paused = self
            .event("proxy_on_request_headers", &[context, size(headers), ends])
            .await?;
        self.wait(paused).await?;
        if body > 0 && !self.decided() {
            let ends = u32::from(trailers.is_none());
            paused = self
                .event("proxy_on_request_body", &[context, size(body), ends])
                .await?;
            self.wait(paused).await?;
        }
        if let Some(count) = trailers.filter(|_| !self.decided()) {
            paused = self
                .event("proxy_on_request_trailers", &[context, size(count)])
                .await?;
            self.wait(paused).await?;
        }
        let stuck = paused && !self.decided() && !self.stream_now().continued;
        if stuck {
            return Ok(Served::Stuck);
        }
        // The reply is what the guest left.
        let stream = self.stream_now();
        Ok(match stream.local.is_none() && stream.closed {
            true => Served::Closed,
            false => Served::Reply(stream.reply()),
        })
    }

    /// Tells the guest of something; whether it wants to pause.
    pub(crate) async fn event(&mut self, name: &str, arguments: &[u32]) -> Result<bool, Trap> {
        self.stream_now().take_continued();
        let context = arguments.first().copied().unwrap_or(ROOT);
        Ok(self.call_in(context, name, arguments).await? == Some(1))
    }

    /// While the guest pauses and has calls under way, waits for what there is to tell of them.
    async fn wait(&mut self, paused: bool) -> Result<(), Trap> {
        while paused && !self.decided() && !self.stream_now().continued {
            if !self.next_news().await? {
                break;
            }
        }
        Ok(())
    }

    /// Whether the guest is told of the ends of contexts.
    pub(crate) fn hears_of_ends(&self) -> bool {
        LAST.iter().any(|name| self.exports(name))
    }

    /// The guest is told of the end of its context; what it waits for then has [`AFTERWARDS`].
    pub(crate) async fn finish(&mut self, context: u32) -> Result<(), Trap> {
        let [on_done, on_log, on_delete] = LAST;
        let until = Instant::now() + AFTERWARDS;
        let guest = self.store.data_mut();
        guest.done = Done::Pending;
        // What it does now it does for itself; but not for ever.
        guest.caller = Caller::default();
        guest.asker.deadline = Some(until);
        let ready = self.call_in(context, on_done, &[context]).await? != Some(0);
        while !ready && self.store.data().done == Done::Pending {
            if !self.next_news_before(until).await? {
                self.store.data_mut().calls.hang_up();
                break;
            }
        }
        self.store.data_mut().done = Done::Running;
        self.call_in(context, on_log, &[context]).await?;
        self.call_in(context, on_delete, &[context]).await?;
        self.forget();
        Ok(())
    }

    /// Forgets the context of a request, and gives up what it has under way.
    pub(crate) fn forget(&mut self) {
        let guest = self.store.data_mut();
        guest.calls.hang_up();
        guest.stream = None;
    }

    fn decided(&mut self) -> bool {
        self.decision().is_some()
    }

    /// What the guest made of the request, if it answered it (`Some(Some)`) or closed it.
    pub(crate) fn decision(&mut self) -> Option<Option<Reply>> {
        let stream = self.stream_now();
        match &stream.local {
            Some(local) => Some(Some(local.clone())),
            None => stream.closed.then_some(None),
        }
    }

    pub(crate) fn stream_now(&mut self) -> &mut Stream {
        self.store.data_mut().stream.get_or_insert_default()
    }

    pub(crate) async fn call_in(
        &mut self,
        context: u32,
        name: &str,
        arguments: &[u32],
    ) -> Result<Option<u32>, Trap> {
        self.store.data_mut().effective = context;
        self.call(name, arguments).await
    }

    /// Calls an export, if it is there, with as many of the arguments as it takes.
    async fn call(&mut self, name: &str, arguments: &[u32]) -> Result<Option<u32>, Trap> {
        let Some(export) = self.prepared.exports.get(name) else {
            return Ok(None);
        };
        self.store.set_epoch_deadline(1);
        let (store, instance) = (&mut self.store, self.instance);
        Ok(self.functions.call(store, instance, export, arguments).await?)
    }

    pub(crate) fn guest(&mut self) -> &mut Guest {
        self.store.data_mut()
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn parts(&mut self) -> (&mut Store<Guest>, wasmtime::Instance) {
        (&mut self.store, self.instance)
    }

    /// The guest has its whole time again, which passes while the answer lives.
    pub(crate) fn runs_again(&mut self) -> Running {
        self.guest().clock.restart();
        self.running()
    }

    /// Time passes for the guest while it lives.
    pub(crate) fn running(&self) -> Running {
        self.prepared.engine.running()
    }
}

/// As guests count; nothing here is longer than 32 bits can say.
fn size(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
