//! `proxy_http_call`: functions that ask clusters of the data plane.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    clients::{Ask, Reply},
    guests::{Guest, build, give, set},
    host::{Host, answer, closed},
    peer::Peer,
    plan::{Plan, Running},
};
use crate::sidecar::free_port;

/// A function that sends a request to `cluster` and pauses; `told` is done with the reply, and then
/// the request goes on. The number that the host answers is the body where it is not 0.
pub fn caller(
    cluster: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    trailers: &[(&str, &str)],
    told: impl FnOnce(&mut Guest) -> String,
) -> String {
    let mut guest = Guest::new();
    let to = guest.text(cluster);
    let mut all = vec![(":method", "POST"), (":authority", "asked.test")];
    all.extend(headers);
    let (headers, body) = (guest.headers(&all), guest.bytes(body));
    let trailers = match trailers {
        [] => "(i32.const 0) (i32.const 0)".to_owned(),
        some => guest.headers(some),
    };
    let no_reply = guest.text("no reply");
    let told = told(&mut guest);
    let asks = format!(
        "(local.set $a (call $http_call {to} {headers} {body} {trailers} (i32.const 300) (i32.const 24)))
         (if (result i32) (local.get $a)
            (then
                (i32.store8 (i32.const 32) (i32.add (i32.const 48) (local.get $a)))
                (drop (call $set_buffer_bytes (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 32) (i32.const 1)))
                (i32.const 0))
            (else (i32.const 1)))"
    );
    let answers = format!(
        "(if (local.get $2) (then {told}) (else {}))
         (drop (call $continue_stream (i32.const 0)))",
        set(1, &no_reply)
    );
    guest
        .on("proxy_on_request_headers", 3, &asks)
        .on("proxy_on_http_call_response", 5, &answers)
        .module()
}

/// Gives the body of the reply as its own.
pub fn whole(_: &mut Guest) -> String {
    format!(
        "(drop (call $get_buffer_bytes (i32.const 4) (i32.const 0) (i32.const 0x7fffffff) (i32.const 16) (i32.const 20)))
         {}",
        give(1)
    )
}

/// Gives a header, or with map 7 a trailer, of the reply as its own body.
fn field(map: u32, name: &'static str) -> impl FnOnce(&mut Guest) -> String {
    move |guest| {
        let name = guest.text(name);
        format!(
            "(drop (call $get_header_map_value (i32.const {map}) {name} (i32.const 16) (i32.const 20))) {}",
            give(1)
        )
    }
}

/// Functions that call clusters.
pub struct Demo {
    web: u16,
    running: Running,
}

impl Demo {
    /// Functions that may call `up`; its host is at `address`.
    pub fn run(address: &str, functions: &[(&str, String)]) -> Self {
        Self::run_with(address, functions, |plan| plan)
    }

    /// With more in the plan.
    pub fn run_with(address: &str, functions: &[(&str, String)], more: impl FnOnce(Plan) -> Plan) -> Self {
        let web = free_port();
        let route = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]);
        let plugin = |name: &str| -> Value {
            json!({"name": name, "allow_clusters": ["up", "nowhere"], "vm_config": {"path": format!("{name}.wasm")}})
        };
        let plugins = functions
            .iter()
            .map(|(name, _)| ((*name).to_owned(), plugin(name)));
        let plugins: serde_json::Map<_, _> = plugins.collect();
        let mut plan = Plan::web(web, route).filters(json!([{"type": "Layotto", "config": plugins}]));
        for name in ["up", "other"] {
            plan.clusters
                .push(json!({"name": name, "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN",
                "hosts": [{"address": address}]}));
        }
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in functions {
            build(folder.path(), name, text);
        }
        let running = more(plan).run_in(folder, &[]);
        Self { web, running }
    }

    /// Asks the function called `id`.
    pub async fn ask(&self, id: &str) -> Reply {
        Ask::get("/").header("id", id).http1(self.web).await
    }
}

#[tokio::test]
async fn a_function_answers_from_the_reply_of_a_cluster() {
    let peer = Peer::start("up").await;
    let request = [(":path", "/a?b=c"), ("x-of", "guest"), ("host", "ignored.test")];
    let demo = Demo::run(
        &peer.addr().to_string(),
        &[
            ("body", caller("up", &request, b"asked", &[], whole)),
            (
                "status",
                caller(
                    "up",
                    &[(":path", "/"), ("x-do", "status=418")],
                    b"",
                    &[],
                    field(6, ":status"),
                ),
            ),
            ("header", caller("up", &request, b"", &[], field(6, "X-Peer"))),
        ],
    );
    let echo: Value = serde_json::from_str(&demo.ask("body").await.text()).unwrap();
    assert_eq!(
        (&echo["method"], &echo["path"], &echo["body"]),
        (&json!("POST"), &json!("/a?b=c"), &json!("asked"))
    );
    assert_eq!(
        (&echo["host"], &echo["headers"]["x-of"]),
        (&json!("asked.test"), &json!("guest"))
    );
    assert_eq!(demo.ask("status").await.text(), "418");
    assert_eq!(demo.ask("header").await.text(), "up");
}

