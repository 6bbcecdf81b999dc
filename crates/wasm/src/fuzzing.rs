//! A door for fuzz targets; there only when they are built.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use wasmtime::{Linker, Store, Val, ValType};

use crate::{
    Allowed, Engine, Limits, Request, Settings, Shared,
    grpc::{Call, Event},
    guest::{Facts, Guest},
    host::{Asker, Failure, Host, HttpCall, HttpReply},
    instance::{Instance, Prepared, linker},
    mirror::{self, Signature},
    stream::Stream,
};

/// The most memory of the guest, in bytes.
pub const MEMORY: usize = 1 << 20;

/// What guests of a fuzz target share.
pub struct World {
    engine: Arc<Engine>,
    linker: Linker<Guest>,
    functions: Vec<Signature>,
    prepared: Option<Arc<Prepared>>,
}

/// A guest that exports every host function.
pub struct Caller(Instance);

/// A host that answers everything with what it was asked.
struct Echo;

#[async_trait]
impl Host for Echo {
    fn log(&self, _: &str, _: crate::abi::Level, _: &str) {}

    async fn get_state(&self, _: &Asker, _: &str, key: &str) -> Result<Bytes, Failure> {
        Ok(key.to_owned().into())
    }

    async fn invoke_service(&self, _: &Asker, _: &str, _: &str, param: Bytes) -> Result<Bytes, Failure> {
        Ok(param)
    }

    async fn call_runtime(&self, _: &Asker, _: &str, request: Bytes) -> Result<Bytes, Failure> {
        Ok(request)
    }

    fn has_cluster(&self, _: &str) -> bool {
        true
    }

    async fn http_call(&self, _: &Asker, call: HttpCall) -> Result<HttpReply, Failure> {
        Ok(HttpReply {
            headers: call.headers,
            body: call.body,
            trailers: call.trailers,
        })
    }

    fn grpc(&self, _: &Asker, call: Call) -> BoxStream<'static, Event> {
        let first = stream::iter([Event::Initial(call.metadata)]);
        let last = stream::iter([Event::closed(0, "")]);
        first.chain(call.messages.map(Event::Message)).chain(last).boxed()
    }
}

impl World {
    /// An engine and its host functions.
    pub fn new() -> Self {
        let settings = Settings {
            instances: 4,
            ..Settings::default()
        };
        let engine = Arc::new(Engine::new(&settings).expect("an engine"));
        let linker = linker(&engine).expect("host functions");
        let mut store = Store::new(engine.wasmtime(), guest(Arc::default()));
        let functions = mirror::functions(&linker, &mut store);
        Self {
            engine,
            linker,
            functions,
            prepared: None,
        }
    }

    /// The text of the guest's module, for [`prepare`](Self::prepare).
    pub fn text(&self, own: &str) -> String {
        mirror::text(&self.functions, own)
    }

    /// Takes the module of the guest.
    pub fn prepare(&mut self, wasm: &[u8]) {
        let code = self.engine.code(wasm, "fuzz").expect("a module");
        let prepared = Prepared::new(self.engine.clone(), &self.linker, code);
        self.prepared = Some(Arc::new(prepared.expect("a module that links")));
    }

    /// The host functions: name, and how many parameters.
    pub fn functions(&self) -> Vec<(String, usize)> {
        let all = self.functions.iter();
        all.map(|(_, name, params, _)| (name.clone(), params.len()))
            .collect()
    }

    /// A guest in the middle of a request.
    pub async fn caller(&self) -> Caller {
        let mut guest = guest(Arc::default());
        let headers = [
            (":method", "GET"),
            (":path", "/p?q"),
            (":authority", "h"),
            ("a", "b"),
        ];
        let request = Request {
            headers: headers.into_iter().collect(),
            body: "body".into(),
            trailers: Some([("t", "u")].into_iter().collect()),
            source: Some(([127, 0, 0, 1], 1).into()),
            protocol: "HTTP/2.0",
        };
        guest.stream = Some(Stream::new(2, request));
        guest.effective = 2;
        guest.reply = Some(HttpReply::default());
        guest.event = Some(Event::Message("message".into()));
        let prepared = self.prepared.clone().expect("prepare was called");
        Caller(Instance::start(prepared, guest).await.expect("an instance"))
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Caller {
    /// Writes into the guest's memory what fits.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        let (store, instance) = self.0.parts();
        let memory = instance.get_memory(&mut *store, "memory").expect("memory");
        if let Some(place) = memory.data_mut(&mut *store).get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// How much memory the guest has.
    pub fn memory(&mut self) -> usize {
        let (store, instance) = self.0.parts();
        let memory = instance.get_memory(&mut *store, "memory").expect("memory");
        memory.data_size(&*store)
    }

    /// Calls a host function; `None`: the guest ended.
    pub async fn call(&mut self, name: &str, arguments: &[u64]) -> Option<u32> {
        let (store, instance) = self.0.parts();
        store.data_mut().clock.restart();
        store.set_epoch_deadline(u64::MAX / 2);
        let function = instance
            .get_func(&mut *store, name)
            .expect("every function is exported");
        let signature = function.ty(&*store);
        let value = |(kind, number): (ValType, &u64)| match kind {
            ValType::I64 => Val::I64(number.cast_signed()),
            _ => Val::I32((*number as u32).cast_signed()),
        };
        let arguments: Vec<Val> = signature.params().zip(arguments).map(value).collect();
        let mut results = vec![Val::I32(0); signature.results().len()];
        let called = function.call_async(&mut *store, &arguments, &mut results).await;
        called.ok()?;
        Some(
            results
                .first()
                .map_or(0, |result| result.unwrap_i32().cast_unsigned()),
        )
    }
}

fn guest(shared: Arc<Shared>) -> Guest {
    let every = || vec!["*".to_owned()];
    let allowed = Arc::new(Allowed {
        methods: every(),
        stores: every(),
        clusters: every(),
    });
    let facts = Facts {
        name: "fuzz".into(),
        vm_configuration: "vm".into(),
        configuration: "configuration".into(),
        root_context: 1,
        limits: Limits {
            memory: MEMORY,
            time: Duration::from_secs(1),
        },
        allowed: allowed.clone(),
        host: Arc::new(Echo),
        shared,
        endings: tokio_util::task::TaskTracker::new(),
        functions: std::sync::Weak::new(),
    };
    let asker = Asker {
        function: "fuzz".into(),
        allowed,
        depth: 0,
        deadline: None,
    };
    Guest::new(Arc::new(facts), asker)
}
