use layotto_core::Registry;
use serde_json::{Value as Json, json};

use super::{tables::Row, *};
use crate::config::{Format, Report, parse};

/// A file in which every place of a table is there.
fn base() -> Json {
    json!({
        "servers": [{
            "routers": [{"router_config_name": "r", "virtual_hosts": [{"domains": ["*"], "routers": [{
                "match": {"prefix": "/"},
                "route": {"weighted_clusters": [{"cluster": {"name": "c", "weight": 1}}]}
            }]}]}],
            "listeners": [{
                "name": "l", "address": "127.0.0.1:0", "bind_port": true,
                "filter_chains": [{"tls_context": {}, "filters": [{"type": "grpc", "config": {}}]}],
                "stream_filters": [{"type": "payload_limit", "config": {}}],
                "access_logs": [{}]
            }]
        }],
        "cluster_manager": {
            "clusters": [{
                "name": "c", "hosts": [{"address": "127.0.0.1:1"}], "circuit_breakers": [{}], "tls_context": {}
            }],
            "tls_context": {}
        },
        "metrics": {"sinks": [{"type": "prometheus", "config": {"port": 0}}]},
        "tracing": {"enable": true, "driver": "SOFATracer", "config": {}},
        "admin": {"address": {"socket_address": {"port_value": 0}}},
        "pprof": {}
    })
}

/// `root` with `value` at `path`, in the first element of each list on the way.
fn with(mut root: Json, path: &str, value: Json) -> Json {
    let mut here = &mut root;
    for step in path.split('.') {
        let name = step.trim_end_matches("[]");
        here = &mut here[name];
        // A list that is set as a whole ends the path.
        if name != step && !path.ends_with(step) {
            here = &mut here[0];
        }
    }
    *here = value;
    root
}

fn report(config: &Json) -> Report {
    let mut registry = Registry::default();
    layotto_components::register(&mut registry);
    parse(config.to_string().as_bytes(), Format::Json, &registry)
}

fn full(at: &str, path: &str) -> String {
    let key = path.split(": ").next().unwrap_or_default();
    match at {
        "" => key.to_owned(),
        at => format!("{at}.{key}"),
    }
}

/// What the reader makes of `path`, told by what it finds where the value is good and where not.
fn status(path: &str, sample: Json) -> Option<Status> {
    let good = report(&with(base(), path, sample));
    let wrong = [json!([[1]]), json!({"no such key": 1}), json!(7)];
    let heeded = wrong
        .into_iter()
        .any(|wrong| !report(&with(base(), path, wrong)).is_clean());
    if !good.errors.is_empty() {
        return Some(Status::Refused);
    }
    if !good.unknown.is_empty() {
        return None;
    }
    Some(match (good.unsupported.is_empty(), heeded) {
        (false, _) => Status::Later,
        (true, true) => Status::Supported,
        (true, false) => Status::Ignored,
    })
}

// deviation: D065
#[test]
fn the_tables_say_what_the_reader_does() {
    assert_eq!(report(&base()).to_string(), "");
    let grpc = "servers[].listeners[].filter_chains[].filters[].config";
    let tables: &[(&str, &[Row])] = &[
        ("", tables::ROOT),
        ("servers[]", tables::SERVER),
        ("servers[].listeners[]", tables::LISTENER),
        ("servers[].listeners[].filter_chains[]", tables::CHAIN),
        (grpc, tables::GRPC),
        ("metrics", tables::METRICS),
        ("tracing", tables::TRACING),
        ("admin", tables::ADMIN),
        ("pprof", tables::PPROF),
    ];
    for (at, rows) in tables {
        for row in *rows {
            let path = full(at, row.path);
            let sample = serde_json::from_str(row.sample).unwrap();
            // The drivers' own settings are looked at when they start.
            if path != "tracing.config" {
                assert_eq!(status(&path, sample), Some(row.status), "{path}");
            }
        }
    }
}

