//! What operators see and use: TCP proxies, access logs, metrics, the administration API, `check`.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use super::{
    clients::{Ask, Call, channel, get, grpc},
    peer::Peer,
    plan::{Plan, listener, merged, proxy, runtime, to, until, until_reply},
};
use crate::sidecar::free_port;

#[tokio::test]
async fn a_tcp_proxy_passes_bytes_on_to_hosts_that_take_them() {
    let peers = [Peer::start("a").await, Peer::start("b").await];
    let port = free_port();
    let raw = listener(
        "raw",
        port,
        json!({"type": "tcp_proxy", "config": {"cluster": "c"}}),
    );
    let mut plan = Plan::default().listener(raw).cluster("c", &peers, json!({}));
    let dead = json!({"address": format!("127.0.0.1:{}", free_port())});
    plan.clusters[0]["hosts"].as_array_mut().unwrap().push(dead);
    let running = plan.run();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..12 {
        seen.insert(get(port, "/").await.peer());
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    let messages = grpc(&channel(port).await, Call::Bidi, &[], "x").await.unwrap();
    assert_eq!(messages.len(), 2);
    // Another cluster after a reload.
    let other = Peer::start("other").await;
    let raw = listener(
        "raw",
        port,
        json!({"type": "tcp_proxy", "config": {"cluster": "d"}}),
    );
    running.write(&Plan::default().listener(raw).cluster("d", [&other], json!({})));
    until(
        "the other cluster",
        async || match tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
            Ok(stream) => {
                let reply = super::clients::Http1::over(stream)
                    .await
                    .send(&Ask::get("/"))
                    .await;
                reply.is_ok_and(|reply| reply.peer() == "other")
            }
            Err(_) => false,
        },
    )
    .await;
}

#[tokio::test]
async fn an_access_log_tells_what_happened() {
    let peer = Peer::start("a").await;
    let port = free_port();
    let mut plan = Plan::web(
        port,
        json!([
            to("/a", "c", json!({})),
            to("/slow", "c", json!({"timeout": "100ms"}))
        ]),
    )
    .cluster("c", [&peer], json!({}));
    let format = "%protocol% %x-mosn-method% %x-mosn-path% %response_code% %response_flag% \
                  %upstream_cluster% %upstream_host% %bytes_received%/%bytes_sent% %request_header_x-q% end";
    plan.listeners[0]["access_logs"] = json!([
        {"log_path": "logs/access.log", "log_format": format},
        {"log_path": "default.log"},
    ]);
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("logs")).unwrap();
    let running = plan.run_in(folder, &[]);
    Ask::new("POST", "/a?x=1")
        .header("x-q", "a\nb".replace('\n', "\t").as_str())
        .body("12345")
        .http1(port)
        .await;
    Ask::get("/none").http2(port).await;
    Ask::get("/slow").header("x-do", "slow=2000").http1(port).await;
    let read = |name: &str| fs::read_to_string(running.folder.path().join(name)).unwrap_or_default();
    until("three lines", async || {
        read("logs/access.log").lines().count() == 3
    })
    .await;
    until("three lines by default", async || {
        read("default.log").lines().count() == 3
    })
    .await;
    let text = read("logs/access.log");
    let lines: Vec<&str> = text.lines().collect();
    let host = peer.addr().to_string();
    assert!(lines[0].starts_with("Http1 POST /a 200 "), "{text}");
    assert!(lines[0].contains(&format!(" c {host} 5/")), "{text}");
    assert!(lines[1].starts_with("Http2 GET /none 404 "), "{text}");
    assert!(lines[2].starts_with("Http1 GET /slow 504 "), "{text}");
    assert!(lines.iter().all(|line| line.ends_with(" end")), "{text}");
}

