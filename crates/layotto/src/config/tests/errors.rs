//! Every kind of finding, word for word.

use std::time::{Duration, Instant};

use super::*;

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let report = report_of(text, Format::Json);
    assert_eq!(report.lines().collect::<Vec<_>>(), expected, "{text}");
}

#[track_caller]
fn check_runtime(grpc_config: &str, expected: &[&str]) {
    check(&around(grpc_config), expected);
}

/// A server with these listeners, which begin on line 2.
fn listeners(listeners: &str) -> String {
    format!("{{\"servers\": [{{\"listeners\": [\n{listeners}]}}]}}")
}

const CHAIN: &str = r#""filter_chains": [{"filters": [{"type": "grpc"}]}]"#;

#[test]
fn syntax() {
    for (text, expected) in [
        ("", "error: f:1: the file ends where a value is expected"),
        (
            "{\n \"a\": 1\n",
            "error: f:3: the file ends where \",\" or \"}\" is expected",
        ),
        (
            "{\n \"a\": 1\n \"b\": 2}",
            "error: f:3: found a text, expected \",\" or \"}\"",
        ),
        (
            "{\"a\": [1 2]}",
            "error: f:1: found \"2\", expected \",\" or \"]\"",
        ),
        (
            "{\n\na: 1}",
            "error: f:3: found \"a\", expected a key in double quotes",
        ),
        (
            "{\"a\": 1,\n\"a\": 2}",
            "error: f:2: key \"a\" is there twice, first on line 1",
        ),
        (
            "{}\n{}",
            "error: f:2: unexpected text after the end of the configuration",
        ),
        ("{\"a\":\n \"b}", "error: f:2: unterminated string literal"),
    ] {
        assert_eq!(report_of(text, Format::Json).trim_end(), expected, "{text}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(
        report_of(&deep, Format::Json).trim_end(),
        "error: f:1: lists and objects nest deeper than 64 levels"
    );
    let wide = format!("[{}]", "1,".repeat(300_000));
    assert_eq!(
        report_of(&wide, Format::Json).trim_end(),
        "error: f:1: the file holds more than 200000 values"
    );
    assert_eq!(
        parse(b"{\n\xff", Format::Json, &registry()).to_string(),
        "error: input:2: is not UTF-8\n"
    );
}

#[test]
fn syntax_of_yaml() {
    for (text, expected) in [
        (
            "a: 1\nb: 2\na: 3\n",
            "error: f:3: key \"a\" is there twice, first on line 1",
        ),
        (
            "a: 1\n---\nb: 2\n",
            "error: f:2: a second YAML document starts here; one is expected",
        ),
        (
            "? [x]\n: 1\n",
            "error: f:1: found a list as a key, expected a text",
        ),
        (
            "a: &x [*x]\n",
            "error: f:1: an alias of a value that is not complete",
        ),
        (
            "servers:\n  - <<: 5\n",
            "error: f:2: found a number under \"<<\", expected an object",
        ),
        ("a: 1\nqqq", "error: f:2: simple key expected"),
        ("!t", "error: f:1: found null, expected an object"),
    ] {
        assert_eq!(report_of(text, Format::Yaml).trim_end(), expected, "{text}");
    }
    for (deep, expected) in [
        (
            "- ".repeat(1000),
            "error: f:1: lists and objects nest deeper than 64 levels",
        ),
        ("[".repeat(100_000), "error: f:1: recursion limit exceeded"),
    ] {
        assert_eq!(report_of(&deep, Format::Yaml).trim_end(), expected);
    }
    let bomb = (0..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, i| {
        format!("{text}a{0}: &a{0} [*a{i}, *a{i}]\n", i + 1)
    });
    assert_eq!(
        report_of(&bomb, Format::Yaml).trim_end(),
        "error: f:16: the file holds more than 200000 values"
    );
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a,".repeat(100));
    assert_eq!(
        report_of(&long, Format::Yaml).trim_end(),
        "error: f:2: the aliases stand for more than 16 MiB of text"
    );
}

#[test]
fn many_merge_keys_are_read_in_time() {
    let keys: String = (0..20_000).map(|i| format!("  k{i}: 1\n")).collect();
    let text = format!("o: &o {{z: 1}}\nb:\n{keys}  <<: [{}]\n", "*o,".repeat(20_000));
    let start = Instant::now();
    report_of(&text, Format::Yaml);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn servers() {
    check(
        "{}",
        &["error: f:1: servers: is missing, expected a list with one server"],
    );
    check("[]", &["error: f:1: found a list, expected an object"]);
    check(
        "{\"servers\": []}",
        &["error: f:1: servers: the list is empty, expected a list with one server"],
    );
    check(
        "{\"servers\": 5}",
        &["error: f:1: servers: found a number, expected a list"],
    );
    check(
        "{\n\"servers\": [{}, {}]}",
        &["error: f:2: servers: multiple server not supported yet, got 2"],
    );
    check(
        "{\"servers\": [{\n\"default_log_level\": \"LOUD\",\n\"graceful_timeout\": \"5\",\n\"processor\": \"all\"}]}",
        &[
            "error: f:3: servers[0].graceful_timeout: found \"5\", expected a duration such as \"300ms\", \
             \"5s\" or \"1h30m\"",
            "error: f:4: servers[0].processor: found a text, expected a number of threads or \"auto\"",
            "advice: f:2: servers[0].default_log_level: found \"LOUD\", expected one of: trace, debug, info, \
             warn, error, fatal, off; INFO is used",
        ],
    );
}

#[test]
fn unknown_keys() {
    check(
        "{\"servers\": [{\n\"default_log_pth\": \"stdout\",\n\"x\": 1}]}",
        &[
            "unknown key: f:2: servers[0].default_log_pth: nothing reads this key; did you mean \
             \"default_log_path\"?",
            "unknown key: f:3: servers[0].x: nothing reads this key",
        ],
    );
    check(
        "{\"SERVERS\": [],\n\"servers\": []}",
        &[
            "error: f:1: SERVERS: the list is empty, expected a list with one server",
            "error: f:2: servers: the same key as on line 1: case does not count here",
        ],
    );
}

#[test]
fn addresses() {
    let path = "servers[0].listeners[0]";
    for (keys, expected) in [
        (
            "",
            format!("error: f:2: {path}.address: is missing, expected a text \"host:port\""),
        ),
        (
            "\"address\": 34904,",
            format!("error: f:2: {path}.address: found a number, expected a text \"host:port\""),
        ),
        (
            "\"address\": \"localhost\",",
            format!("error: f:2: {path}.address: found \"localhost\", expected a text \"host:port\""),
        ),
        (
            "\"address\": \"::1:80\",",
            format!("error: f:2: {path}.address: found \"::1:80\", expected a text \"host:port\""),
        ),
        (
            "\"address\": \"a:70000\",",
            format!("error: f:2: {path}.address: found \"a:70000\", expected a text \"host:port\""),
        ),
        (
            "\"network\": \"unix\",",
            format!("error: f:2: {path}.address: is missing, expected the path of a socket"),
        ),
        (
            "\"address\": \"a:1\", \"network\": \"ip\",",
            format!("error: f:2: {path}.network: found \"ip\", expected \"tcp\", \"unix\" or \"udp\""),
        ),
        (
            "\"address\": \"a:1\", \"network\": \"udp\",",
            format!(
                "not supported yet: f:2: {path}.network: network udp is not supported yet: nothing listens here"
            ),
        ),
    ] {
        check(
            &listeners(&format!("{{\"bind_port\": \"true\", {keys} {CHAIN}}}")),
            &[&expected],
        );
    }
}

#[test]
fn listeners_must_differ() {
    let one = format!("{{\"name\": \"a\", \"address\": \"127.0.0.1:1\", \"bind_port\": true, {CHAIN}}}");
    check(
        &listeners(&format!("{one},\n{one}")),
        &[
            "error: f:3: servers[0].listeners[1]: has the same name as servers[0].listeners[0]: \"a\"",
            "error: f:3: servers[0].listeners[1]: has the same address as servers[0].listeners[0]: 127.0.0.1:1",
        ],
    );
    check(
        &listeners(&format!("{{\"address\": \"127.0.0.1:1\", {CHAIN}}}")),
        &["advice: f:2: servers[0].listeners[0]: bind_port is not true: nothing listens on this address"],
    );
}

#[test]
fn filters() {
    let listener = |rest: &str| {
        listeners(&format!(
            "{{\"address\": \"127.0.0.1:1\", \"bind_port\": true, {rest}}}"
        ))
    };
    let path = "servers[0].listeners[0]";
    check(
        &listener("\"name\": \"a\""),
        &[&format!(
            "error: f:2: {path}.filter_chains: is missing, expected a list with one filter chain"
        )],
    );
    check(
        &listener("\"filter_chains\": [{\"filters\": [{\"type\": \"gprc\"}]}]"),
        &[&format!(
            "error: f:2: {path}.filter_chains[0].filters[0].type: found \"gprc\", expected \"grpc\", \"proxy\", \
             \"tcp_proxy\", \"tcpcopy\", \"udp_proxy\", \"fault_inject\", \"tunnel\" or \"connection_manager\""
        )],
    );
    check(
        &listener(
            "\"filter_chains\": [{\"filters\": [{\"type\": \"proxy\", \"config\": {\"downstream_protocol\": \"X\"}}]}]",
        ),
        &[&format!(
            "error: f:2: {path}.filter_chains[0].filters[0].config.downstream_protocol: the protocol X is not \
             supported yet"
        )],
    );
    check(
        &listener(&format!(
            "{CHAIN}, \"stream_filters\": [{{\"type\": \"rbac\"}}, {{\"type\": \"gzip\"}}, {{\"type\": 1}}]"
        )),
        &[
            &format!(
                "error: f:2: {path}.stream_filters[0].type: stream filter rbac is not supported yet; without it \
                 the listener would let everybody in"
            ),
            &format!("error: f:2: {path}.stream_filters[2].type: found a number, expected a text"),
            &format!(
                "not supported yet: f:2: {path}.stream_filters[1].type: stream filter gzip is not supported yet \
                 and has no effect"
            ),
        ],
    );
    check(
        &listener(
            "\"filter_chains\": [{\"tls_context\": {\"status\": true}, \"filters\": [{\"type\": \"grpc\"}]}]",
        ),
        &[&format!(
            "error: f:2: {path}.filter_chains[0].tls_context.cert_chain: a listener needs a certificate: PEM text or \
             a file"
        )],
    );
}

#[test]
fn flow_control_knows_the_keys_of_old_files() {
    let filter = r#"[{"type": "flowControlFilter", "config": {"global_switch": true,
        "rules": [{"resource": "r", "grade": 1, "limitApp": "", "strategy": 0, "threshold": 1, "treshold": 2}]}}]"#;
    check(
        &listeners(&format!(
            "{{\"address\": \"127.0.0.1:1\", \"bind_port\": true, {CHAIN}, \"stream_filters\":\n{filter}}}"
        )),
        &[
            "unknown key: f:4: servers[0].listeners[0].stream_filters[0].config.rules[0].treshold: nothing reads \
             this key; did you mean \"threshold\"?",
        ],
    );
}