// deviation: D065
#[test]
fn keys_that_no_struct_takes_meet_the_fate_they_have() {
    let filter = "servers[].listeners[].filter_chains[].filters[]";
    let places: Vec<(String, Others, Json)> = vec![
        ("cluster_manager".into(), others::CLUSTERS, Json::Null),
        ("servers[].routers[]".into(), others::ROUTERS, Json::Null),
        (
            "servers[].listeners[].filter_chains[].tls_context".into(),
            others::TLS,
            Json::Null,
        ),
        (
            "servers[].listeners[].access_logs[]".into(),
            others::ACCESS_LOG,
            Json::Null,
        ),
        (
            format!("{filter}.config"),
            others::PROXY,
            json!({"type": "proxy", "config": {"extend_config": {"Http2": {}}}}),
        ),
        (
            format!("{filter}.config"),
            others::TCP_PROXY,
            json!({"type": "tcp_proxy", "config": {"cluster": "c"}}),
        ),
        (
            format!("{filter}.config"),
            others::TCPCOPY,
            json!({"type": "tcpcopy", "config": {}}),
        ),
    ];
    for (at, others, of_type) in places {
        for key in others.iter().flat_map(|(place, keys)| keys::others(place, keys)) {
            let mut config = base();
            if !of_type.is_null() {
                config["servers"][0]["listeners"][0]["filter_chains"][0]["filters"] = json!([of_type]);
            }
            let report = report(&with(config, &full(&at, &key.path), json!("x")));
            let expected = usize::from(key.status == Status::Later);
            assert_eq!(report.unsupported.len(), expected, "{at} {}: {report}", key.path);
            assert_eq!(
                report.errors.len() + report.unknown.len(),
                0,
                "{at} {}: {report}",
                key.path
            );
        }
    }
}

#[test]
fn keys_that_a_stream_filter_does_not_take_meet_the_fate_they_have() {
    let at = "servers[].listeners[].stream_filters[]";
    for kind in KINDS {
        for key in keys::others("", kind.other_keys) {
            let mut config = json!({"type": kind.name, "config": {}});
            if key.path.starts_with("rules[]") {
                config["config"] = json!({"rules": [{"resource": "a", "threshold": 1}]});
            }
            let config = with(base(), "servers[].listeners[].stream_filters[]", json!([config]));
            let report = report(&with(
                config,
                &full(at, &format!("config.{}", key.path)),
                json!(1),
            ));
            let expected = usize::from(key.status == Status::Later);
            assert_eq!(report.unsupported.len(), expected, "{}: {report}", key.path);
            assert_eq!(
                report.errors.len() + report.unknown.len(),
                0,
                "{}: {report}",
                key.path
            );
        }
    }
}

// deviation: D047
#[test]
fn types_of_filters_meet_the_fate_they_have() {
    let all = sections();
    for (title, path) in [
        (
            "Types of network filters",
            "servers[].listeners[].filter_chains[].filters[]",
        ),
        (
            "Types of stream filters",
            "servers[].listeners[].stream_filters[]",
        ),
    ] {
        let section = all.iter().find(|section| section.title == title).unwrap();
        for key in &section.keys {
            let mut filter = json!({"type": key.path});
            match key.path.as_str() {
                "tcp_proxy" => filter["config"] = json!({"cluster": "c"}),
                "proxywasm" => filter["config"] = json!({"vm_config": {"path": "f.wasm"}}),
                _ => {}
            }
            let report = report(&with(base(), path, json!([filter])));
            let found = match (report.errors.is_empty(), report.unsupported.is_empty()) {
                (false, _) => Status::Refused,
                (true, false) => Status::Later,
                (true, true) => Status::Supported,
            };
            // Alone, `tcpcopy` and `fault_inject` answer nothing, which no error is about.
            assert_eq!(found, key.status, "{}: {report}", key.path);
        }
    }
}

