//! The stream filter `proxywasm`, as a whole process: what a guest makes of proxied traffic.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tonic::Code;

use super::{
    clients::{Ask, Call, Outcome, channel, grpc},
    guests::{Guest, build, set},
    peer::Peer,
    plan::{Plan, Running, merged, to, until},
};
use crate::{limits::resident, sidecar::free_port};

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

#[tokio::test]
async fn a_request_waits_for_a_call_of_the_guest() {
    let mut guest = Guest::new();
    let to = guest.text("up");
    let headers = guest.headers(&[(":method", "GET"), (":path", "/asked"), (":authority", "a")]);
    let (x_peer, x_asked) = (guest.text("x-peer"), guest.text("x-asked"));
    let guest = guest
        .on(
            "proxy_on_request_headers",
            3,
            &format!(
                "(drop (call $http_call {to} {headers} (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                    (i32.const 5000) (i32.const 24)))
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
        .module();
    let peer = Peer::start("up").await;
    let demo = Demo::run_with(
        &peer.addr().to_string(),
        &guest,
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

/// Sees all bodies and trailers, and adds a trailer to the reply.
fn sees_all() -> String {
    let mut guest = Guest::new();
    let (name, value) = (guest.text("x-trailer"), guest.text("guest"));
    let adds = format!("(drop (call $add_header_map_value (i32.const 3) {name} {value})) (i32.const 0)");
    guest
        .on("proxy_on_request_body", 3, "(i32.const 0)")
        .on("proxy_on_request_trailers", 2, "(i32.const 0)")
        .on("proxy_on_response_body", 3, "(i32.const 0)")
        .on("proxy_on_response_trailers", 2, &adds)
        .module()
}

#[tokio::test]
async fn all_kinds_of_calls_pass() {
    let peer = Peer::start("up").await;
    let demo = Demo::run(&peer.addr().to_string(), &sees_all());
    for call in Call::ALL {
        let outcome = call.make(demo.web, &[], "body").await;
        assert!(outcome.is_ok(), "{call:?}: {outcome:?}");
        let messages = match outcome {
            Outcome::Grpc(messages) => messages.unwrap(),
            Outcome::Http(reply) => {
                assert_eq!(reply.json()["body"], json!("body"));
                continue;
            }
        };
        let expected: &[&str] = match call {
            Call::Unary => &["body"],
            Call::Client => &["bodybody"],
            Call::Server => &["body", "body", "body"],
            _ => &["body", "body"],
        };
        assert_eq!(messages, expected, "{call:?}");
    }
}

#[tokio::test]
async fn trailers_pass_and_can_be_added_to() {
    let peer = Peer::start("up").await;
    let demo = Demo::run(&peer.addr().to_string(), &sees_all());
    let mut client = tonic::client::Grpc::new(channel(demo.web).await);
    client.ready().await.unwrap();
    let path = Call::Server.path().parse().unwrap();
    let request = tonic::Request::new(Bytes::from("body"));
    let reply = client
        .server_streaming(request, path, crate::raw::Raw)
        .await
        .unwrap();
    let mut messages = reply.into_inner();
    while messages.message().await.unwrap().is_some() {}
    let trailers = messages.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("x-trailer").unwrap(), "guest");
}

// deviation: D151
#[tokio::test]
async fn a_message_comes_back_before_the_next_is_sent() {
    let peer = Peer::start("up").await;
    let demo = Demo::run(&peer.addr().to_string(), &sees_all());
    let mut client = tonic::client::Grpc::new(channel(demo.web).await);
    client.ready().await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let messages = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let path = Call::Bidi.path().parse().unwrap();
    sender.send(Bytes::from("0")).await.unwrap();
    let reply = client.streaming(tonic::Request::new(messages), path, crate::raw::Raw);
    let mut replies = reply.await.unwrap().into_inner();
    for at in 1..5 {
        let back = tokio::time::timeout(Duration::from_secs(20), replies.message());
        assert_eq!(back.await.unwrap().unwrap().unwrap(), (at - 1).to_string());
        sender.send(Bytes::from(at.to_string())).await.unwrap();
    }
}

async fn raw() -> (TcpListener, String) {
    let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = host.local_addr().unwrap().to_string();
    (host, address)
}

/// Takes a request in chunks to its end and sends `length` bytes back. The number of bytes that came
/// is the answer.
async fn exchange(host: &TcpListener, length: usize) -> usize {
    let (mut stream, _) = host.accept().await.unwrap();
    let (mut some, mut seen, mut end) = (vec![0; 1 << 16], 0, Vec::new());
    while !end.ends_with(b"\r\n0\r\n\r\n") {
        let read = stream.read(&mut some).await.unwrap();
        assert!(read > 0, "after {seen} bytes");
        seen += read;
        end.extend_from_slice(&some[read.saturating_sub(7)..read]);
        end.drain(..end.len().saturating_sub(7));
    }
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    some.fill(b'y');
    for _ in 0..length / some.len() {
        stream.write_all(&some).await.unwrap();
    }
    seen
}

#[tokio::test]
async fn large_bodies_stream_in_little_memory() {
    const PIECE: usize = 1 << 16;
    const LENGTH: usize = 128 << 20;
    let (host, address) = raw().await;
    let demo = Demo::run(&address, &sees_all());
    let before = resident(&demo.running.process);
    let client = async {
        let mut stream = TcpStream::connect(("127.0.0.1", demo.web)).await.unwrap();
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut some = vec![b'x'; PIECE];
        for _ in 0..LENGTH / PIECE {
            stream.write_all(&some).await.unwrap();
        }
        let (mut seen, mut most) = (0, 0);
        while seen < LENGTH {
            let read = stream.read(&mut some).await.unwrap();
            assert!(read > 0, "after {seen} bytes");
            seen += some[..read].iter().filter(|byte| **byte == b'y').count();
            most = most.max(resident(&demo.running.process));
        }
        most
    };
    let (most, seen) = tokio::join!(client, exchange(&host, LENGTH));
    assert!(seen > LENGTH, "{seen}");
    let grown = most.saturating_sub(before) >> 20;
    println!(
        "resident memory grew by {grown} MiB while 2 x {} MiB passed",
        LENGTH >> 20
    );
    assert!(grown < 32, "{grown} MiB");
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

// deviation: D151
#[tokio::test]
async fn a_body_that_a_guest_holds_is_bounded() {
    let guest = Guest::new()
        .on("proxy_on_request_body", 3, "(i32.eqz (local.get $2))")
        .module();
    let peer = Peer::start("up").await;
    let demo = Demo::run(&peer.addr().to_string(), &guest);
    let ask = |length: usize| Ask::new("POST", "/").body("x".repeat(length));
    assert_eq!(
        ask(3 << 20).http1(demo.web).await.json()["body"]
            .as_str()
            .unwrap()
            .len(),
        3 << 20
    );
    let refused = ask(5 << 20).http2(demo.web).await;
    assert_eq!(refused.status, 413, "{}", refused.text());
}

#[tokio::test]
async fn a_guest_that_fails_in_a_reply_s_body_breaks_it_off() {
    let guest = Guest::new()
        .on("proxy_on_response_body", 3, "unreachable")
        .module();
    let peer = Peer::start("up").await;
    let demo = Demo::run(&peer.addr().to_string(), &guest);
    let mut client = super::clients::Http1::connect(demo.web).await;
    let outcome = client.send(&Ask::get("/")).await;
    assert!(outcome.is_err(), "{outcome:?}");
    demo.running.wait_for_log("unreachable").await;
}

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
    let (host, address) = raw().await;
    let demo = Demo::run(&address, &ends().module());
    let ask = Ask::get("/");
    let asking = ask.http1(demo.web);
    let host = async {
        let (mut stream, _) = host.accept().await.unwrap();
        let mut some = [0; 1024];
        assert!(stream.read(&mut some).await.unwrap() > 0);
        stream
    };
    let mut stream = tokio::select! {
        _ = asking => panic!("there is no reply"),
        stream = host => stream,
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 16])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    demo.running.wait_for_log("guest: done").await;
    demo.running.wait_for_log("guest: log").await;
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