#[test]
fn metrics_tracing_and_administration() {
    let with = |rest: &str| format!("{{\"servers\": [{{}}],\n{rest}}}");
    check(
        &with(
            "\"metrics\": {\"sinks\": [{\"type\": \"statsd\"}, {\"type\": \"prometheus\", \"config\": {}}]}",
        ),
        &[
            "error: f:2: metrics.sinks[0].type: found \"statsd\", expected \"prometheus\"",
            "error: f:2: metrics.sinks[1].config.port: is missing, expected a port, 0 to 65535",
        ],
    );
    check(
        &with("\"tracing\": {\"enable\": true, \"driver\": \"jaeger\"}"),
        &[
            "not supported yet: f:2: tracing.driver: tracing driver jaeger is not supported yet: tracing is off",
        ],
    );
    check(
        &with("\"tracing\": {\"enable\": true, \"driver\": \"sofatracer\"}"),
        &[
            "error: f:2: tracing.driver: found \"sofatracer\", expected \"SOFATracer\", \"Zipkin\", \"jaeger\", \
             \"SkyWalking\", \"otel\" or \"PluginDriver\"",
        ],
    );
    check(
        &with(
            "\"tracing\": {\"enable\": true, \"driver\": \"Zipkin\", \"config\": {\"service_name\": \"s\", \
             \"reporter_endpoint\": \"127.0.0.1:9411\"}}",
        ),
        &[
            "error: f:2: tracing.config.reporter_endpoint: found \"127.0.0.1:9411\", expected a URL such as \
             \"http://127.0.0.1:9411/api/v2/spans\"",
        ],
    );
    check(
        &with(
            "\"admin\": {\"address\": {\"socket_address\": {\"address\": \"0.0.0.0\", \"port_value\": 1}}}",
        ),
        &[],
    );
    check(
        &with(
            "\"pprof\": {\"debug\": true, \"port_value\": 70000},\n\"dynamic_resources\": {\"x\": 1}, \"node\": {}",
        ),
        &[
            "error: f:2: pprof.port_value: found 70000, expected a port, 0 to 65535",
            "not supported yet: f:3: dynamic_resources: dynamic_resources is not supported yet and has no effect",
        ],
    );
}