#[tokio::test]
async fn a_cluster_that_is_not_allowed_or_not_there_is_not_called() {
    let peer = Peer::start("up").await;
    let demo = Demo::run(
        &peer.addr().to_string(),
        &[
            ("forbidden", caller("other", &[(":path", "/")], b"", &[], whole)),
            ("missing", caller("nowhere", &[(":path", "/")], b"", &[], whole)),
            ("incomplete", caller("up", &[], b"", &[], whole)),
        ],
    );
    for id in ["forbidden", "missing", "incomplete"] {
        assert_eq!(demo.ask(id).await.text(), "2", "{id}");
    }
    assert_eq!(peer.requests(), 0);
}

#[tokio::test]
async fn grpc_and_its_trailers_go_both_ways() {
    let peer = Peer::start("up").await;
    let request = [
        (":path", "/test.Echo/Unary"),
        ("content-type", "application/grpc"),
    ];
    // One message of three bytes.
    let message = b"\0\0\0\0\x03abc";
    let demo = Demo::run(
        &peer.addr().to_string(),
        &[
            ("body", caller("up", &request, message, &[], whole)),
            (
                "trailer",
                caller(
                    "up",
                    &request,
                    message,
                    &[("x-end", "1")],
                    field(7, "grpc-status"),
                ),
            ),
        ],
    );
    assert_eq!(demo.ask("trailer").await.text(), "0");
    assert_eq!(demo.ask("body").await.body, &message[..]);
}

#[tokio::test]
async fn a_reply_that_takes_too_long_is_none() {
    let peer = Peer::start("up").await;
    let slow = caller("up", &[(":path", "/"), ("x-do", "slow=20000")], b"", &[], whole);
    let demo = Demo::run(&peer.addr().to_string(), &[("slow", slow)]);
    let asked = Instant::now();
    assert_eq!(demo.ask("slow").await.text(), "no reply");
    let took = asked.elapsed();
    assert!(
        (Duration::from_millis(300)..Duration::from_secs(10)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test]
async fn trailers_go_over_http1_too() {
    let host = Host::start().await;
    let sends = caller("up", &[(":path", "/")], b"body", &[("x-end", "1")], whole);
    let demo = Demo::run(&host.address(), &[("sends", sends)]);
    let host = async {
        let mut stream = host.accept().await;
        let mut seen = String::new();
        while !seen.ends_with("0\r\nx-end: 1\r\n\r\n") {
            let mut some = [0; 1024];
            let read = stream.read(&mut some).await.unwrap();
            assert!(read > 0, "{seen}");
            seen += std::str::from_utf8(&some[..read]).unwrap();
        }
        answer(&mut stream, "seen").await;
        seen
    };
    let (reply, seen) = tokio::join!(demo.ask("sends"), host);
    assert_eq!(reply.text(), "seen");
    assert!(
        seen.contains("trailer: x-end") && seen.contains("\r\n4\r\nbody\r\n"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_reply_that_is_too_large_is_none() {
    const LENGTH: usize = (4 << 20) + 1;
    let host = Host::start().await;
    let demo = Demo::run(
        &host.address(),
        &[("asks", caller("up", &[(":path", "/")], b"", &[], whole))],
    );
    let host = async {
        let mut stream = host.asked().await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // It is not read to its end.
        drop(stream.write_all(&vec![b'x'; LENGTH]).await);
    };
    let (reply, ()) = tokio::join!(demo.ask("asks"), host);
    assert_eq!(reply.text(), "no reply");
}

#[tokio::test]
async fn a_call_ends_with_the_caller_of_the_function() {
    let host = Host::start().await;
    // Without this the guest would give up by itself.
    let patient =
        caller("up", &[(":path", "/")], b"", &[], whole).replace("i32.const 300)", "i32.const 60000)");
    let demo = Demo::run(&host.address(), &[("asks", patient)]);
    closed(host.given_up(demo.ask("asks")).await).await;
    assert_eq!(demo.running.logged("panicked"), 0);
}
