//! Where modules come from besides files of the filter: plug-ins that others name, and URLs.

use std::sync::{Arc, Mutex, PoisonError};

use ring::digest;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use tokio_util::task::AbortOnDropHandle;

use super::{admin::World, *};

// deviation: D147
#[tokio::test]
async fn a_plug_in_names_a_module_of_all() {
    let named = |name: &str, from: &str| json!({"name": name, "from_wasm_plugin": from});
    let global =
        |path: &str| json!([{"plugin_name": "shared", "instance_num": 2, "vm_config": {"path": path}}]);
    let mut demo = Demo::new(&json!({"f": named("f", "shared")}));
    demo.plan = demo.plan.root(json!({"wasm_global_plugins": global("one.wasm")}));
    let world = World::of(demo, &[("one", &says("one")), ("two", &says("two"))]);
    assert_eq!(world.demo.ask("f").await.text(), "one");
    world.done("install", &named("g", "shared")).await;
    assert_eq!(world.demo.ask("g").await.text(), "one");
    assert_eq!(world.status().await[1]["instance_num"], 2);
    let refused = world.refused("install", &named("h", "other")).await;
    assert_eq!(refused, "from_wasm_plugin: plugin not found");
    let plan = world.demo.plan.clone();
    let plan = plan.root(json!({"wasm_global_plugins": global("two.wasm")}));
    world.running.apply(&plan).await;
    assert_eq!(world.demo.ask("f").await.text(), "two");
    assert_eq!(world.running.logged("take effect at the next start"), 0);
}

/// A server that has one module, or none.
struct Store {
    port: u16,
    module: Arc<Mutex<Vec<u8>>>,
    asked: Arc<Mutex<Vec<String>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl Store {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (module, asked) = (
            Arc::<Mutex<Vec<u8>>>::default(),
            Arc::<Mutex<Vec<String>>>::default(),
        );
        let (has, notes) = (module.clone(), asked.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let (mut head, mut line) = (String::new(), String::new());
                while stream.read_line(&mut line).await.unwrap_or(0) > 2 {
                    head.push_str(&std::mem::take(&mut line));
                }
                notes.lock().unwrap().push(head);
                let module = has.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let status = if module.is_empty() { "503 Later" } else { "200 OK" };
                let head = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    module.len()
                );
                drop(stream.write_all(&[head.as_bytes(), &module].concat()).await);
            }
        });
        Self {
            port,
            module,
            asked,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// Has this module from now on; its SHA-256.
    fn has(&self, text: &str) -> String {
        let module = wat::parse_str(text).unwrap();
        let digest = digest::digest(&digest::SHA256, &module);
        *self.module.lock().unwrap() = module;
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

// deviation: D145
#[tokio::test]
async fn a_module_is_fetched_when_it_can_be_and_again_when_its_place_changes() {
    let store = Store::start().await;
    let at = |path: &str, more: Value| {
        let url = format!("http://user:hidden@127.0.0.1:{}/{path}?token=hidden", store.port);
        json!({"f": merged(json!({"name": "f", "vm_config": {"url": url}}), &more)})
    };
    let world = World::of(Demo::new(&at("f.wasm", json!({}))), &[]);
    assert_eq!(world.demo.ask("f").await.status, 404);
    let problem = format!(
        "http://127.0.0.1:{}/f.wasm cannot be fetched: it was answered with status 503",
        store.port
    );
    until("it is told why", async || {
        world.status().await[0]["problem"] == problem
    })
    .await;
    store.has(&says("one"));
    until("it is fetched", async || {
        world.demo.ask("f").await.text() == "one"
    })
    .await;
    assert!(store.asked.lock().unwrap()[0].contains("authorization: Basic"));

    let asked = store.asked();
    let apply = async |plugins: Value| {
        let plan = world.demo.plan.clone();
        let plan = plan.filters(json!([{"type": "Layotto", "config": plugins}]));
        world.running.apply(&plan).await;
    };
    store.has(&says("two"));
    apply(at("f.wasm", json!({"instance_num": 5}))).await;
    assert_eq!(world.status().await[0]["instance_num"], 5);
    assert_eq!(
        (store.asked(), world.demo.ask("f").await.text()),
        (asked, "one".to_owned())
    );
    apply(at("other.wasm", json!({"instance_num": 5}))).await;
    until("the other is fetched", async || {
        world.demo.ask("f").await.text() == "two"
    })
    .await;
    assert_eq!(store.asked(), asked + 1);
    let log = world.running.process.output();
    assert!(!log.contains("hidden"), "{log}");
}

#[tokio::test]
async fn a_module_that_is_not_what_its_checksum_says_is_asked_for_until_it_is() {
    let store = Store::start().await;
    let sha256 = store.has(&says("right"));
    store.has(&says("wrong"));
    let url = format!("http://127.0.0.1:{}/f.wasm", store.port);
    let item = json!({"f": {"name": "f", "vm_config": {"url": url, "sha256": sha256}}});
    let world = World::of(Demo::new(&item), &[]);
    until("it is asked for again", async || store.asked() > 2).await;
    let status = world.status().await[0].clone();
    let problem = status["problem"].as_str().unwrap();
    assert!(
        problem.starts_with("incorrect hash of wasm bytes: SHA-256 is "),
        "{problem}"
    );
    assert_eq!(
        (&status["status"], &status["version"]),
        (&json!("DOWN"), &Value::Null)
    );
    assert_eq!(world.demo.ask("f").await.status, 404);
    store.has(&says("right"));
    until("it is the right one", async || {
        world.demo.ask("f").await.text() == "right"
    })
    .await;
    let asked = store.asked();
    let status = world.status().await[0].clone();
    assert_eq!(
        (&status["problem"], &status["version"]["sha256"]),
        (&Value::Null, &json!(sha256))
    );
    assert_eq!(store.asked(), asked, "that was the last time");
}

// deviation: D146
#[tokio::test]
async fn a_fetched_module_is_what_its_checksum_says() {
    let store = Store::start().await;
    let world = World::of(Demo::new(&Value::Null), &[]);
    let url = format!("http://127.0.0.1:{}/f.wasm", store.port);
    let sha256 = store.has(&says("here"));
    let item = |url: &str, sha256: &str| json!({"name": "f", "vm_config": {"engine": "wazero", "url": url, "sha256": sha256}});
    let refused = world.refused("install", &item(&url, &"0".repeat(64))).await;
    assert!(
        refused.starts_with("incorrect hash of wasm bytes: SHA-256 is "),
        "{refused}"
    );
    let refused = world
        .refused("install", &item("http://modules.test/f.wasm", ""))
        .await;
    assert!(
        refused.starts_with("vm_config.url: needs a checksum"),
        "{refused}"
    );
    world.done("install", &item(&url, &sha256)).await;
    assert_eq!(world.demo.ask("f").await.text(), "here");
    world.done("uninstall", &json!({"name": "f"})).await;
    world.done("install", &item(&url, "")).await;
    assert_eq!(
        world.running.logged("functions for this engine run on wasmtime"),
        1
    );
}
