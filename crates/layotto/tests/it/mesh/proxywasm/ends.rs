//! How exchanges end that pass a guest, and how guests come and go.

use std::time::Duration;

use super::{
    super::{
        host::{Host, answer, closed},
        http_calls::{caller, whole},
        plan::proxy,
    },
    *,
};

/// Logs when it is told of the end.
fn ends() -> Guest {
    let mut guest = Guest::new();
    let (done, log) = (guest.text("guest: done"), guest.text("guest: log"));
    let says = |text: &str| format!("(drop (call $log (i32.const 2) {text}))");
    guest
        .on("proxy_on_done", 1, &format!("{} (i32.const 1)", says(&done)))
        .on("proxy_on_log", 1, &says(&log))
}

#[tokio::test]
async fn the_guest_is_told_of_the_end_also_where_the_client_goes() {
    let host = Host::start().await;
    let demo = Demo::run(&host.address(), &ends().module());
    let ask = Ask::get("/");
    closed(host.given_up(ask.http1(demo.web)).await).await;
    demo.running.wait_for_log("guest: done").await;
    demo.running.wait_for_log("guest: log").await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_what_the_guest_asked_for() {
    // The filter asks a function, which asks a host that does not answer.
    let host = Host::start().await;
    let mut guest = ends();
    let id = guest.text("asks");
    let invokes = format!(
        "(drop (call $invoke_service {id} (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
            (i32.const 16) (i32.const 20)))
         (i32.const 0)"
    );
    let guest = guest.on("proxy_on_request_headers", 3, &invokes).module();
    let patient =
        caller("up", &[(":path", "/")], b"", &[], whole).replace("i32.const 300)", "i32.const 60000)");
    let folder = tempfile::tempdir().unwrap();
    build(folder.path(), "guest", &guest);
    build(folder.path(), "asks", &patient);
    let web = free_port();
    let mut plan =
        Plan::web(web, json!([to("/", "up", json!({}))])).filters(json!([filter("guest", &json!({}))]));
    plan.clusters
        .push(json!({"name": "up", "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN",
        "hosts": [{"address": host.address()}]}));
    let mut functions = proxy("functions", free_port(), "routes");
    functions["stream_filters"] = json!([{"type": "Layotto", "config": {"asks": {
        "name": "asks", "allow_clusters": ["up"], "vm_config": {"path": "asks.wasm"}}}}]);
    let running = plan.listener(functions).run_in(folder, &[]);
    closed(host.given_up(Ask::get("/").http1(web)).await).await;
    running.wait_for_log("guest: done").await;
    assert_eq!(running.logged("panicked"), 0);
}

#[tokio::test]
async fn the_end_of_a_reply_ends_nothing_that_the_guest_asked_for() {
    // It does not look at bodies; the answer to its call comes after the reply has gone.
    let (host, peer) = (Host::start().await, Peer::start("up").await);
    let mut guest = Guest::new();
    let slow = guest.text("slow");
    let headers = guest.headers(&[(":method", "GET"), (":path", "/asked"), (":authority", "a")]);
    let (done, answered) = (guest.text("guest: done"), guest.text("guest: answered"));
    let asks = format!(
        "(call $http_call {slow} {headers} (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
            (i32.const 60000) (i32.const 24))"
    );
    let guest = guest
        .on("proxy_on_response_headers", 3, &asks)
        .on(
            "proxy_on_http_call_response",
            5,
            &format!("(if (local.get $2) (then (drop (call $log (i32.const 2) {answered}))))"),
        )
        .on(
            "proxy_on_done",
            1,
            &format!("(drop (call $log (i32.const 2) {done})) (i32.const 0)"),
        )
        .module();
    let web = free_port();
    let filters = json!([filter("guest", &json!({"allow_clusters": ["slow"]}))]);
    let mut plan = Plan::web(web, json!([to("/", "up", json!({}))]))
        .filters(filters)
        .cluster("up", [&peer], json!({}));
    plan.clusters.push(
        json!({"name": "slow", "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN",
        "hosts": [{"address": host.address()}]}),
    );
    let folder = tempfile::tempdir().unwrap();
    build(folder.path(), "guest", &guest);
    let running = plan.run_in(folder, &[]);
    let reply = Ask::get("/").http1(web).await;
    assert_eq!(reply.status, 200);
    running.wait_for_log("guest: done").await;
    let asked = tokio::time::timeout(Duration::from_secs(20), host.asked()).await;
    answer(&mut asked.expect("the call goes on"), "").await;
    running.wait_for_log("guest: answered").await;
}

#[tokio::test]
async fn another_guest_takes_over_without_a_gap() {
    let answering = answers("proxy_on_request_headers");
    let peer = Peer::start("up").await;
    let demo = Demo::run(&peer.addr().to_string(), &ends().module());
    build(demo.running.folder.path(), "other", &answering);
    let asked = async {
        let mut statuses = Vec::new();
        while statuses.last() != Some(&403) {
            statuses.push(Ask::get("/").http1(demo.web).await.status.as_u16());
        }
        statuses
    };
    let plan = demo.plan.clone().filters(json!([filter("other", &json!({}))]));
    demo.running.write(&plan);
    let statuses = asked.await;
    assert!(
        statuses.iter().all(|status| [200, 403].contains(status)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&200));
}

#[tokio::test]
async fn a_request_that_waits_passes_filters_that_have_gone_meanwhile() {
    let (host, peer) = (Host::start().await, Peer::start("up").await);
    let mut marks = Guest::new();
    let mark = marks.text("x-marked");
    let adds = format!("(drop (call $add_header_map_value (i32.const 0) {mark} {mark})) (i32.const 0)");
    let marks = marks.on("proxy_on_request_headers", 3, &adds).module();
    let web = free_port();
    let plan = Plan::web(web, json!([to("/", "up", json!({}))])).cluster("up", [&peer], json!({}));
    let filters = json!([
        filter("waits", &json!({"allow_clusters": ["slow"]})),
        filter("marks", &json!({})),
    ]);
    let mut with = plan.clone().filters(filters);
    with.clusters.push(
        json!({"name": "slow", "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN",
        "hosts": [{"address": host.address()}]}),
    );
    let folder = tempfile::tempdir().unwrap();
    build(folder.path(), "waits", &waits_for("slow"));
    build(folder.path(), "marks", &marks);
    let running = with.run_in(folder, &[]);
    let asking = tokio::spawn(async move { Ask::get("/").http1(web).await });
    let mut stream = host.asked().await;
    running.apply(&plan).await;
    let after = Ask::get("/").http1(web).await;
    assert_eq!(
        after.json()["headers"]["x-marked"],
        Value::Null,
        "the filters have gone"
    );
    answer(&mut stream, "").await;
    let reply = asking.await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["headers"]["x-marked"], "x-marked");
}