#[tokio::test]
async fn metrics_tell_of_clients_hosts_and_grpc_calls() {
    let peer = Peer::start("a").await;
    let (port, metrics) = (free_port(), free_port());
    let sink = json!({"type": "prometheus", "config": {"port": metrics}});
    let plan = Plan::web(port, json!([to("/", "c", json!({}))]))
        .filters(json!([{"type": "grpc_metric"}]))
        .cluster("c", [&peer], json!({}))
        .root(json!({"metrics": {"sinks": [sink]}}));
    let _running = plan.run();
    for _ in 0..3 {
        get(port, "/").await;
    }
    Ask::get("/").header("x-do", "status=503").http1(port).await;
    grpc(&channel(port).await, Call::Unary, &[], "x").await.unwrap();
    let page = get(metrics, "/metrics").await.text();
    let host = peer.addr().to_string();
    for line in [
        "downstream_request_total{listener=\"web\"} 5".to_owned(),
        "downstream_request_total{proxy=\"global\"} 5".to_owned(),
        "downstream_request_200_total{listener=\"web\"} 4".to_owned(),
        "downstream_request_503_total{listener=\"web\"} 1".to_owned(),
        "upstream_request_total{cluster=\"c\"} 5".to_owned(),
        format!("upstream_request_total{{cluster=\"c\",host=\"{host}\"}} 5"),
        "grpc_request_total{service=\"/test.Echo/Unary\"} 1".to_owned(),
        "grpc_response_succ_total{service=\"/test.Echo/Unary\"} 1".to_owned(),
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
}

fn admin(port: u16, address: &str) -> Value {
    json!({"admin": {"token": "adm1n", "address": {"socket_address": {"address": address, "port_value": port}}}})
}

#[tokio::test]
async fn the_administration_api_shows_the_process_and_no_secret() {
    let peer = Peer::start("a").await;
    let [port, grpc, api] = [(); 3].map(|()| free_port());
    let mut plan = Plan::web(port, json!([to("/", "c", json!({}))]))
        .listener(runtime(
            grpc,
            json!({"state": {"s": {"type": "in-memory", "metadata": {"redisPassword": "hunter2"}}}}),
        ))
        .cluster("c", [&peer], json!({}))
        .root(admin(api, "127.0.0.1"));
    let certificate = rcgen::generate_simple_self_signed(["x.test".to_owned()]).unwrap();
    let key = certificate.signing_key.serialize_pem();
    plan.clusters[0]["tls_context"] = json!({
        "status": false, "private_key": key, "cert_chain": certificate.cert.pem()});
    let _running = plan.run_with(&[
        ("RUNTIME_CONFIG".to_owned(), "shown".to_owned()),
        ("HIDDEN".to_owned(), "s3".to_owned()),
    ]);
    get(port, "/").await;
    let ask = async |path: &str| get(api, &format!("/api/v1/{path}")).await;
    assert_eq!(ask("version").await.text(), env!("CARGO_PKG_VERSION"));
    let dump = ask("config_dump").await;
    for secret in ["hunter2", "adm1n", key.lines().nth(1).unwrap()] {
        assert!(!dump.text().contains(secret), "{}", dump.text());
    }
    assert_eq!(dump.json()["servers"][0]["listeners"][0]["name"], "web");
    for (query, pointer, value) in [
        ("allrouters", "/0/router_config_name", "routes"),
        ("allclusters", "/0/name", "c"),
        ("alllisteners", "/0/name", "web"),
        ("router=routes", "/router_config_name", "routes"),
        ("cluster=c", "/name", "c"),
        ("listener=grpc", "/name", "grpc"),
    ] {
        let part = ask(&format!("config_dump?{query}")).await.json();
        assert_eq!(part.pointer(pointer), Some(&json!(value)), "{query}: {part}");
    }
    assert_eq!(ask("config_dump?cluster=none").await.status, 404);
    assert_eq!(ask("config_dump?nonsense").await.status, 400);
    let stats = ask("stats").await.text();
    assert!(
        stats.contains("downstream_request_total{listener=\"web\"} 1\n"),
        "{stats}"
    );
    let stats = ask("stats?key=upstream_").await.text();
    assert!(
        !stats.is_empty() && stats.lines().all(|line| line.contains("upstream_")),
        "{stats}"
    );
    let stats = ask("stats_glob?key=downstream_*").await.text();
    assert!(
        !stats.is_empty() && stats.lines().all(|line| line.starts_with("downstream_")),
        "{stats}"
    );
    let states = ask("states").await.text();
    assert!(
        states.starts_with("pid=") && states.trim_end().ends_with("&state=6"),
        "{states}"
    );
    assert_eq!(ask("features").await.json()["auto_config"], false);
    assert_eq!(ask("features?key=auto_config").await.text(), "false");
    assert_eq!(ask("features?key=none").await.status, 400);
    assert_eq!(
        ask("env?key=RUNTIME_CONFIG").await.text(),
        "RUNTIME_CONFIG=shown\n"
    );
    assert_eq!(ask("env?key=HIDDEN").await.status, 400);
    assert_eq!(ask("flowcontrol").await.json(), json!({}));
    assert_eq!(ask("none").await.status, 404);
    assert_eq!(get(api, "/").await.status, 200);
    let change = |body: Value| Ask::new("POST", "/api/v1/update_loglevel").body(body.to_string());
    let reply = change(json!({"log_level": "debug"})).http1(api).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let levels = ask("get_loglevel").await.text();
    assert!(levels.to_lowercase().contains("debug"), "{levels}");
    assert_eq!(change(json!({"log_level": "loud"})).http1(api).await.status, 400);
    for (method, path, allowed) in [
        ("POST", "version", "GET"),
        ("GET", "update_loglevel", "POST"),
        ("GET", "enable_log", "POST"),
        ("PUT", "disable_log", "POST"),
        ("POST", "flowcontrol", "GET"),
        ("GET", "flowcontrol/web", "PUT"),
    ] {
        let reply = Ask::new(method, &format!("/api/v1/{path}")).http1(api).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("allow")),
            (405, allowed),
            "{path}"
        );
    }
    let rebound = Ask::get("/api/v1/version").host("rebound.test").http1(api).await;
    assert_eq!(rebound.status, 403);
    assert!(rebound.text().contains("Host"), "{rebound:?}");
    let shown = Ask::get("/api/v1/version")
        .host("rebound.test")
        .header("layotto-admin-token", "adm1n");
    assert_eq!(shown.http1(api).await.status, 200);
}

