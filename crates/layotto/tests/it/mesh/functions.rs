//! Functions in WebAssembly over HTTP, as a whole process.

mod admin;
mod demo;
mod modules;
mod neighbours;

use std::time::{Duration, Instant};

use layotto_proto::runtime::v1::{GetStateRequest, SaveStateRequest, StateItem};
use prost::Message;
use serde_json::{Value, json};

use super::{
    clients::{Ask, Reply},
    guests::build,
    plan::{Plan, Running, merged, runtime, until},
};
use crate::{
    lifecycle::{client, save},
    sidecar::free_port,
};

/// One plug-in of the filter, with more keys.
fn plugin(name: &str, more: Value) -> Value {
    let vm = json!({"engine": "wasmtime", "path": format!("{name}.wasm")});
    merged(json!({"name": name, "instance_num": 1, "vm_config": vm}), &more)
}

/// A function that answers `text`.
fn says(text: &str) -> String {
    does(&format!(
        "(drop (call $set (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 100) (i32.const {})))",
        text.len()
    ))
    .replace("…", text)
}

/// A function that does this when the head of a request comes.
fn does(what: &str) -> String {
    format!(
        r#"(module
            (import "env" "proxy_set_buffer_bytes" (func $set (param i32 i32 i32 i32 i32) (result i32)))
            (import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 2)
            (func (export "malloc") (param i32) (result i32) i32.const 65536)
            (data (i32.const 100) "…")
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {what} i32.const 0))"#
    )
}

/// Upstream's demo: a listener for functions whose one route answers 200, and a runtime with a store.
struct Demo {
    web: u16,
    grpc: u16,
    plan: Plan,
}

impl Demo {
    fn new(plugins: &Value) -> Self {
        let (web, grpc) = (free_port(), free_port());
        let route = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]);
        let state =
            json!({"app": {"app_id": "app"}, "state": {"state_demo": {"type": "in-memory", "metadata": {}}}});
        let plan = Plan::web(web, route).filters(json!([{"type": "Layotto", "config": plugins}]));
        Self {
            web,
            grpc,
            plan: plan.listener(runtime(grpc, state)),
        }
    }

    fn run(&self, modules: &[(&str, &str)]) -> Running {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in modules {
            build(folder.path(), name, text);
        }
        self.plan.run_in(folder, &[])
    }

    async fn ask(&self, id: &str) -> Reply {
        Ask::get("/").header("id", id).http1(self.web).await
    }
}

const PAIR: [(&str, &str); 2] = [
    ("id_1", include_str!("../../functions/id_1.wat")),
    ("id_2", include_str!("../../functions/id_2.wat")),
];

#[tokio::test]
async fn one_function_asks_another_which_reads_the_store() {
    let demo =
        Demo::new(&json!({"function1": plugin("id_1", json!({})), "function2": plugin("id_2", json!({}))}));
    let _running = demo.run(&PAIR);
    save(demo.grpc, "book1", "100").await;
    let ask = Ask::get("/?name=book1").header("ID", "id_1");
    for reply in [ask.http1(demo.web).await, ask.http2(demo.web).await] {
        assert_eq!(reply.status, 200);
        assert_eq!(reply.text(), "There are 100 inventories for book1.");
    }
    let posted = Ask::new("POST", "/").header("id", "id_2").body("book1");
    assert_eq!(
        posted.http1(demo.web).await.text(),
        "There are 100 inventories for book1."
    );
}

// deviation: D140
#[tokio::test]
async fn a_request_without_an_id_or_with_an_unknown_one_is_refused() {
    let demo = Demo::new(&json!({"f": plugin("f", json!({}))}));
    let _running = demo.run(&[("f", &says("here"))]);
    let reply = Ask::get("/").http1(demo.web).await;
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("header id is missing"), "{}", reply.text());
    let reply = demo.ask("g").await;
    assert_eq!(reply.status, 404);
    assert!(
        reply.text().contains("no function has the id"),
        "{}",
        reply.text()
    );
    assert_eq!(demo.ask("f").await.text(), "here");
}

