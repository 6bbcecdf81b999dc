//! The stream filter `proxywasm`, as a whole process: what a guest makes of proxied traffic.

mod bodies;
mod ends;
mod health;

use serde_json::{Value, json};
use tonic::Code;

use super::{
    clients::{Ask, Call, channel, grpc},
    guests::{Guest, build, set},
    peer::Peer,
    plan::{Plan, Running, merged, to, until},
};
use crate::sidecar::free_port;

/// A listener with the filter before routes to a cluster.
struct Demo {
    web: u16,
    plan: Plan,
    running: Running,
}

/// The filter with a guest called `guest`.
fn filter(guest: &str, more: &Value) -> Value {
    let config = json!({"vm_config": {"path": format!("{guest}.wasm")}});
    json!({"type": "proxywasm", "config": merged(config, more)})
}

impl Demo {
    fn run(address: &str, guest: &str) -> Self {
        Self::run_with(address, guest, &json!({}))
    }

    fn run_with(address: &str, guest: &str, more: &Value) -> Self {
        let web = free_port();
        let mut plan =
            Plan::web(web, json!([to("/", "up", json!({}))])).filters(json!([filter("guest", more)]));
        plan.clusters
            .push(json!({"name": "up", "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN",
            "hosts": [{"address": address}]}));
        let folder = tempfile::tempdir().unwrap();
        build(folder.path(), "guest", guest);
        let running = plan.run_in(folder, &[]);
        Self { web, plan, running }
    }
}

#[tokio::test]
async fn a_guest_changes_headers_both_ways_and_with_them_the_route() {
    let mut guest = Guest::new();
    let [old, new, x_in, x_gone, x_out, x_removed] =
        [":path", "/new?a=b", "x-in", "x-gone", "x-out", "x-removed"].map(|text| guest.text(text));
    let (status, created, path) = (
        guest.text(":status"),
        guest.text("201"),
        guest.text("request\0path"),
    );
    let guest = guest
        .on(
            "proxy_on_request_headers",
            3,
            &format!(
                "(drop (call $add_header_map_value (i32.const 0) {x_in} {old}))
                 (drop (call $remove_header_map_value (i32.const 0) {x_gone}))
                 (drop (call $replace_header_map_value (i32.const 0) {old} {new}))
                 (i32.const 0)"
            ),
        )
        .on(
            "proxy_on_response_headers",
            3,
            // What the context learned of the request is still there with the reply.
            &format!(
                "(drop (call $get_property {path} (i32.const 16) (i32.const 20)))
                 (drop (call $add_header_map_value (i32.const 2) {x_out}
                    (i32.load (i32.const 16)) (i32.load (i32.const 20))))
                 (drop (call $remove_header_map_value (i32.const 2) {x_removed}))
                 (drop (call $replace_header_map_value (i32.const 2) {status} {created}))
                 (i32.const 0)"
            ),
        )
        .module();
    let peer = Peer::start("up").await;
    let web = free_port();
    let routes =
        json!([to("/new", "up", json!({})), {"match": {"prefix": "/"}, "direct_response": {"status": 404}}]);
    let plan = Plan::web(web, routes)
        .filters(json!([filter("guest", &json!({}))]))
        .cluster("up", [&peer], json!({}));
    let folder = tempfile::tempdir().unwrap();
    build(folder.path(), "guest", &guest);
    let _running = plan.run_in(folder, &[]);
    let ask = Ask::new("POST", "/old")
        .header("x-gone", "1")
        .header("x-stays", "2")
        .body("as it was");
    for reply in [ask.http1(web).await, ask.http2(web).await] {
        assert_eq!(reply.status, 201);
        assert_eq!(
            (reply.header("x-out"), reply.header("x-removed")),
            ("/new?a=b", "")
        );
        let echo = reply.json();
        assert_eq!(
            (&echo["path"], &echo["body"]),
            (&json!("/new?a=b"), &json!("as it was"))
        );
        assert_eq!(
            (&echo["headers"]["x-in"], &echo["headers"]["x-stays"]),
            (&json!(":path"), &json!("2"))
        );
        assert_eq!(echo["headers"]["x-gone"], Value::Null);
    }
}