// deviation: D057
#[test]
fn a_route_by_expressions_is_refused() {
    let path = "servers[].routers[].virtual_hosts[].routers[].match";
    let by_expression = json!({"dsl_expressions": [{"expression": "true"}]});
    let report = report(&with(base(), path, by_expression));
    assert_eq!(report.errors.len(), 1, "{report}");
    let all = sections();
    let routers = all.iter().find(|section| section.title == "Routers").unwrap();
    let key = routers
        .keys
        .iter()
        .find(|key| key.path.ends_with("dsl_expressions[]"));
    assert_eq!(key.unwrap().status, Status::Refused);
}

/// Every key of upstream's schema, by the place of its section.
const UPSTREAM: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "servers[]",
            "cluster_manager",
            "admin",
            "metrics",
            "tracing",
            "pprof",
            "dynamic_resources",
            "static_resources",
            "node",
            "disable_upgrade",
            "close_graceful",
            "inherit_old_mosnconfig",
            "pid",
            "uds_dir",
            "extends",
            "third_part_codec",
            "wasm_global_plugins",
        ],
    ),
    (
        "admin",
        &[
            "address.socket_address.address",
            "address.socket_address.port_value",
        ],
    ),
    (
        "metrics",
        &[
            "sinks[].type",
            "sinks[].config.port",
            "sinks[].config.endpoint",
            "sinks[].config.disable_collect_process",
            "sinks[].config.disable_collect_go",
            "sinks[].config.percentiles",
            "stats_matcher",
            "shm_zone",
            "shm_size",
            "sample",
            "ewma",
        ],
    ),
    (
        "metrics.stats_matcher",
        &["reject_all", "exclusion_labels", "exclusion_keys"],
    ),
    ("tracing", &["enable", "driver", "config"]),
    (
        "tracing.config",
        &["service_name", "reporter_endpoint", "recorder_host_post"],
    ),
    ("pprof", &["debug", "port_value", "endpoint"]),
    (
        "servers[]",
        &[
            "mosn_server_name",
            "default_log_path",
            "default_log_level",
            "global_log_roller",
            "use_netpoll_mode",
            "graceful_timeout",
            "processor",
            "listeners[]",
            "routers[]",
        ],
    ),
    (
        "servers[].listeners[]",
        &[
            "name",
            "address",
            "network",
            "bind_port",
            "type",
            "use_original_dst",
            "listener_filters",
            "filter_chains[]",
            "stream_filters[].type",
            "stream_filters[].config",
            "stream_filters[].go_plugin_config",
            "inspector",
            "connection_idle_timeout",
            "default_read_buffer_size",
            "access_logs[]",
        ],
    ),
    ("servers[].listeners[].access_logs[]", &["log_path", "log_format"]),
    (
        "servers[].listeners[].filter_chains[]",
        &[
            "match",
            "tls_context",
            "tls_context_set[]",
            "filters[].type",
            "filters[].config",
        ],
    ),
    (
        "servers[].listeners[].filter_chains[].tls_context",
        &[
            "status",
            "type",
            "server_name",
            "ca_cert",
            "cert_chain",
            "private_key",
            "verify_client",
            "require_client_cert",
            "insecure_skip",
            "cipher_suites",
            "ecdh_curves",
            "min_version",
            "max_version",
            "alpn",
            "fall_back",
            "extend_verify",
            "callbacks",
            "sds_source",
        ],
    ),
    (
        "servers[].routers[]",
        &[
            "router_config_name",
            "virtual_hosts[]",
            "router_configs",
            "request_headers_to_add[]",
            "request_headers_to_remove",
            "response_headers_to_add[]",
            "response_headers_to_remove",
            "virtual_hosts[].name",
            "virtual_hosts[].domains",
            "virtual_hosts[].routers[]",
            "virtual_hosts[].per_filter_config",
            "virtual_hosts[].request_headers_to_add[]",
            "virtual_hosts[].request_headers_to_remove",
            "virtual_hosts[].response_headers_to_add[]",
            "virtual_hosts[].response_headers_to_remove",
            "virtual_hosts[].routers[].match.prefix",
            "virtual_hosts[].routers[].match.path",
            "virtual_hosts[].routers[].match.regex",
            "virtual_hosts[].routers[].match.variables[].name",
            "virtual_hosts[].routers[].match.variables[].value",
            "virtual_hosts[].routers[].match.variables[].regex",
            "virtual_hosts[].routers[].match.variables[].model",
            "virtual_hosts[].routers[].match.dsl_expressions",
            "virtual_hosts[].routers[].match.headers[].name",
            "virtual_hosts[].routers[].match.headers[].value",
            "virtual_hosts[].routers[].match.headers[].regex",
            "virtual_hosts[].routers[].route.cluster_name",
            "virtual_hosts[].routers[].route.cluster_variable",
            "virtual_hosts[].routers[].route.cluster_header",
            "virtual_hosts[].routers[].route.weighted_clusters[].cluster.name",
            "virtual_hosts[].routers[].route.weighted_clusters[].cluster.weight",
            "virtual_hosts[].routers[].route.weighted_clusters[].cluster.metadata_match",
            "virtual_hosts[].routers[].route.metadata_match",
            "virtual_hosts[].routers[].route.hash_policy[].header.key",
            "virtual_hosts[].routers[].route.hash_policy[].cookie.name",
            "virtual_hosts[].routers[].route.hash_policy[].source_ip",
            "virtual_hosts[].routers[].route.timeout",
            "virtual_hosts[].routers[].route.retry_policy.retry_on",
            "virtual_hosts[].routers[].route.retry_policy.num_retries",
            "virtual_hosts[].routers[].route.retry_policy.retry_timeout",
            "virtual_hosts[].routers[].route.retry_policy.status_codes",
            "virtual_hosts[].routers[].route.prefix_rewrite",
            "virtual_hosts[].routers[].route.regex_rewrite.pattern.regex",
            "virtual_hosts[].routers[].route.regex_rewrite.substitution",
            "virtual_hosts[].routers[].route.host_rewrite",
            "virtual_hosts[].routers[].route.auto_host_rewrite_header",
            "virtual_hosts[].routers[].route.auto_host_rewrite",
            "virtual_hosts[].routers[].route.upstream_protocol",
            "virtual_hosts[].routers[].direct_response.status",
            "virtual_hosts[].routers[].direct_response.body",
            "virtual_hosts[].routers[].redirect.response_code",
            "virtual_hosts[].routers[].redirect.path_redirect",
            "virtual_hosts[].routers[].redirect.host_redirect",
            "virtual_hosts[].routers[].redirect.scheme_redirect",
            "virtual_hosts[].routers[].request_mirror_policies",
        ],
    ),
    (
        "servers[].routers[].request_headers_to_add[]",
        &["header.key", "header.value", "append"],
    ),
    (
        "cluster_manager",
        &[
            "clusters[]",
            "clusters_configs",
            "tls_context",
            "cluster_pool_enable",
            "clusters[].name",
            "clusters[].type",
            "clusters[].lb_type",
            "clusters[].hosts[].address",
            "clusters[].hosts[].hostname",
            "clusters[].hosts[].weight",
            "clusters[].hosts[].metadata",
            "clusters[].hosts[].tls_disable",
            "clusters[].connect_timeout",
            "clusters[].idle_timeout",
            "clusters[].keepalive.interval",
            "clusters[].keepalive.timeout",
            "clusters[].circuit_breakers[].max_connections",
            "clusters[].circuit_breakers[].max_requests",
            "clusters[].circuit_breakers[].max_retries",
            "clusters[].circuit_breakers[].max_pending_requests",
            "clusters[].max_request_per_conn",
            "clusters[].conn_buffer_limit_bytes",
            "clusters[].mark",
            "clusters[].health_check.service_name",
            "clusters[].health_check.protocol",
            "clusters[].health_check.timeout",
            "clusters[].health_check.interval",
            "clusters[].health_check.interval_jitter",
            "clusters[].health_check.initial_delay_seconds",
            "clusters[].health_check.healthy_threshold",
            "clusters[].health_check.unhealthy_threshold",
            "clusters[].health_check.check_config.http_check_config.port",
            "clusters[].health_check.check_config.http_check_config.timeout",
            "clusters[].health_check.check_config.http_check_config.path",
            "clusters[].health_check.check_config.http_check_config.method",
            "clusters[].health_check.check_config.http_check_config.scheme",
            "clusters[].health_check.check_config.http_check_config.domain",
            "clusters[].health_check.check_config.http_check_config.codes[].Start",
            "clusters[].health_check.check_config.http_check_config.codes[].End",
            "clusters[].lb_subset_config",
            "clusters[].original_dst_lb_config",
            "clusters[].lbconfig.choice_count",
            "clusters[].lbconfig.active_request_bias",
            "clusters[].lbconfig.client_error_bias",
            "clusters[].lbconfig.server_error_bias",
            "clusters[].slow_start.mode",
            "clusters[].slow_start.slow_start_duration",
            "clusters[].slow_start.aggression",
            "clusters[].slow_start.min_weight_percent",
            "clusters[].dns_refresh_rate",
            "clusters[].respect_dns_ttl",
            "clusters[].dns_lookup_family",
            "clusters[].dns_resolvers",
            "clusters[].dns_resolver_file",
            "clusters[].cluster_manager_tls",
        ],
    ),
    (
        "servers[].listeners[].filter_chains[].filters[].type",
        &[
            "proxy",
            "grpc",
            "tcpcopy",
            "tcp_proxy",
            "udp_proxy",
            "fault_inject",
            "tunnel",
            "connection_manager",
        ],
    ),
    (
        "servers[].listeners[].filter_chains[].filters[].config",
        &[
            "downstream_protocol",
            "upstream_protocol",
            "router_config_name",
            "router_handler_name",
            "fallback_for_unknown_protocol",
            "concurrency_num",
            "extend_config.Http1.max_header_size",
            "extend_config.Http1.max_request_body_size",
            "extend_config.Http2.http2_use_stream",
            "extend_config.bolt",
            "server_name",
            "grpc_config",
            "graceful_stop_timeout",
            "cluster",
            "routes[].cluster",
            "routes[].source_addrs",
            "routes[].destination_addrs",
            "routes[].source_port",
            "routes[].destination_port",
            "stat_prefix",
            "idle_timeout",
            "max_connect_attempts",
            "strategy.switch",
            "strategy.interval",
            "strategy.duration",
            "strategy.cpu_max_rate",
            "strategy.mem_max_rate",
        ],
    ),
    (
        "servers[].listeners[].stream_filters[].type",
        &[
            "flowControlFilter",
            "grpc_metric",
            "actuator_filter",
            "wasm_filter",
            "Layotto",
            "proxywasm",
            "fault",
            "fault_tolerance",
            "payload_limit",
            "mirror",
            "gzip",
            "ip_access",
            "header_to_metadata",
            "dubbo_stream",
            "transcoder",
            "dsl",
            "seata",
            "jwt_authn",
            "rbac",
            "istio.stats",
        ],
    ),
];

#[test]
fn every_key_of_upstreams_schema_is_told_of() {
    let all = sections();
    let told = |at: &str, path: &str| {
        let mut here = all.iter().filter(|section| section.at == at);
        let bare = |path: &str| path.trim_end_matches("[]").trim_end_matches("{}").to_owned();
        here.any(|section| section.keys.iter().any(|key| bare(&key.path) == bare(path)))
    };
    let missing: Vec<String> = UPSTREAM
        .iter()
        .flat_map(|(at, paths)| paths.iter().map(move |path| (at, path)))
        .filter(|(at, path)| !told(at, path))
        .map(|(at, path)| format!("{at}: {path}"))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_key_says_what_it_means() {
    for section in sections() {
        for key in section.keys {
            assert!(!key.text.is_empty(), "{}: {}", section.at, key.path);
        }
    }
}
