//! Functions that are installed, changed and removed over HTTP.

use super::*;
use crate::mesh::{clients::Http1, operations::outside, plan::proxy};

/// The demo with a second listener, where functions are administered.
pub struct World {
    pub demo: Demo,
    admin: u16,
    pub running: Running,
}

impl World {
    /// With these modules in the folder of the configuration.
    fn run(plugins: &Value, modules: &[(&str, &str)]) -> Self {
        Self::of(Demo::new(plugins), modules)
    }

    /// The same of another demo.
    pub fn of(mut demo: Demo, modules: &[(&str, &str)]) -> Self {
        let admin = free_port();
        let mut listener = proxy("wasm_admin", admin, "no_router");
        listener["stream_filters"] = json!([{"type": "wasm_filter"}]);
        demo.plan = demo.plan.listener(listener);
        Self {
            running: demo.run(modules),
            demo,
            admin,
        }
    }

    async fn post(&self, endpoint: &str, body: &Value) -> Reply {
        let ask = Ask::new("POST", &format!("/wasm/{endpoint}"));
        ask.body(body.to_string()).http1(self.admin).await
    }

    /// Does something that is to work.
    pub async fn done(&self, endpoint: &str, body: &Value) {
        let reply = self.post(endpoint, body).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, String::new()));
        assert_eq!(reply.header("content-type"), "application/json");
    }

    /// Why something does not work.
    pub async fn refused(&self, endpoint: &str, body: &Value) -> String {
        let reply = self.post(endpoint, body).await;
        assert_eq!(reply.status, 500, "{}", reply.text());
        assert_eq!(reply.header("content-type"), "application/json");
        let error = reply.json();
        assert_eq!(error.as_object().unwrap().len(), 1);
        error["error"].as_str().unwrap().to_owned()
    }

    pub async fn status(&self) -> Value {
        let reply = Ask::get("/wasm/status").http1(self.admin).await;
        assert_eq!(reply.status, 200);
        reply.json()["functions"].clone()
    }
}

#[tokio::test]
async fn functions_come_and_go() {
    let world = World::run(
        &Value::Null,
        &[("f", &says("here")), ("traps", &does("unreachable"))],
    );
    assert_eq!(world.status().await, json!([]));
    world.done("install", &plugin("f", json!({}))).await;
    assert_eq!(world.demo.ask("f").await.text(), "here");
    let again = world.refused("install", &plugin("f", json!({}))).await;
    assert_eq!(again, "f is already registered");
    world
        .done("update", &json!({"name": "f", "instance_num": 3}))
        .await;
    world.done("install", &plugin("traps", json!({}))).await;
    assert_eq!(world.demo.ask("traps").await.status, 500);
    let status = world.status().await;
    let f = &status[0];
    for (key, value) in [
        ("plugin", json!("f")),
        ("id", json!("f")),
        ("installed_by", json!("api")),
        ("status", json!("UP")),
        ("problem", Value::Null),
        ("instance_num", json!(3)),
        ("running", json!(0)),
        ("calls", json!(1)),
        ("errors", json!(0)),
        ("last_trap", Value::Null),
        ("memory_bytes", json!(2 << 16)),
    ] {
        assert_eq!(f[key], value, "{key}");
    }
    assert_eq!(
        (&f["version"]["number"], &f["version"]["abi"]),
        (&json!(1), &json!("0.2.0"))
    );
    assert_eq!(f["version"]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(status[1]["errors"], 1);
    assert!(status[1]["last_trap"].as_str().unwrap().contains("unreachable"));
    world.done("uninstall", &json!({"name": "f"})).await;
    assert_eq!(world.demo.ask("f").await.status, 404);
    let gone = world.refused("uninstall", &json!({"name": "f"})).await;
    assert_eq!(gone, "f is not registered");
    world.done("install", &plugin("f", json!({}))).await;
    assert_eq!(world.demo.ask("f").await.text(), "here");
}

// deviation: D144
#[tokio::test]
async fn what_cannot_be_done_says_why_and_leaves_nothing() {
    let other = PAIR[0].1;
    let world = World::run(&Value::Null, &[("f", &says("here")), ("other", other)]);
    std::fs::write(world.running.folder.path().join("broken.wasm"), "text").unwrap();
    let (named, vm) = (
        |name: &str| json!({"name": name}),
        |path: &str| json!({"name": "f", "vm_config": {"path": path}}),
    );
    world
        .done(
            "install",
            &plugin("there", json!({"vm_config": {"path": "f.wasm"}})),
        )
        .await;
    for (endpoint, body, expected) in [
        ("install", json!({}), "can't get name property"),
        ("update", json!({}), "can't get name property"),
        ("uninstall", json!({}), "can't get name property"),
        (
            "install",
            json!({"name": 5}),
            "name: found 5, expected the id of a function",
        ),
        (
            "install",
            json!([]),
            "invalid request body: invalid type: sequence, expected a map",
        ),
        ("install", named("there"), "there is already registered"),
        ("install", named("f"), "vm_config.path: is missing"),
        ("install", json!({"name": "f", "vm_config": 1}), "vm_config: "),
        (
            "install",
            json!({"name": "f", "instance_num": [], "vm_config": {"path": "f.wasm"}}),
            "instance_num: ",
        ),
        (
            "install",
            vm("missing.wasm"),
            "missing.wasm cannot be read: No such file",
        ),
        ("install", vm("broken.wasm"), "not a WebAssembly module"),
        (
            "install",
            json!({"name": "f", "vm_config": {"path": "f.wasm", "md5": "00"}}),
            "incorrect hash of wasm bytes",
        ),
        (
            "install",
            vm("other.wasm"),
            "the function says that its id is \"id_1\", and not \"f\"",
        ),
        ("update", named("there"), "can't get instance_num property"),
        (
            "update",
            json!({"name": "there", "instance_num": "many"}),
            "instance_num: found \"many\", expected a whole number",
        ),
        (
            "update",
            json!({"name": "there", "instance_num": 0}),
            "instance_num should be greater than 0",
        ),
        (
            "update",
            json!({"name": "f", "instance_num": 1}),
            "f is not registered",
        ),
        ("uninstall", named("f"), "f is not registered"),
    ] {
        let error = world.refused(endpoint, &body).await;
        assert!(error.starts_with(expected), "{endpoint} {body}: {error}");
    }
    let empty = Ask::new("POST", "/wasm/install").http1(world.admin).await;
    assert_eq!(empty.json(), json!({"error": "invalid request body"}));
    let status = world.status().await;
    assert_eq!(
        (status.as_array().unwrap().len(), &status[0]["id"]),
        (1, &json!("there"))
    );
    assert_eq!(world.demo.ask("f").await.status, 404);
    world.done("install", &vm("f.wasm")).await;
    assert_eq!(world.demo.ask("f").await.text(), "here");
}

#[tokio::test]
async fn paths_that_are_none_are_not_found() {
    let world = World::run(&Value::Null, &[]);
    for path in ["/wasm", "/wasm/", "/wasm/other", "/wasm/other/install"] {
        let reply = Ask::new("POST", path).body("{}").http1(world.admin).await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (404, 0), "{path}");
    }
    // These are for the routes, of which there are none.
    for path in ["/other/install", "/wasmer", "/"] {
        let reply = Ask::new("POST", path).body("{}").http1(world.admin).await;
        assert_eq!(reply.status, 404, "{path}");
    }
    let body = json!({"name": "f"}).to_string();
    for (method, path) in [("GET", "/wasm/uninstall"), ("PUT", "/wasm/uninstall/more")] {
        let reply = Ask::new(method, path).body(&*body).http1(world.admin).await;
        assert_eq!(reply.json(), json!({"error": "f is not registered"}), "{path}");
    }
    let reply = Ask::new("POST", "/wasm/status").http1(world.admin).await;
    assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, "GET"));
}

