//! For tests: a world for guests, a guest that passes every call on to the host, and functions in text.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use wasmtime::{Store, Val, ValType};

use crate::{
    Allowed, Config, Engine, Functions, Headers, Limits, Request, Serving, Settings, Source,
    abi::Level,
    functions::Origin,
    grpc::{Call, Event},
    guest::{Facts, Guest},
    host::{Asker, Failure, Host, HttpCall, HttpReply},
    instance::{Instance, Prepared, linker},
    mirror,
    stream::Stream,
};

/// A host that remembers what it was asked.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) logs: Mutex<Vec<(String, Level, String)>>,
    pub(crate) asked: Mutex<Vec<String>>,
    /// What the state `later` waits for.
    pub(crate) later: Notify,
}

impl Fake {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.logs
            .lock()
            .unwrap()
            .iter()
            .map(|(_, _, text)| text.clone())
            .collect()
    }

    fn note(&self, text: String) {
        self.asked.lock().unwrap().push(text);
    }
}

#[async_trait]
impl Host for Fake {
    fn log(&self, function: &str, level: Level, text: &str) {
        self.logs
            .lock()
            .unwrap()
            .push((function.to_owned(), level, text.to_owned()));
    }

    async fn get_state(&self, _: &Asker, store: &str, key: &str) -> Result<Bytes, Failure> {
        self.note(format!("state {store} {key}"));
        match key {
            "missing" => Ok(Bytes::new()),
            "broken" => Err(Failure::Failed("broken".to_owned())),
            "never" => std::future::pending().await,
            "later" => {
                self.later.notified().await;
                Ok(Bytes::new())
            }
            key => Ok(format!("value of {key}").into()),
        }
    }

    async fn invoke_service(
        &self,
        _: &Asker,
        id: &str,
        method: &str,
        param: Bytes,
    ) -> Result<Bytes, Failure> {
        self.note(format!("invoke {id} {method}"));
        match id {
            "broken" => Err(Failure::Failed("broken".to_owned())),
            _ => Ok(param),
        }
    }

    async fn call_runtime(&self, _: &Asker, method: &str, request: Bytes) -> Result<Bytes, Failure> {
        match method {
            "SayHello" => Ok([b"hello ", &request[..]].concat().into()),
            "Broken" => Err(Failure::Failed("broken".to_owned())),
            _ => Err(Failure::Unknown),
        }
    }

    fn has_cluster(&self, cluster: &str) -> bool {
        matches!(cluster, "c" | "forbidden")
    }

    async fn http_call(&self, _: &Asker, call: HttpCall) -> Result<HttpReply, Failure> {
        let path = call.headers.get(b":path").cloned().unwrap_or_default();
        match &path[..] {
            b"/broken" => Err(Failure::Failed("broken".to_owned())),
            b"/never" => std::future::pending().await,
            _ => Ok(HttpReply {
                headers: [(":status", "200")].into_iter().collect(),
                body: call.body,
                trailers: Headers::default(),
            }),
        }
    }

    /// Gives every message back; the method may say how it ends.
    fn grpc(&self, _: &Asker, call: Call) -> BoxStream<'static, Event> {
        self.note(format!("grpc {}/{}", call.service, call.method));
        let end = match call.method.as_str() {
            "Refused" => Event::closed(7, "not for you"),
            _ => Event::closed(0, ""),
        };
        let trailing = Event::Trailing([("t", "u")].into_iter().collect());
        let first = stream::iter([Event::Initial(call.metadata)]);
        let events = first.chain(call.messages.map(Event::Message));
        match call.method.as_str() {
            "Never" => events.chain(stream::pending()).boxed(),
            "Ticks" => stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Some((Event::Message(Bytes::new()), ()))
            })
            .boxed(),
            _ => events.chain(stream::iter([trailing, end])).boxed(),
        }
    }
}

pub(crate) fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

pub(crate) fn settings() -> Settings {
    Settings {
        instances: 200,
        ..Settings::default()
    }
}

/// A plug-in of this text.
pub(crate) fn config(text: &str) -> Config {
    Config {
        source: Arc::new(Source {
            origin: Origin::Bytes(wasm(text).into()),
            md5: String::new(),
            sha256: String::new(),
        }),
        ..file("")
    }
}

/// A plug-in of this file.
pub(crate) fn file(path: impl Into<std::path::PathBuf>) -> Config {
    Config {
        name: None,
        is_filter: false,
        source: Source::file(path),
        root_context: 1,
        limits: limits(),
        allowed: allowed(),
        serving: Serving {
            places: 64,
            wait: Duration::from_millis(100),
            reuse: false,
            forgive: false,
        },
        vm: Vec::new(),
        user_data: vec![("k".to_owned(), "v".to_owned())],
    }
}

fn limits() -> Limits {
    Limits {
        memory: 1 << 20,
        time: Duration::from_millis(1000),
    }
}