/// Pauses a body until its end, and then has a text in the place of it.
fn replaces(guest: &mut Guest, buffer: u32, text: &str) -> String {
    let text = guest.text(text);
    format!(
        "(if (result i32) (local.get $2) (then {} (i32.const 0)) (else (i32.const 1)))",
        set(buffer, &text)
    )
}

#[tokio::test]
async fn a_guest_changes_bodies_both_ways() {
    let mut guest = Guest::new();
    let (request, reply) = (
        replaces(&mut guest, 0, "a longer body than before"),
        replaces(&mut guest, 1, "short"),
    );
    let guest = guest
        .on("proxy_on_request_body", 3, &request)
        .on("proxy_on_response_body", 3, &reply)
        .module();
    let peer = Peer::start("up").await;
    let demo = Demo::run(&peer.addr().to_string(), &guest);
    let ask = Ask::new("POST", "/").body("x".repeat(300_000));
    for reply in [ask.http1(demo.web).await, ask.http2(demo.web).await] {
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "short"));
    }
    let lengths: Vec<_> = peer
        .seen()
        .iter()
        .map(|headers| headers.get("content-length").cloned())
        .collect();
    assert_eq!(lengths, [None, None], "the length was another's");
    // Without a body there is nothing to change.
    assert_eq!(Ask::get("/").http1(demo.web).await.text(), "short");
    assert_eq!(peer.requests(), 3);
}

#[tokio::test]
async fn a_request_body_that_was_changed_is_what_the_host_gets() {
    let mut guest = Guest::new();
    let changed = replaces(&mut guest, 0, "changed");
    let guest = guest.on("proxy_on_request_body", 3, &changed).module();
    let peer = Peer::start("up").await;
    let demo = Demo::run(&peer.addr().to_string(), &guest);
    let echo = Ask::new("POST", "/")
        .body("x".repeat(100_000))
        .http1(demo.web)
        .await
        .json();
    assert_eq!(echo["body"], json!("changed"));
}

/// Holds a request until a cluster has answered, and adds the name of who did.
fn waits_for(cluster: &str) -> String {
    let mut guest = Guest::new();
    let to = guest.text(cluster);
    let headers = guest.headers(&[(":method", "GET"), (":path", "/asked"), (":authority", "a")]);
    let (x_peer, x_asked) = (guest.text("x-peer"), guest.text("x-asked"));
    guest
        .on(
            "proxy_on_request_headers",
            3,
            &format!(
                "(drop (call $http_call {to} {headers} (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                    (i32.const 60000) (i32.const 24)))
                 (i32.const 1)"
            ),
        )
        .on(
            "proxy_on_http_call_response",
            5,
            &format!(
                "(drop (call $get_header_map_value (i32.const 6) {x_peer} (i32.const 16) (i32.const 20)))
                 (drop (call $add_header_map_value (i32.const 0) {x_asked}
                    (i32.load (i32.const 16)) (i32.load (i32.const 20))))
                 (drop (call $continue_stream (i32.const 0)))"
            ),
        )
        .module()
}

#[tokio::test]
async fn a_request_waits_for_a_call_of_the_guest() {
    let peer = Peer::start("up").await;
    let demo = Demo::run_with(
        &peer.addr().to_string(),
        &waits_for("up"),
        &json!({"allow_clusters": ["up"]}),
    );
    let echo = Ask::new("POST", "/own").body("body").http1(demo.web).await.json();
    assert_eq!(
        (&echo["path"], &echo["headers"]["x-asked"], &echo["body"]),
        (&json!("/own"), &json!("up"), &json!("body"))
    );
    assert_eq!(peer.requests(), 2);
}

/// Answers by itself from a callback.
fn answers(at: &str) -> String {
    let mut guest = Guest::new();
    let (text, headers) = (guest.text("not here"), guest.headers(&[("x-own", "1")]));
    let answers = format!(
        "(drop (call $send_local_response (i32.const 403) (i32.const 0) (i32.const 0) {text} {headers} (i32.const -1)))
         (i32.const 1)"
    );
    guest.on(at, 3, &answers).module()
}