// deviation: D141
#[tokio::test]
async fn a_function_that_fails_is_told_from_one_that_takes_too_long_and_hurts_no_other() {
    let plugins = json!({
        "traps": plugin("traps", json!({})),
        "loops": plugin("loops", json!({"vm_config": {"path": "loops.wasm", "cpu": 100}})),
        "quiet": plugin("quiet", json!({"compat_errors": true})),
        "good": plugin("good", json!({})),
    });
    let demo = Demo::new(&plugins);
    let (traps, loops, good) = (does("unreachable"), does("(loop (br 0))"), says("here"));
    let modules = [
        ("traps", &traps),
        ("quiet", &traps),
        ("loops", &loops),
        ("good", &good),
    ];
    let running = demo.run(&modules.map(|(name, text)| (name, text.as_str())));
    assert_eq!(demo.ask("traps").await.status, 500);
    running.wait_for_log("unreachable").await;
    let quiet = demo.ask("quiet").await;
    assert_eq!((quiet.status.as_u16(), quiet.body.len()), (200, 0));
    let started = Instant::now();
    let looping = async {
        let reply = demo.ask("loops").await;
        (reply.status.as_u16(), started.elapsed())
    };
    let others = async {
        for _ in 0..100 {
            assert_eq!(demo.ask("good").await.text(), "here");
        }
    };
    let ((status, took), ()) = tokio::join!(looping, others);
    assert_eq!(status, 504);
    assert!(took >= Duration::from_millis(100), "{took:?}");
}

#[tokio::test]
async fn a_function_appears_changes_and_stays_when_its_file_breaks() {
    let demo = Demo::new(&json!({"f": plugin("f", json!({}))}));
    let running = demo.run(&[]);
    assert_eq!(demo.ask("f").await.status, 404);
    build(running.folder.path(), "f", &says("one"));
    let written = Instant::now();
    until("the function is there", async || {
        demo.ask("f").await.status == 200
    })
    .await;
    println!("from file to first answer: {:?}", written.elapsed());
    build(running.folder.path(), "f", &says("two"));
    until("the function changes", async || {
        demo.ask("f").await.text() == "two"
    })
    .await;
    std::fs::write(running.folder.path().join("f.wasm"), "broken").unwrap();
    running.wait_for_log("not a WebAssembly module").await;
    assert_eq!(demo.ask("f").await.text(), "two");
}

#[tokio::test]
async fn a_changed_configuration_adds_changes_and_removes_functions() {
    let demo = Demo::new(&json!({"a": plugin("a", json!({})), "b": plugin("b", json!({}))}));
    let running = demo.run(&[("a", &says("a")), ("b", &says("b")), ("c", &says("c"))]);
    let changed = json!({
        "a": plugin("a", json!({"vm_config": {"path": "c.wasm"}})),
        "c": plugin("c", json!({})),
    });
    let plan = demo
        .plan
        .clone()
        .filters(json!([{"type": "Layotto", "config": changed}]));
    running.apply(&plan).await;
    until("c is there", async || demo.ask("c").await.status == 200).await;
    assert_eq!(demo.ask("a").await.text(), "c", "of another file");
    assert_eq!(demo.ask("b").await.status, 404);
}

#[tokio::test]
async fn a_function_calls_the_runtime_as_far_as_it_may() {
    let request = SaveStateRequest {
        store_name: "state_demo".to_owned(),
        states: vec![StateItem {
            key: "k".to_owned(),
            value: "from a function".into(),
            ..StateItem::default()
        }],
    };
    let request = request.encode_to_vec();
    let bytes: String = request.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let name = "layotto.SaveState";
    let body = format!(
        "(i32.store8 (i32.const 90) (i32.add (i32.const 48)
            (i32.rem_u (call $foreign (i32.const 100) (i32.const {}) (i32.const {}) (i32.const {}) (i32.const 16) (i32.const 20))
                (i32.const 10))))
         (drop (call $set (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 90) (i32.const 1)))",
        name.len(),
        100 + name.len(),
        request.len(),
    );
    let saves = does(&body).replace("…", &format!("{name}{bytes}"));
    let plugins = json!({
        "may": plugin("may", json!({"allow_methods": ["SaveState"]})),
        "may not": plugin("may_not", json!({})),
        "elsewhere": plugin("elsewhere", json!({"allow_methods": ["*"], "allow_stores": ["other"]})),
    });
    let demo = Demo::new(&plugins);
    let running = demo.run(&[("may", &saves), ("may_not", &saves), ("elsewhere", &saves)]);
    let read = async || {
        let request = GetStateRequest {
            store_name: "state_demo".to_owned(),
            key: "k".to_owned(),
            ..GetStateRequest::default()
        };
        client(demo.grpc)
            .await
            .get_state(request)
            .await
            .unwrap()
            .into_inner()
            .data
    };
    for id in ["may_not", "elsewhere"] {
        assert_eq!(
            demo.ask(id).await.text(),
            "0",
            "10, of which the last digit is shown: {id}"
        );
        assert!(read().await.is_empty(), "{id}");
    }
    running.wait_for_log("do not allow").await;
    assert_eq!(demo.ask("may").await.text(), "0");
    assert_eq!(read().await, "from a function");
}
