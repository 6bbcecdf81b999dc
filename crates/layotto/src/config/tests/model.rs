//! What a good file says.

use std::time::Duration;

use layotto_core::health::Required;

use super::*;

#[test]
fn keys_match_whatever_their_case_and_texts_are_read_as_numbers() {
    let text = r#"{"Servers": [{"MOSN_server_name": "s", "processor": "2", "graceful_timeout": "1m",
        "default_log_level": "WARNING",
        "listeners": [
            {"Name": "u", "NETWORK": "unix", "address": "/tmp/s", "bind_port": "true",
             "filter_chains": [{"filters": [{"type": "grpc", "config": {
                "graceful_stop_timeout": "1.5s", "max_message_bytes": "1048576",
                "grpc_config": {"APP": {"app_id": "a", "grpc_callback_port": "9999"},
                "HELLOS": {"helloWorld": {"TYPE": "helloworld", "Hello": "hi"}}}}}]}]},
            {"address": ":0", "bind_port": true, "filter_chains": [{"filters": [{"type": "grpc"}]}]}
        ]}],
        "tracing": {"enable": "true", "driver": "SOFATracer", "config": {"exporter": ["stdout"]}},
        "metrics": {"sinks": [{"type": "prometheus", "config": {"port": "1", "address": "0.0.0.0", "endpoint": "/m"}}]},
        "pid": "/run/x.pid"}"#;
    let (config, report) = read_text(text, Format::Json);
    assert_eq!(report.to_string(), "");
    let server = &config.server;
    assert_eq!((server.name.as_deref(), server.processor), (Some("s"), Some(2)));
    assert_eq!(server.log_level, Some(tracing::level_filters::LevelFilter::WARN));
    assert_eq!(server.graceful_timeout, Some(Duration::from_secs(60)));
    assert_eq!(config.pid, Some("/run/x.pid".into()));
    assert_eq!(config.tracing.unwrap().config["exporter"][0], "stdout");
    assert_eq!(
        config.metrics,
        [PrometheusSink {
            address: "0.0.0.0".to_owned(),
            port: 1,
            endpoint: "/m".to_owned(),
            disable_collect_process: false,
        }]
    );
    let [unix, tcp] = server.listeners.as_slice() else {
        panic!("two listeners")
    };
    assert_eq!(
        (unix.name.as_str(), &unix.address),
        ("u", &Address::Unix("/tmp/s".into()))
    );
    assert_eq!(tcp.name, ":0", "the address is the default name");
    let Terminal::Grpc(grpc) = &unix.terminal else {
        panic!("{:?}", unix.terminal)
    };
    assert_eq!(grpc.server_name, "runtime");
    assert_eq!(grpc.graceful_stop_timeout, Some(Duration::from_millis(1500)));
    assert_eq!(grpc.max_message_bytes, Some(1 << 20));
    assert_eq!(
        (grpc.runtime.app.app_id.as_str(), grpc.runtime.app.callback_port),
        ("a", 9999)
    );
    let hello = &grpc.runtime.hellos["helloWorld"];
    assert_eq!(hello.settings.text("hello"), Some("hi"));
}

#[test]
fn elements_become_settings() {
    let runtime = runtime_of(
        r#"{
        "config_store": {"c": {"type": "etcd", "address": ["h:1"], "timeout": "10", "store_name": "x"}},
        "rpcs": {"mosn": {"config": {"channel": [{"protocol": "http", "listener": "h:1"}]}, "required": "no"}},
        "sequencer": {"q": {"type": "redis", "metadata": {"keyPrefix": "Name"}, "biggerThan": {"k": "100", "K": 5}}},
        "file": {"many": {"type": "minio", "metadata": [{"endpoint": "e"}]}, "none": {"type": "local", "metadata": []}},
        "oss": {"o": {"type": "ceph", "metadata": {"basic_config": {"region": "r"}}}},
        "secret_store": {"env": {"type": "local.env"}},
        "lock": {"l": {"type": "etcd", "required": "always", "component_ref": {"secret_store": "env"},
                 "secret_ref": [{"store_name": "env", "key": "K", "sub_key": "s"}]}}}"#,
    );
    let config_store = &runtime.config_store["c"];
    assert_eq!(config_store.settings.text("timeout"), Some("10"));
    assert_eq!(
        format!("{:?}", config_store.settings),
        r#"{"address", "timeout"}"#
    );
    let rpc = &runtime.rpcs["mosn"];
    assert_eq!((rpc.type_name.as_str(), rpc.required), ("mosn", Required::No));
    assert_eq!(format!("{:?}", rpc.settings), r#"{"channel"}"#);
    let sequencer = &runtime.sequencer["q"];
    assert_eq!(sequencer.settings.text("keyPrefix"), Some("Name"));
    assert_eq!((sequencer.bigger_than["k"], sequencer.bigger_than["K"]), (100, 5));
    assert_eq!(runtime.file["many"].settings.text("endpoint"), Some("e"));
    assert_eq!(format!("{:?}", runtime.oss["o"].settings), r#"{"basic_config"}"#);
    let lock = &runtime.lock["l"];
    assert_eq!(lock.required, Required::Always);
    assert_eq!(lock.component_ref.secret_store.as_deref(), Some("env"));
    assert_eq!(lock.secret_ref[0].target(), "s");
}

#[test]
fn a_connection_lies_under_its_components() {
    let runtime = runtime_of(
        r#"{
        "secret_store": {"env": {"type": "local.env"}},
        "connections": {"main": {"type": "redis", "metadata": {"redisHost": "h:1", "db": "1"},
            "secret_ref": [{"store_name": "env", "key": "P", "sub_key": "P", "inject_as": "redisPassword"}]}},
        "state": {"own": {"type": "etcd", "metadata": {"useConnection": "main"}}},
        "lock": {"l": {"metadata": {"useConnection": "main", "db": "2", "redisHost": ""}}}}"#,
    );
    let lock = &runtime.lock["l"];
    assert_eq!(
        (lock.type_name.as_str(), lock.connection.as_deref()),
        ("redis", Some("main"))
    );
    assert_eq!(lock.settings.text("db"), Some("2"));
    assert_eq!(
        lock.settings.text("redisHost"),
        Some("h:1"),
        "a blank setting is no setting"
    );
    assert_eq!(lock.settings.text("useConnection"), None);
    assert_eq!(lock.secret_ref[0].target(), "redisPassword");
    let own = &runtime.state["own"];
    assert_eq!(
        (own.type_name.as_str(), own.connection.as_deref()),
        ("etcd", None)
    );
}

