use layotto_core::health::Status;
use layotto_wasm::Request;
use serde_json::json;

use super::*;

fn refusal(config: &Value) -> String {
    let error = check(LAYOTTO, config).unwrap_err();
    format!("{}: {}", error.path, error.message)
}

fn only(config: &Value) -> Plugin {
    config::read(config).unwrap().into_values().next().unwrap()
}

#[test]
fn the_configuration_of_upstream_is_read() {
    let plugin = only(&json!({"function1": {
        "name": "id_1", "instance_num": "2", "root_context_id": 7, "greeting": "hello", "number": 5,
        "vm_config": {"engine": "wasmer", "path": "f.wasm", "md5": "00", "cpu": 50, "mem": 2},
    }}));
    let config = plugin.config(Path::new("/nowhere"));
    assert_eq!(config.name.as_deref(), Some("id_1"));
    assert_eq!((config.serving.places, config.root_context), (2, 7));
    assert_eq!(
        (config.limits.memory, config.limits.time),
        (2 << 20, Duration::from_millis(50))
    );
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        config.user_data,
        [pair("name", "id_1"), pair("greeting", "hello")]
    );
    assert_eq!(config.vm[..2], [pair("Engine", "wasmer"), pair("Path", "f.wasm")]);
}

#[test]
fn what_is_left_out_has_its_default() {
    let config =
        only(&json!({"f": {"vm_config": {"path": "f.wasm"}, "instance_num": -1}})).config(Path::new(""));
    assert_eq!(
        (config.serving.places, config.serving.wait),
        (64, Duration::from_millis(100))
    );
    assert_eq!(
        (config.limits.memory, config.limits.time),
        (64 << 20, Duration::from_secs(1))
    );
    assert_eq!(config.allowed.methods, ["GetState", "InvokeService"]);
    assert!(!config.serving.reuse && !config.serving.forgive);
}

#[test]
fn a_configuration_that_is_wrong_says_where() {
    assert!(refusal(&json!([])).contains("expected an object"));
    assert!(refusal(&json!({"f": 1})).starts_with("f: found 1"));
    assert!(refusal(&json!({"f": {}})).starts_with("f.vm_config.path: is missing"));
    let url = json!({"f": {"vm_config": {"url": "http://x/f.wasm"}}});
    assert!(refusal(&url).starts_with("f.vm_config.url: needs a checksum"));
}

#[test]
fn a_filter_has_no_empty_replies_in_the_place_of_errors() {
    let of = |compat: bool| json!({"vm_config": {"path": "f.wasm"}, "compat_errors": compat});
    let error = check(PROXYWASM, &of(true)).unwrap_err();
    assert_eq!(error.path, "compat_errors");
    check(PROXYWASM, &of(false)).unwrap();
    check(LAYOTTO, &json!({"f": of(true)})).unwrap();
    let has = |name: &str| schema(name).unwrap()["properties"].get("compat_errors").is_some();
    assert_eq!((has(LAYOTTO), has(PROXYWASM)), (true, false));
    assert_eq!(schema("other"), None);
}

#[test]
fn as_many_requests_at_a_time_by_default_wherever_it_is_said() {
    let globals: Vec<Global> =
        serde_json::from_value(json!([{"plugin_name": "a", "vm_config": {"path": "a.wasm"}}])).unwrap();
    let own = json!({"vm_config": {"path": "f.wasm"}, "instance_num": 0});
    let named = json!({"from_wasm_plugin": "a"});
    for item in [own, named] {
        let (_, filter) = config::read_filter(&item).unwrap();
        for mut plugin in [only(&json!({"f": item})), filter] {
            plugin.resolve(&globals).unwrap();
            assert_eq!(plugin.config(Path::new("")).serving.places, 64, "{item}");
        }
    }
}

#[test]
fn a_module_may_be_named() {
    let globals: Vec<Global> = serde_json::from_value(json!([
        {"plugin_name": "a", "instance_num": 3, "vm_config": {"path": "a.wasm", "cpu": 50}},
    ]))
    .unwrap();
    let filter = json!({"f": {"from_wasm_plugin": "a", "name": "id", "greeting": "hello", "instance_num": 9,
        "vm_config": {"path": "other.wasm"}}});
    let mut plugin = only(&filter);
    plugin.resolve(&globals).unwrap();
    let config = plugin.config(Path::new("/nowhere"));
    assert_eq!(
        (config.serving.places, config.limits.time),
        (3, Duration::from_millis(50))
    );
    assert_eq!(config.vm[1].1, "a.wasm");
    assert_eq!(config.name.as_deref(), Some("id"));
    assert_eq!(config.user_data[1].1, "hello");
    assert_eq!(unresolved(LAYOTTO, &filter, &globals), []);
    let other = json!({"f": {"from_wasm_plugin": "b"}});
    let missing = |path: &str| [(path.to_owned(), "b".to_owned())];
    assert_eq!(
        unresolved(LAYOTTO, &other, &globals),
        missing("f.from_wasm_plugin")
    );
    assert_eq!(
        unresolved(PROXYWASM, &other["f"], &globals),
        missing("from_wasm_plugin")
    );
    assert_eq!(
        only(&other).resolve(&globals).unwrap_err().message,
        "plugin not found"
    );
}