fn allowed() -> Allowed {
    let list = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Allowed {
        methods: list(&["GetState", "InvokeService", "SayHello", "Broken", "Unheard"]),
        stores: list(&["s"]),
        clusters: list(&["c", "nowhere"]),
    }
}

pub(crate) fn functions() -> (Arc<Functions>, Arc<Fake>) {
    let host = Arc::<Fake>::default();
    (Functions::new(settings(), host.clone()), host)
}

pub(crate) fn request(path: &'static str, body: &'static str) -> Request {
    let headers = [
        (":method", "GET"),
        (":path", path),
        (":authority", "h"),
        (":scheme", "http"),
    ];
    Request {
        headers: headers.into_iter().collect(),
        body: body.into(),
        trailers: None,
        source: Some(([127, 0, 0, 1], 4711).into()),
        protocol: "HTTP/1.1",
    }
}

/// Memory, and an allocator that never frees.
pub(crate) const ALLOCATOR: &str = r#"
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 65536))
    (func $allocate (export "proxy_on_memory_allocate") (param $n i32) (result i32)
        global.get $next
        global.get $next local.get $n i32.add global.set $next)
"#;

/// A guest that exports every host function.
pub(crate) struct Mirror {
    pub(crate) instance: Instance,
    pub(crate) host: Arc<Fake>,
}

impl Mirror {
    pub(crate) async fn new() -> Self {
        Self::with(ALLOCATOR).await
    }

    /// With memory and allocator of its own, written in text; `$host_<name>` are the host functions.
    pub(crate) async fn with(own: &str) -> Self {
        let host = Arc::<Fake>::default();
        let engine = Arc::new(Engine::new(&settings()).unwrap());
        let linker = linker(&engine).unwrap();
        let guest = Guest::new(Arc::new(facts(Arc::default())), asker());
        let functions = mirror::functions(&linker, &mut Store::new(engine.wasmtime(), guest));
        let code = engine
            .code(&wasm(&mirror::text(&functions, own)), "mirror")
            .unwrap();
        let prepared = Arc::new(Prepared::new(engine, &linker, code).unwrap());
        let mut guest = Guest::new(Arc::new(facts(host.clone())), asker());
        guest.stream = Some(Stream::new(2, request("/p?q=1", "body")));
        guest.effective = 2;
        let instance = Instance::start(prepared, guest).await.unwrap();
        Self { instance, host }
    }

    /// Calls a host function; panics if it ends the guest.
    pub(crate) async fn call(&mut self, name: &str, arguments: &[i64]) -> u32 {
        self.try_call(name, arguments).await.unwrap()
    }

    pub(crate) async fn try_call(&mut self, name: &str, arguments: &[i64]) -> wasmtime::Result<u32> {
        let (store, instance) = self.instance.parts();
        let function = instance.get_func(&mut *store, name).unwrap();
        let signature = function.ty(&mut *store);
        let value = |(kind, number): (ValType, &i64)| match kind {
            ValType::I64 => Val::I64(*number),
            _ => Val::I32(*number as i32),
        };
        assert_eq!(signature.params().len(), arguments.len(), "arguments of {name}");
        let arguments: Vec<Val> = signature.params().zip(arguments).map(value).collect();
        let mut results = vec![Val::I32(0); signature.results().len()];
        function.call_async(&mut *store, &arguments, &mut results).await?;
        Ok(results
            .first()
            .map_or(0, |result| result.unwrap_i32().cast_unsigned()))
    }

    pub(crate) fn guest(&mut self) -> &mut Guest {
        self.instance.guest()
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        let (store, instance) = self.instance.parts();
        let memory = instance.get_memory(&mut *store, "memory").unwrap();
        memory.data_mut(&mut *store)[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn get(&mut self, at: usize, len: usize) -> Vec<u8> {
        let (store, instance) = self.instance.parts();
        let memory = instance.get_memory(&mut *store, "memory").unwrap();
        memory.data(&*store)[at..at + len].to_vec()
    }

    pub(crate) fn u32(&mut self, at: usize) -> u32 {
        u32::from_le_bytes(self.get(at, 4).try_into().unwrap())
    }

    /// What the host gave, whose address and length are at these two places.
    pub(crate) fn given(&mut self, ptr: usize, len: usize) -> String {
        let (address, length) = (self.u32(ptr), self.u32(len));
        String::from_utf8(self.get(address as usize, length as usize)).unwrap()
    }
}

fn facts(host: Arc<Fake>) -> Facts {
    Facts {
        name: "plugin".into(),
        vm_configuration: "vm".into(),
        configuration: "configuration".into(),
        root_context: 1,
        limits: limits(),
        allowed: Arc::new(allowed()),
        host,
        shared: Arc::default(),
        endings: TaskTracker::new(),
        functions: Weak::new(),
    }
}

fn asker() -> Asker {
    Asker {
        function: "mirror".into(),
        allowed: Arc::new(allowed()),
        depth: 0,
        deadline: None,
    }
}