#[tokio::test]
async fn a_reload_of_the_file_leaves_what_was_installed() {
    let file = json!({"a": plugin("a", json!({})), "b": plugin("b", json!({}))});
    let modules = ["a", "b", "c"].map(|name| (name, says(name)));
    let modules = modules.each_ref().map(|(name, text)| (*name, text.as_str()));
    let world = World::run(&file, &modules);
    world.done("install", &plugin("c", json!({}))).await;
    world
        .done("update", &json!({"name": "a", "instance_num": 7}))
        .await;
    world.done("uninstall", &json!({"name": "b"})).await;
    let apply = async |plugins: &Value| {
        let plan = world.demo.plan.clone();
        let plan = plan.filters(json!([{"type": "Layotto", "config": plugins}]));
        world.running.apply(&plan).await;
    };
    let there = async || {
        let status = world.status().await;
        let status = status.as_array().unwrap().iter();
        let facts = status.map(|one| json!([one["id"], one["installed_by"], one["instance_num"]]));
        facts.collect::<Value>()
    };
    let mut more = merged(file, &json!({"c": plugin("c", json!({"instance_num": 9}))}));
    apply(&more).await;
    assert_eq!(
        there().await,
        json!([["a", "file", 7], ["c", "api", 1]]),
        "the file did not change a and b"
    );
    world
        .running
        .wait_for_log("installed over the administration API; that counts")
        .await;
    more["a"]["instance_num"] = json!(2);
    more["b"]["instance_num"] = json!(2);
    apply(&more).await;
    assert_eq!(
        there().await,
        json!([["a", "file", 2], ["b", "file", 2], ["c", "api", 1]])
    );
    apply(&json!({})).await;
    assert_eq!(there().await, json!([["c", "api", 1]]));
    world.done("uninstall", &json!({"name": "c"})).await;
    apply(&more).await;
    assert_eq!(
        there().await,
        json!([["a", "file", 2], ["b", "file", 2], ["c", "file", 9]])
    );
}

#[tokio::test]
async fn functions_are_administered_from_this_machine_or_with_the_token() {
    let Some(address) = outside() else {
        crate::sidecar::say("skipped: this machine has no address but loopback");
        return;
    };
    let token = json!({"admin": {"token": "adm1n"}});
    for (more, right) in [(Value::Null, 403), (token, 200)] {
        let admin = free_port();
        let mut listener = proxy("wasm_admin", admin, "no_router");
        listener["address"] = json!(format!("0.0.0.0:{admin}"));
        listener["stream_filters"] = json!([{"type": "wasm_filter"}]);
        let running = Plan::default().listener(listener).root(more.clone()).run();
        let send = async |ask: Ask| {
            let stream = tokio::net::TcpStream::connect((address, admin)).await.unwrap();
            Http1::over(stream).await.send(&ask).await.unwrap().status
        };
        for path in ["/wasm/status", "/wasm/install", "/wasm/other"] {
            assert_eq!(send(Ask::get(path)).await, 403, "{path}");
        }
        let shown = Ask::get("/wasm/status").header("authorization", "Bearer adm1n");
        assert_eq!(send(shown).await, right);
        let here = Ask::get("/wasm/status");
        assert_eq!(here.http1(admin).await.status, 200);
        assert_eq!(here.host("rebound.test").http1(admin).await.status, 403);
        let warned = running.logged("others can reach the administration of functions");
        assert_eq!(warned, usize::from(more.is_null()));
    }
}