#[test]
fn component_types() {
    check_runtime(
        "{\"bindings\": {\n\"b\": {\"type\": \"https\"}}, \"oss\": {\"o\": {\"type\": \"nope\"}}}",
        &[
            "error: f:3: GRPC.bindings.b.type: service component https is not regsitered; known types: http",
            "error: f:3: GRPC.oss.o.type: service component nope is not registered; known types, none supported yet: \
             local, aws.oss, aliyun.oss, ceph, huaweicloud.oss",
        ],
    );
    check_runtime(
        "{\"phone\": {\"p\": {\"type\": \"nope\"}}, \"rpcs\": {\"other\": {\"config\": {}}}}",
        &[
            "error: f:2: GRPC.rpcs.other: service component other is not registered; known types: mosn",
            "error: f:2: GRPC.phone.p.type: service component nope is not registered; this section has no types yet",
        ],
    );
    check_runtime(
        "{\"state\": {\"s\": {}, \"t\":\n{\"type\": \"mongodb\"}}}",
        &[
            "error: f:2: GRPC.state.s.type: is missing, expected a component type",
            "not supported yet: f:3: GRPC.state.t.type: type mongodb is not supported yet: the component will be DOWN",
        ],
    );
    check_runtime(
        "{\"custom_component\": {\"mine\": {\"a\": {}}, \"helloworld\": {\"b\": {\"type\": \"x\"}}}}",
        &[
            "error: f:2: GRPC.custom_component.helloworld.b.type: custom component x is not regsitered; known types: \
             goodbye, in-memory",
            "not supported yet: f:2: GRPC.custom_component.mine: no custom kind \"mine\" is compiled in: its \
             components are left out",
        ],
    );
}