// deviation: D073
#[tokio::test]
async fn gos_tools_read_the_profile_of_processor_time() {
    let [port, pprof] = [(); 2].map(|()| free_port());
    let peer = Peer::start("a").await;
    let plan = Plan::web(port, json!([to("/", "c", json!({}))]))
        .cluster("c", [&peer], json!({}))
        .root(json!({"pprof": {"debug": true, "port_value": pprof}}));
    let running = plan.run();
    let load = tokio::spawn(async move {
        loop {
            get(port, "/").await;
        }
    });
    let profile = get(pprof, "/debug/pprof/profile?seconds=2").await;
    load.abort();
    assert_eq!(profile.status, 200);
    for (path, status) in [("heap", 501), ("goroutine", 501), ("", 200)] {
        assert_eq!(
            get(pprof, &format!("/debug/pprof/{path}")).await.status,
            status,
            "{path}"
        );
    }
    let rebound = Ask::get("/debug/pprof/").host("rebound.test").http1(pprof).await;
    assert_eq!(rebound.status, 403);

    let file = running.file().with_file_name("profile");
    std::fs::write(&file, &profile.body).unwrap();
    let go = tokio::process::Command::new("go")
        .args(["tool", "pprof", "-top"])
        .arg(&file)
        .output()
        .await;
    let Ok(go) = go else {
        crate::sidecar::say("skipped: go is not installed");
        return;
    };
    let top = String::from_utf8_lossy(&go.stdout);
    assert!(go.status.success(), "{}", String::from_utf8_lossy(&go.stderr));
    assert!(top.contains("Type: cpu") && top.contains("flat%"), "{top}");
    assert!(
        ["hyper", "tokio", "layotto"]
            .iter()
            .any(|name| top.contains(name)),
        "{top}"
    );
    crate::sidecar::say(top.lines().take(12).collect::<Vec<_>>().join("\n"));
}