#[test]
fn what_a_component_says_itself_wins_over_its_connection() {
    let runtime = runtime_of(
        r#"{
        "secret_store": {"env": {"type": "local.env"}},
        "connections": {"main": {"type": "redis", "secret_ref": [
            {"store_name": "env", "key": "P", "sub_key": "P", "inject_as": "redisPassword"},
            {"store_name": "env", "key": "U", "sub_key": "U", "inject_as": "userName"}]}},
        "state": {"s": {"metadata": {"useConnection": "main", "redisPassword": "own"}}},
        "lock": {"l": {"metadata": {"useConnection": "main"}, "secret_ref": [
            {"store_name": "env", "key": "Q", "sub_key": "Q", "inject_as": "redisPassword"}]}}}"#,
    );
    let secrets = |component: &ComponentConfig| {
        let secrets = component.secret_ref.iter();
        secrets.map(|secret| secret.key.clone()).collect::<Vec<_>>()
    };
    assert_eq!(secrets(&runtime.state["s"]), ["U"]);
    assert_eq!(
        secrets(&runtime.lock["l"]),
        ["P", "U", "Q"],
        "the last one counts"
    );
}

#[test]
fn a_secret_may_fill_in_what_a_type_requires() {
    let runtime = runtime_of(
        r#"{
        "secret_store": {"env": {"type": "local.env"}},
        "bindings": {"b": {"type": "http", "metadata": {"maxResponseBytes": "x"},
            "secret_ref": [{"store_name": "env", "key": "U", "sub_key": "u", "inject_as": "url"},
                           {"store_name": "env", "key": "M", "sub_key": "maxResponseBytes"}]}}}"#,
    );
    assert_eq!(
        runtime.bindings["b"].settings.text("url"),
        None,
        "it is not filled in yet"
    );
}

#[test]
fn json_and_yaml_say_the_same() {
    let json = around(
        r#"{"hellos": {"h": {"type": "helloworld", "hello": "x"}},
        "file": {"f": {"type": "local"}}, "app": {"app_id": "a", "grpc_callback_port": 5}}"#,
    );
    let yaml = "
base: &base {name: grpc, bind_port: true}
servers:
- listeners:
  - <<: *base
    address: 127.0.0.1:0
    filter_chains: [{filters: [{type: grpc, config: {grpc_config: {
      hellos: {h: {type: !!str helloworld, hello: \"x\"}},
      file: {f: {type: local}},
      app: {app_id: a, grpc_callback_port: 0x5}}}}]}]
";
    let shown = |text: &str, format| {
        let (config, _) = read_text(text, format);
        let mut listener = config.server.listeners.into_iter().next().unwrap();
        listener.place = Place::default();
        let Terminal::Grpc(grpc) = listener.terminal else {
            panic!("no grpc")
        };
        let components: Vec<_> = grpc
            .runtime
            .components()
            .map(|c| format!("{} {} {} {:?}", c.kind, c.name, c.type_name, c.settings))
            .collect();
        format!(
            "{} {} {:?} {components:?}",
            listener.name, listener.address, grpc.runtime.app
        )
    };
    assert_eq!(shown(&json, Format::Json), shown(yaml, Format::Yaml));
    assert_eq!(
        report_of(yaml, Format::Yaml),
        "unknown key: f:2: base: nothing reads this key\n"
    );
}

#[test]
fn yaml_numbers_that_look_like_texts_stay_texts() {
    use super::node::Value;
    let tree = yaml::parse("[007, 0x10, 1e3, .5, +4, -7, 1.2.3, true, 'true', ~, 'null', 1:2]").unwrap();
    let Value::List(items) = tree.value else {
        panic!("no list")
    };
    let json: Vec<_> = items.iter().map(|item| item.to_json()).collect();
    assert_eq!(
        serde_json::to_string(&json).unwrap(),
        r#"["007",16,1000.0,0.5,4,-7,"1.2.3",true,"true",null,"null","1:2"]"#
    );
}

#[test]
fn large_numbers_keep_their_digits() {
    let runtime =
        runtime_of(r#"{"sequencer": {"q": {"type": "redis", "biggerThan": {"k": 9007199254740993}}}}"#);
    assert_eq!(runtime.sequencer["q"].bigger_than["k"], 9_007_199_254_740_993);
}