#[tokio::test]
async fn a_guest_answers_by_itself_at_every_stage() {
    let stages = [
        ("proxy_on_request_headers", 0),
        ("proxy_on_request_body", 1),
        ("proxy_on_response_headers", 1),
    ];
    for (stage, most) in stages {
        let peer = Peer::start("up").await;
        let demo = Demo::run(&peer.addr().to_string(), &answers(stage));
        let reply = Ask::new("POST", "/").body("body").http1(demo.web).await;
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (403, "not here"),
            "{stage}"
        );
        assert_eq!(
            (reply.header("x-own"), reply.header("x-peer")),
            ("1", ""),
            "{stage}"
        );
        assert!(peer.requests() <= most, "{stage}");
        let refused = grpc(&channel(demo.web).await, Call::Unary, &[], "body")
            .await
            .unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::PermissionDenied, "not here"),
            "{stage}"
        );
    }
}

#[tokio::test]
async fn what_a_guest_answers_to_a_request_passes_it_as_a_reply() {
    let mut guest = Guest::new();
    let [refused, body, name, seen] =
        ["refused", "seen again", "x-seen", "reply"].map(|text| guest.text(text));
    let [status, status_of] = ["x-status", ":status"].map(|text| guest.text(text));
    let answers = format!(
        "(drop (call $send_local_response (i32.const 403) (i32.const 0) (i32.const 0) {refused}
            (i32.const 0) (i32.const 0) (i32.const -1)))
         (i32.const 1)"
    );
    let sees = format!(
        "(drop (call $add_header_map_value (i32.const 2) {name} {seen}))
         (drop (call $get_header_map_value (i32.const 2) {status_of} (i32.const 16) (i32.const 20)))
         (drop (call $add_header_map_value (i32.const 2) {status}
            (i32.load (i32.const 16)) (i32.load (i32.const 20))))
         (i32.const 0)"
    );
    let guest = guest
        .on("proxy_on_request_headers", 3, &answers)
        .on("proxy_on_response_headers", 3, &sees)
        .on(
            "proxy_on_response_body",
            3,
            &format!("{} (i32.const 0)", set(1, &body)),
        )
        .module();
    let peer = Peer::start("up").await;
    let demo = Demo::run(&peer.addr().to_string(), &guest);
    let ask = Ask::new("POST", "/").body("body");
    for reply in [ask.http1(demo.web).await, ask.http2(demo.web).await] {
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (403, "seen again")
        );
        assert_eq!(
            (reply.header("x-seen"), reply.header("x-status")),
            ("reply", "403")
        );
    }
    // Over gRPC it has no body, and the status of a reply that has one.
    let refused = grpc(&channel(demo.web).await, Call::Unary, &[], "body")
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::PermissionDenied, "refused")
    );
    for (name, value) in [("x-seen", "reply"), ("x-status", "200")] {
        assert_eq!(refused.metadata().get(name).unwrap(), value);
    }
    assert_eq!(peer.requests(), 0);
}

// deviation: D150
#[tokio::test]
async fn what_a_filter_cannot_judge_does_not_pass() {
    let peer = Peer::start("up").await;
    let trap = Guest::new()
        .on("proxy_on_request_headers", 3, "unreachable")
        .module();
    let endless = Guest::new()
        .on("proxy_on_request_headers", 3, "(loop (br 0)) unreachable")
        .module();
    let stuck = Guest::new()
        .on("proxy_on_request_headers", 3, "(i32.const 1)")
        .module();
    let late = Guest::new()
        .on("proxy_on_response_headers", 3, "unreachable")
        .module();
    for (guest, status) in [(trap, 500), (endless, 504), (stuck, 500), (late, 500)] {
        let short = json!({"vm_config": {"path": "guest.wasm", "cpu": 50}});
        let demo = Demo::run_with(&peer.addr().to_string(), &guest, &short);
        assert_eq!(Ask::get("/").http1(demo.web).await.status, status);
    }
    assert_eq!(peer.requests(), 1, "only the reply was looked at");
    let demo = Demo::run_with(
        &peer.addr().to_string(),
        "(module)",
        &json!({"vm_config": {"path": "away.wasm"}}),
    );
    assert_eq!(Ask::get("/").http1(demo.web).await.status, 503);
    let refused = grpc(&channel(demo.web).await, Call::Unary, &[], "body")
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(peer.requests(), 1);
    build(demo.running.folder.path(), "away", &Guest::new().module());
    until("the file is loaded", async || {
        Ask::get("/").http1(demo.web).await.status == 200
    })
    .await;
}