/// An address of this machine that is not loopback.
pub fn outside() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: this only chooses the way.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[tokio::test]
async fn callers_from_elsewhere_need_the_admin_token() {
    let Some(address) = outside() else {
        crate::sidecar::say("skipped: this machine has no address but loopback");
        return;
    };
    let (port, api) = (free_port(), free_port());
    let plan = Plan::web(port, json!([])).root(admin(api, "0.0.0.0"));
    let _running = plan.run();
    let send = async |ask: Ask| {
        let stream = tokio::net::TcpStream::connect((address, api)).await.unwrap();
        super::clients::Http1::over(stream)
            .await
            .send(&ask)
            .await
            .unwrap()
    };
    for path in ["/api/v1/version", "/api/v1/config_dump", "/"] {
        assert_eq!(send(Ask::get(path)).await.status, 403, "{path}");
        let wrong = Ask::get(path).header("authorization", "Bearer no");
        assert_eq!(send(wrong).await.status, 403, "{path}");
        let right = Ask::get(path).header("authorization", "Bearer adm1n");
        assert_eq!(send(right).await.status, 200, "{path}");
        assert_eq!(get(api, path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn an_upstream_that_comes_late_is_found() {
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let port = free_port();
    let mut plan = Plan::web(port, json!([to("/", "c", json!({}))])).cluster("c", [], json!({}));
    plan.clusters[0]["hosts"] = json!([{"address": addr.to_string()}]);
    let _running = plan.run();
    assert_eq!(get(port, "/").await.status, 502);
    let _peer = Peer::at("late", addr, None).await;
    until_reply("it answers", || get(port, "/"), |reply| reply.peer() == "late").await;
}

fn check(folder: &Path, config: &Value) -> (Option<i32>, String) {
    let file = folder.join("config.json");
    fs::write(&file, serde_json::to_string_pretty(config).unwrap()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_layotto"))
        .args(["check", "-c", file.to_str().unwrap()])
        .current_dir(folder)
        .env_clear()
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// A configuration with every key that is taken.
fn everything(folder: &Path) -> Value {
    let certificate = rcgen::generate_simple_self_signed(["x.test".to_owned()]).unwrap();
    let tls = json!({
        "status": true, "server_name": "x.test", "ca_cert": certificate.cert.pem(),
        "cert_chain": certificate.cert.pem(), "private_key": certificate.signing_key.serialize_pem(),
        "verify_client": true, "require_client_cert": true, "insecure_skip": false,
        "cipher_suites": "ECDHE-ECDSA-AES128-GCM-SHA256", "ecdh_curves": "X25519,P256",
        "min_version": "TLSv1_2", "max_version": "TLSv1_3", "alpn": "h2,http/1.1",
    });
    let add = json!([{"header": {"key": "x-a", "value": "%x-mosn-method%"}, "append": false}]);
    let edits = json!({
        "request_headers_to_add": add, "request_headers_to_remove": ["x-b"],
        "response_headers_to_add": add, "response_headers_to_remove": ["x-c"],
    });
    let fault = json!({
        "delay": {"percentage": 1, "fixed_delay": "1s"}, "abort": {"status": 503, "percentage": 1},
        "upstream_cluster": "c", "headers": [{"name": "x-f", "value": "a", "regex": true}]});
    let payload = json!({"max_entity_size ": 1000, "http_status": 413});
    let action = merged(
        json!({
            "cluster_name": "c", "timeout": "1s", "upstream_protocol": "Http2",
            "retry_policy": {"retry_on": true, "num_retries": 1, "retry_timeout": "1s", "status_codes": [404]},
            "hash_policy": [{"header": {"key": "x"}}], "prefix_rewrite": "/x", "host_rewrite": "h.test",
        }),
        &edits,
    );
    let routers = json!([
        {"match": {"prefix": "/", "headers": [{"name": "x", "value": "1", "regex": true}]}, "route": action,
         "per_filter_config": {"fault": fault, "payload_limit": payload}},
        {"match": {"path": "/p"}, "route": {
            "cluster_variable": "request_header_x", "auto_host_rewrite": true,
            "hash_policy": [{"cookie": {"name": "c"}}],
            "regex_rewrite": {"pattern": {"regex": "a"}, "substitution": "b"}}},
        {"match": {"regex": "x"}, "route": {
            "weighted_clusters": [{"cluster": {"name": "c", "weight": 1}}], "auto_host_rewrite_header": "x",
            "hash_policy": [{"source_ip": {}}]}},
        {"match": {"variables": [{"name": "x-mosn-path", "regex": "x", "value": "y", "model": "or"}]},
         "redirect": {"response_code": 302, "path_redirect": "/", "host_redirect": "h", "scheme_redirect": "https"}},
        {"match": {"headers": [{"name": "service", "value": ".*"}]}, "direct_response": {"status": 200, "body": "x"}},
    ]);
    let host = merged(
        json!({"name": "all", "domains": ["*"], "routers": routers, "per_filter_config": {"fault": fault}}),
        &edits,
    );
    let mut web = proxy("web", 2045, "routes");
    web = merged(
        web,
        &json!({
            "network": "tcp", "type": "ingress", "inspector": true, "connection_idle_timeout": "90s",
            "access_logs": [{"log_path": folder.join("access.log"), "log_format": "%start_time%"}],
            "stream_filters": [
                {"type": "flowControlFilter", "config": {
                    "global_switch": true, "limit_key_type": "PATH", "action": {"status": 509, "body": "no"},
                    "rules": [{"resource": "/x", "threshold": 1, "statIntervalInMs": 1000, "tokenCalculateStrategy": 0,
                               "controlBehavior": 0}]}},
                {"type": "fault", "config": fault},
                {"type": "payload_limit", "config": payload},
                {"type": "ip_access", "config": {"default_action": "allow", "header": "x-forwarded-for",
                    "trusted_proxies": ["127.0.0.1"], "ips": [{"action": "deny", "addrs": ["10.0.0.0/8"]}]}},
                {"type": "grpc_metric"},
                {"type": "fault_tolerance", "config": {"enabled": true, "exceptionTypes": [503], "timeWindow": 1000,
                    "leastWindowCount": 5, "exceptionRateMultiple": 2, "maxIpCount": 1, "recoverTime": 1000}},
                {"type": "actuator_filter"},
            ],
        }),
    );
    let chain = &mut web["filter_chains"][0];
    chain["tls_context"] = tls.clone();
    chain["filters"] = json!([
        {"type": "tcpcopy", "config": {
            "strategy": {"switch": "OFF", "interval": 30, "duration": 1, "cpu_max_rate": 80, "mem_max_rate": 70},
            "dump_dir": folder, "max_file_bytes": 100_000, "max_files": 2, "redact_headers": ["x"]}},
        {"type": "proxy", "config": {
            "downstream_protocol": "Http1,Http2", "upstream_protocol": "Http1", "router_config_name": "routes",
            "extend_config": {"Http1": {"max_header_size": 8192, "max_request_body_size": 1}}}},
    ]);
    let raw = listener(
        "raw",
        2046,
        json!({"type": "tcp_proxy", "config": {"cluster": "c"}}),
    );
    let cluster = json!({
        "name": "c", "type": "STRICT_DNS", "lb_type": "LB_LEAST_REQUEST",
        "hosts": [{"address": "localhost:80", "hostname": "h", "weight": 2, "tls_disable": true}],
        "connect_timeout": "1s", "idle_timeout": "1m", "keepalive": {"interval": "10s", "timeout": "1s"},
        "circuit_breakers": [{"max_connections": 1, "max_pending_requests": 1, "max_requests": 1, "max_retries": 1}],
        "max_request_per_conn": 10,
        "health_check": {"service_name": "c", "protocol": "Http1", "timeout": "1s", "interval": "1s",
            "interval_jitter": "1ms", "initial_delay_seconds": "1s", "healthy_threshold": 1, "unhealthy_threshold": 1,
            "check_config": {"http_check_config": {"port": 1, "timeout": "1s", "path": "/", "method": "GET",
                "scheme": "http", "domain": "d", "codes": [{"Start": 200, "End": 299}]}}},
        "lbconfig": {"choice_count": 2, "active_request_bias": 1, "client_error_bias": 1, "server_error_bias": 1},
        "slow_start": {"mode": "duration", "slow_start_duration": "1s", "aggression": 1, "min_weight_percent": 0.1},
        "dns_refresh_rate": "5s", "dns_lookup_family": "V4_ONLY",
        "tls_context": merged(tls.clone(), &json!({"verify_client": false, "require_client_cert": false})),
    });
    let mut plan = Plan::default().listener(web).listener(raw);
    plan.routers = vec![merged(
        json!({"router_config_name": "routes", "virtual_hosts": [host]}),
        &edits,
    )];
    plan.clusters = vec![cluster];
    let sink = json!({"type": "prometheus", "config": {"port": 34903, "endpoint": "/metrics", "address": "127.0.0.1"}});
    let mut file = plan
        .root(merged(
            admin(34901, "127.0.0.1"),
            &json!({"metrics": {"sinks": [sink]}}),
        ))
        .file();
    let server = &mut file["servers"][0];
    server["mosn_server_name"] = json!("layotto");
    server["graceful_timeout"] = json!("10s");
    server["processor"] = json!(2);
    server["global_log_roller"] = json!("size=10 keep=3");
    file
}

#[test]
fn a_configuration_with_everything_that_is_taken_passes_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = check(folder.path(), &everything(folder.path()));
    assert_eq!(code, Some(0), "{text}");
    assert!(
        !text.contains("not supported") && !text.contains("unknown"),
        "{text}"
    );
}

#[test]
fn what_is_not_built_yet_is_said_by_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let base = everything(folder.path());
    for (pointer, value) in [
        ("/servers/0/listeners/0/use_original_dst", json!("redirect")),
        (
            "/servers/0/listeners/0/stream_filters/0",
            json!({"type": "gzip", "config": {}}),
        ),
        (
            "/servers/0/listeners/0/stream_filters/0",
            json!({"type": "mirror"}),
        ),
        (
            "/servers/0/listeners/0/stream_filters/0",
            json!({"type": "jwt_authn"}),
        ),
        (
            "/servers/0/listeners/0/filter_chains/0/filters/1/config/downstream_protocol",
            json!("bolt"),
        ),
        (
            "/servers/0/listeners/0/filter_chains/0/tls_context/sds_source",
            json!({"CertificateConfig": {}}),
        ),
        (
            "/servers/0/listeners/1/filter_chains/0/filters/0",
            json!({"type": "tunnel"}),
        ),
        (
            "/servers/0/routers/0/virtual_hosts/0/routers/0/request_mirror_policies",
            json!({"cluster": "c"}),
        ),
        (
            "/servers/0/routers/0/virtual_hosts/0/routers/0/route/metadata_match",
            json!({"filter_metadata": {}}),
        ),
        (
            "/cluster_manager/clusters/0/lb_subset_config",
            json!({"fall_back_policy": 1}),
        ),
        ("/cluster_manager/clusters/0/mark", json!(1)),
        ("/dynamic_resources", json!({"ads_config": {}})),
    ] {
        let mut config = base.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = config.pointer_mut(parent).unwrap();
        match key.parse::<usize>() {
            Ok(index) => parent[index] = value.clone(),
            Err(_) => parent[key] = value.clone(),
        }
        let (_, text) = check(folder.path(), &config);
        assert!(text.contains("not supported yet"), "{pointer}: {text}");
    }
}

#[test]
fn unknown_keys_are_told_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = everything(folder.path());
    config["cluster_manager"]["clusters"][0]["lb_typo"] = json!("x");
    let (_, text) = check(folder.path(), &config);
    let pretty = serde_json::to_string_pretty(&config).unwrap();
    let line = pretty.lines().position(|line| line.contains("lb_typo")).unwrap() + 1;
    assert!(
        text.contains("lb_typo") && text.contains(&format!("config.json:{line}")),
        "{text}"
    );
}