#[test]
fn settings_of_components() {
    check_runtime(
        "{\"bindings\": {\"b\": {\"type\": \"http\", \"metadata\": {\"url\": \"http://h\",\n\"timeout\": \"soon\",\n\
         \"alow\": \"h\"}}}}",
        &[
            "error: f:3: GRPC.bindings.b.metadata.timeout: \"soon\" is not a duration such as \"300ms\", \"5s\" or \
             \"1h30m\"",
        ],
    );
    check_runtime(
        "{\"bindings\": {\"b\": {\"type\": \"http\", \"metadata\": {\"url\": \"http://h\",\n\"alow\": \"h\"}}}}",
        &["unknown key: f:3: GRPC.bindings.b.metadata.alow: nothing reads this key; did you mean \"allow\"?"],
    );
    check_runtime(
        "{\"rpcs\": {\"mosn\": {\"config\": {\"channel\": [{\"protocol\": \"http\",\n\"listner\": \"h:1\"}]}}}}",
        &["unknown key: f:3: GRPC.rpcs.mosn.config.channel[0].listner: nothing reads this key"],
    );
    check_runtime(
        "{\"lock\": {\"l\": {\"type\": \"mongo\", \"metadata\": {\n\"keyPrefix\": \"a||b\"}}}}",
        &[
            "error: f:3: GRPC.lock.l.metadata.keyPrefix: must not contain \"||\"",
            "not supported yet: f:2: GRPC.lock.l.type: type mongo is not supported yet: the component will be DOWN",
        ],
    );
}

#[test]
fn references() {
    check_runtime(
        "{\"hellos\": {\"h\": {\"type\": \"helloworld\", \"hello\": \"x\",\n\
         \"secret_ref\": [{\"store_name\": \"vault\", \"key\": \"k\"}, {\"key\": \"k\"}],\n\
         \"component_ref\": {\"config_store\": \"c\"}, \"required\": \"maybe\"}},\n\
         \"secret_store\": {\"env\": {\"type\": \"local.env\"}}}",
        &[
            "error: f:2: GRPC.hellos.h.secret_ref: no secret store is called \"vault\"; expected \"env\"",
            "error: f:2: GRPC.hellos.h.component_ref.config_store: no configuration store is called \"c\"; there are \
             none",
            "error: f:3: GRPC.hellos.h.secret_ref[1].store_name: is missing, expected the name of a secret store",
            "error: f:4: GRPC.hellos.h.required: found \"maybe\", expected \"start\", \"always\" or \"no\"",
        ],
    );
    check_runtime(
        "{\"connections\": {\"a\": {\"type\": \"http\"}},\n\
         \"bindings\": {\"b\": {\"type\": \"http\", \"metadata\": {\"url\": \"http://h\", \"useConnection\": \"b\"}}}}",
        &[
            "error: f:3: GRPC.bindings.b.metadata.useConnection: no connection is called \"b\"; expected \"a\"",
        ],
    );
}

