//! Envoy, with one worker and without statistics for each request.

use std::{net::SocketAddr, path::Path, process::Command};

use serde_json::{Value, json};

use super::{Plan, Protocol};

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub fn arguments(command: &mut Command, config: &Path, address: SocketAddr) {
    command.arg("-c").arg(config);
    command.args(["--concurrency", "1", "-l", "error", "--base-id"]);
    // Each instance on a machine has its own.
    command.arg(address.port().to_string());
}

pub fn configuration(plan: &Plan, address: SocketAddr) -> String {
    json!({
        "static_resources": {"listeners": [listener(plan, address)], "clusters": [cluster(plan)]},
        "layered_runtime": {"layers": [{"name": "all", "static_layer": {
            "re2": {"max_program_size": {"error_level": 1000}}}}]}
    })
    .to_string()
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn listener(plan: &Plan, address: SocketAddr) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front", "codec_type": "AUTO", "generate_request_id": false,
        "max_request_headers_kb": 96,
        "stream_idle_timeout": "60s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_protocol_options": {"enable_trailers": true},
        "http_filters": filters(plan),
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes(plan)}]}});
    json!({
        "name": "front", "address": socket(address),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]})
}

fn filters(plan: &Plan) -> Vec<Value> {
    let module = |file| {
        json!({"name": "envoy.filters.http.wasm", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {"name": "module", "vm_config": {
                "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": file}}}}}})
    };
    let router = json!({"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        "dynamic_stats": false, "suppress_envoy_headers": true}});
    plan.filter.iter().map(module).chain([router]).collect()
}

fn routes(plan: &Plan) -> Vec<Value> {
    let action = json!({"cluster": "back", "timeout": "60s"});
    let exact = |number| json!({"match": {"path": format!("/route/{number}")}, "route": action});
    let mut routes: Vec<_> = (0..plan.routes).map(exact).collect();
    routes.push(json!({"match": {"prefix": "/"}, "route": action}));
    routes
}

fn cluster(plan: &Plan) -> Value {
    let endpoints: Vec<_> = plan
        .hosts
        .iter()
        .map(|host| json!({"endpoint": {"address": socket(*host)}}))
        .collect();
    let protocol = match plan.back {
        Protocol::Http1 => json!({"http_protocol_options": {"enable_trailers": true}}),
        Protocol::Http2 => json!({"http2_protocol_options": {}}),
    };
    let most = if plan.most > 0 { plan.most } else { 1_000_000 };
    json!({
        "name": "back", "connect_timeout": "5s", "lb_policy": "ROUND_ROBIN",
        "load_assignment": {"cluster_name": "back", "endpoints": [{"lb_endpoints": endpoints}]},
        "circuit_breakers": {"thresholds": [{
            "max_requests": most, "max_pending_requests": most, "max_connections": 1_000_000}]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [{"timeout": "1s", "interval": "0.2s", "unhealthy_threshold": 1,
            "healthy_threshold": 1, "no_traffic_interval": "0.2s", "tcp_health_check": {}}],
        "typed_extension_protocol_options": {OPTIONS: {
            "@type": format!("type.googleapis.com/{OPTIONS}"),
            "explicit_http_config": protocol,
            "common_http_protocol_options": {"idle_timeout": "60s"}}}})
}
