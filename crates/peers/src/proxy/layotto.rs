//! layotto, configured as upstream is.

use std::{net::SocketAddr, path::Path, process::Command};

use serde_json::{Value, json};

use super::{Plan, Protocol};

pub fn arguments(command: &mut Command, config: &Path, folder: &Path) {
    command.arg("start").arg("-c").arg(config);
    command.arg("--data-dir").arg(folder.join("data"));
    command.current_dir(folder);
}

pub fn configuration(plan: &Plan, address: SocketAddr) -> String {
    json!({
        "servers": [{
            "default_log_path": "stdout", "default_log_level": "ERROR", "processor": 1,
            "listeners": [listener(plan, address)],
            "routers": [{
                "router_config_name": "router",
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routers": routes(plan)}]}]
        }],
        "cluster_manager": {"clusters": [cluster(plan)]}
    })
    .to_string()
}

fn listener(plan: &Plan, address: SocketAddr) -> Value {
    let module = |file| {
        json!({"type": "proxywasm", "config": {
            "vm_config": {"engine": "wasmtime", "path": file}, "allow_clusters": ["back"]}})
    };
    let filters: Vec<_> = plan.filter.iter().map(module).collect();
    json!({
        "name": "front", "address": address, "bind_port": true, "stream_filters": filters,
        "filter_chains": [{"filters": [{"type": "proxy", "config": {
            "downstream_protocol": "Auto", "upstream_protocol": "Auto",
            "router_config_name": "router"}}]}]})
}

fn routes(plan: &Plan) -> Vec<Value> {
    let protocol = match plan.back {
        Protocol::Http1 => "Http1",
        Protocol::Http2 => "Http2",
    };
    let action = json!({"cluster_name": "back", "upstream_protocol": protocol});
    let exact = |number| json!({"match": {"path": format!("/route/{number}")}, "route": action});
    let mut routes: Vec<_> = (0..plan.routes).map(exact).collect();
    routes.push(json!({"match": {"prefix": "/"}, "route": action}));
    routes
}

fn cluster(plan: &Plan) -> Value {
    let hosts: Vec<_> = plan.hosts.iter().map(|host| json!({"address": host})).collect();
    let mut cluster = json!({
        "name": "back", "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN", "hosts": hosts,
        "health_check": {"service_name": "back", "protocol": "tcp", "interval": "200ms",
            "timeout": "1s", "initial_delay_seconds": "0s"}});
    if plan.most > 0 {
        cluster["circuit_breakers"] = json!([{"max_requests": plan.most}]);
    }
    cluster
}