#[tokio::test]
async fn an_installation_that_is_refused_leaves_a_plug_in_of_the_file_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let good = wat::parse_str(r#"(module (memory (export "memory") 1))"#).unwrap();
    std::fs::write(folder.path().join("f.wasm"), good).unwrap();
    let guests = Guests::new(
        None,
        None,
        folder.path(),
        folder.path().to_owned(),
        Directory::default(),
    );
    let configured = only(&json!({"p": {"name": "f", "vm_config": {"path": "f.wasm"}}}));
    let functions = &guests.0.functions;
    functions
        .set("p", configured.config(folder.path()))
        .await
        .unwrap();
    let item = json!({"name": "p", "vm_config": {"path": "f.wasm"}});
    let refused = guests.install("p", item.as_object().unwrap().clone()).await;
    assert_eq!(refused.unwrap_err().to_string(), "p is already registered");
    assert!(!guests.added().contains_key("p"));
    assert!(functions.has("f"));
}

/// A configuration with these plug-ins.
fn configured(folder: &Path, plugins: &Value) -> Config {
    let proxy =
        json!({"downstream_protocol": "Http1", "upstream_protocol": "Http1", "router_config_name": "r"});
    let text = json!({"servers": [{
        "listeners": [{
            "name": "web", "address": "127.0.0.1:1", "bind_port": true,
            "filter_chains": [{"filters": [{"type": "proxy", "config": proxy}]}],
            "stream_filters": [{"type": LAYOTTO, "config": plugins}],
        }],
        "routers": [{"router_config_name": "r", "virtual_hosts": []}],
    }]});
    let file = folder.join("config.json");
    std::fs::write(&file, text.to_string()).unwrap();
    match crate::config::load(&file, &layotto_core::Registry::default(), &|_| None) {
        Ok(loaded) => loaded.config,
        Err(report) => panic!("{report}"),
    }
}

#[tokio::test(start_paused = true)]
async fn functions_that_take_their_time_to_start_do_not_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let sleeps = r#"(module
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 116) "\01")
        (data (i32.const 124) "\00\65\cd\1d")
        (func (export "_initialize")
            (drop (call $poll (i32.const 100) (i32.const 200) (i32.const 1) (i32.const 300)))))"#;
    std::fs::write(folder.path().join("f.wasm"), wat::parse_str(sleeps).unwrap()).unwrap();
    let guests = Guests::new(
        None,
        None,
        folder.path(),
        folder.path().to_owned(),
        Directory::default(),
    );
    let names = ["a", "b", "c"];
    let plugin = |name: &str| json!({"name": name, "vm_config": {"path": "f.wasm"}});
    let plugins: Value = names
        .map(|name| (name.to_owned(), plugin(name)))
        .into_iter()
        .collect();
    let begun = tokio::time::Instant::now();
    guests.apply(&configured(folder.path(), &plugins)).await;
    assert!(names.iter().all(|name| guests.0.functions.has(name)));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(400), "each sleeps: {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn health_follows_changes() {
    let folder = tempfile::tempdir().unwrap();
    let guests = Guests::new(
        None,
        None,
        folder.path(),
        folder.path().to_owned(),
        Directory::default(),
    );
    let functions = guests.0.functions.clone();
    let health = Health::default();
    let mut report = std::pin::pin!(report(functions.clone(), health.clone()));
    let mut statuses = async || -> Vec<Status> {
        assert!(futures::poll!(report.as_mut()).is_pending());
        health.readings().iter().map(|reading| reading.status).collect()
    };
    assert_eq!(statuses().await, []);
    let plugin = only(&json!({"p": {"name": "f", "vm_config": {"path": "f.wasm"}}}));
    let config = || plugin.config(folder.path());
    functions.set("p", config()).await.unwrap_err();
    assert_eq!(statuses().await, [Status::Down]);
    let good = wat::parse_str(r#"(module (memory (export "memory") 1))"#).unwrap();
    std::fs::write(folder.path().join("f.wasm"), good).unwrap();
    functions.set("p", config()).await.unwrap();
    assert_eq!(statuses().await, [Status::Up]);
    functions.uninstall("p").unwrap();
    assert_eq!(statuses().await, []);
}

#[tokio::test]
async fn health_shows_functions_while_they_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let trap = r#"(module (memory (export "memory") 1)
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) unreachable))"#;
    std::fs::write(folder.path().join("f.wasm"), wat::parse_str(trap).unwrap()).unwrap();
    let guests = Guests::new(
        None,
        None,
        folder.path(),
        folder.path().to_owned(),
        Directory::default(),
    );
    let functions = &guests.0.functions;
    let (there, missing) = ("f.wasm", "missing.wasm");
    for path in [there, missing] {
        let plugin = only(&json!({"p": {"name": "f", "vm_config": {"path": path}}}));
        let set = functions.set(path, plugin.config(folder.path())).await;
        assert_eq!(set.is_ok(), path == there);
    }
    let health = Health::default();
    let shown = show(functions, &health, BTreeSet::new());
    let statuses = || -> Vec<Status> { health.readings().iter().map(|reading| reading.status).collect() };
    assert_eq!(statuses(), [Status::Up, Status::Down]);
    assert_eq!(health.overall(), Status::Up);
    for _ in 0..5 {
        functions
            .call("f", Request::default(), 0, None)
            .await
            .unwrap_err();
    }
    let shown = show(functions, &health, shown);
    assert_eq!(statuses(), [Status::Down, Status::Down]);
    assert!(health.readings()[0].reason.contains("unreachable"));
    functions.uninstall(there).unwrap();
    show(functions, &health, shown);
    assert_eq!(health.readings().len(), 1);
}