#[test]
fn applications() {
    check_runtime(
        "{\"app\": {\"app_id\": 5, \"grpc_callback_port\": \"x\",\n\"health_probe\": {\"threshold\": 0}}}",
        &[
            "error: f:2: GRPC.app.app_id: found a number, expected a text",
            "error: f:2: GRPC.app.grpc_callback_port: found a text, expected a port, 0 to 65535",
            "error: f:3: GRPC.app.health_probe.type: is missing, expected \"grpc\", \"http\" or \"tcp\"",
            "error: f:3: GRPC.app.health_probe.threshold: found 0, expected a whole number, 1 or more",
        ],
    );
}

#[test]
fn variables() {
    const SYNTAX: &str =
        "\"${\" begins a variable: write ${NAME}, ${NAME:-default}, or $${ for the text itself";
    for (text, expected) in [
        ("${NAME}", Ok("value")),
        ("a${NAME}b${NONE:-c}d", Ok("avaluebcd")),
        ("${NONE:-}", Ok("")),
        ("${EMPTY:-default}", Ok("default")),
        ("${EMPTY}", Ok("")),
        ("$${NAME} $5 $", Ok("${NAME} $5 $")),
        (
            "${NONE}",
            Err("environment variable NONE is not set; ${NONE:-default} gives a default"),
        ),
        ("${NAME", Err(SYNTAX)),
        ("${a.b}", Err(SYNTAX)),
        ("${}", Err(SYNTAX)),
        ("${1A}", Err(SYNTAX)),
    ] {
        let file = format!("{{\"servers\": [{{\n\"mosn_server_name\": \"{text}\"}}]}}");
        let (config, report) = read_text(&file, Format::Json);
        match expected {
            Ok(expected) => {
                assert!(report.is_clean(), "{report}");
                assert_eq!(config.server.name.unwrap_or_default(), expected, "{text}");
            }
            Err(expected) => assert_eq!(
                report.to_string(),
                format!("error: f:2: servers[0].mosn_server_name: {expected}\n")
            ),
        }
    }
}

#[test]
fn all_errors_are_in_one_report_and_no_secret_is() {
    let text = around(
        "{\"state\": {\"s\": {\"type\": \"hunter2-not-a-type\", \"metadata\": 5}},\n\
         \"bindings\": {\"b\": {\"type\": \"http\", \"metadata\": {\"url\": \"http://h\", \"maxResponseBytes\": \
         \"hunter3\"}}}}",
    );
    let report = report_of(&text, Format::Json);
    assert_eq!(report.lines().count(), 3, "{report}");
    assert!(!report.contains("hunter3"), "{report}");
}

#[test]
fn yaml_findings_have_lines_too() {
    let text = "\
# comment
servers:
  - default_log_level: INFO
    listeners:
      - name: grpc
        address: 34904
        bind_port: 'true'
        filter_chains:
          - filters:
              - type: grpc
                config:
                  grpc_config:
                    hellos:
                      h: {type: helloworld,
                          helo: x}
                    state:
                      s:
                        type: nope
";
    let report = report_of(text, Format::Yaml);
    let mut lines = report.lines();
    assert_eq!(
        lines.next(),
        Some("error: f:6: servers[0].listeners[0].address: found a number, expected a text \"host:port\"")
    );
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("error: f:18: GRPC.state.s.type: service component nope")
    );
    assert_eq!(
        lines.next(),
        Some("unknown key: f:15: GRPC.hellos.h.helo: nothing reads this key; did you mean \"hello\"?")
    );
}

#[test]
fn a_channel_that_is_not_built_yet_is_reported() {
    check_runtime(
        r#"{"rpcs": {"mosn": {"config": {"channel": [{"protocol": "bolt", "listener": "h:1"}]}}}}"#,
        &[
            "not supported yet: f:2: GRPC.rpcs.mosn.config.channel[0].protocol: channel bolt is not supported yet: \
             the component will be DOWN",
        ],
    );
}

#[test]
fn a_channel_names_a_listener_that_is_there() {
    let rpc = r#""rpcs": {"mosn": {"config": {"channel": [{"protocol": "http", "listener": "egress"}]}}}"#;
    let grpc = format!(
        "{{\"name\": \"g\", \"address\": \"127.0.0.1:1\", \"bind_port\": true, \"filter_chains\": \
         [{{\"filters\": [{{\"type\": \"grpc\", \"config\": {{\"grpc_config\": {{{rpc}}}}}}}]}}]}}"
    );
    let path = "GRPC.rpcs.mosn";
    check(
        &listeners(&grpc),
        &[&format!(
            "error: f:2: {path}.config.channel[0].listener: no listener is called \"egress\"; expected host:port, \"g\""
        )],
    );
    let egress = r#"{"name": "egress", "address": "127.0.0.1:2", "filter_chains": [{"filters": [{"type": "proxy"}]}]}"#;
    check(&listeners(&format!("{grpc},\n{egress}")), &[]);
}

#[test]
fn what_leads_nowhere_is_advice_where_it_stands() {
    let text = r#"{"servers": [{
        "routers": [{"router_config_name": "r", "virtual_hosts": [{"domains": ["*"], "routers": [
            {"match": {"prefix": "/a"}, "route": {"cluster_name": "there"}},
            {"match": {"prefix": "/b"}, "route": {"cluster_name": "gone"}},
            {"match": {"prefix": "/c"}, "route": {"weighted_clusters": [
                {"cluster": {"name": "there", "weight": 1}},
                {"cluster": {"name": "away", "weight": 1}},
                {"cluster": {"name": "never", "weight": 0}}]}},
            {"match": {"prefix": "/d"}, "route": {"cluster_variable": "x"}}]}]}],
        "listeners": [
            {"name": "a", "address": ":0", "filter_chains": [{"filters": [
                {"type": "proxy", "config": {"router_config_name": "none"}}]}]},
            {"name": "b", "address": ":0", "stream_filters": [{"type": "actuator_filter"}], "filter_chains": [
                {"filters": [{"type": "proxy", "config": {"router_config_name": "none"}}]}]},
            {"name": "c", "address": ":0", "bind_port": true, "filter_chains": [{"filters": [
                {"type": "tcp_proxy", "config": {"cluster": "lost"}}]}]}]}],
        "cluster_manager": {"clusters": [
            {"name": "there", "hosts": []},
            {"name": "odd", "type": "EDS",
             "lb_type": "LB_BEST", "hosts": [{"address": "127.0.0.1:1"}]}]}}"#;
    let routes = "servers[0].routers[0].virtual_hosts[0].routers";
    let error = "its requests are answered with an error";
    check(
        text,
        &[
            &format!("advice: f:4: {routes}[1].route.cluster_name: no cluster is called \"gone\": {error}"),
            &format!(
                "advice: f:7: {routes}[2].route.weighted_clusters[1].cluster.name: no cluster is called \
                 \"away\": {error}"
            ),
            "advice: f:11: servers[0].listeners[0]: no router is called \"none\": every request is answered \
             with 404",
            "advice: f:15: servers[0].listeners[2]: no cluster is called \"lost\": its connections are closed",
            &format!("advice: f:18: cluster_manager.clusters[0]: cluster \"there\" has no hosts: {error}"),
            "advice: f:19: cluster_manager.clusters[1].type: found \"EDS\", which is taken for \"SIMPLE\"; \
             known are \"SIMPLE\" or \"STRICT_DNS\"",
            "advice: f:20: cluster_manager.clusters[1].lb_type: found \"LB_BEST\", which is taken for \
             \"LB_ROUNDROBIN\"; known are \"LB_RANDOM\", \"LB_ROUNDROBIN\", \"LB_WEIGHTED_ROUNDROBIN\", \
             \"LB_LEAST_REQUEST\", \"LB_LEAST_CONNECTION\", \"LB_MAGLEV\", \"LB_RING_HASH\", \
             \"LB_REQUEST_ROUNDROBIN\" or \"LB_PEAK_EWMA\"",
        ],
    );
}

#[test]
fn a_setting_of_the_traffic_dump_is_named_where_it_stands() {
    let text = listeners(
        r#"{"address": ":0", "bind_port": true, "filter_chains": [{"filters": [{"type": "tcpcopy",
            "config": {"strategy": {
                "interval": 3}}}, {"type": "grpc"}]}]}"#,
    );
    check(
        &text,
        &[
            "error: f:4: servers[0].listeners[0].filter_chains[0].filters[0].config.strategy.interval: is 3; \
             accepted: 30 to 3600 (seconds)",
        ],
    );
}
