//! `proxy_grpc_call` and `proxy_grpc_stream`: functions that ask clusters of the data plane over gRPC.

use std::time::{Duration, Instant};

use layotto_proto::runtime::v1::{SayHelloRequest, SayHelloResponse};
use prost::Message;
use serde_json::json;

use super::{
    guests::{Guest, append, append_given},
    http_calls::Demo,
    peer::Peer,
    plan::runtime,
};
use crate::sidecar::free_port;

/// Adds the message of gRPC, buffer 5, to the reply.
fn message() -> String {
    let get = "(drop (call $get_buffer_bytes (i32.const 5) (i32.const 0) (i32.const 0x7fffffff)
        (i32.const 16) (i32.const 20)))";
    format!("{get} {}", append_given(1))
}

/// Adds the two digits of the status, which is `$2`, and what is said of it.
fn status() -> String {
    format!(
        "(i32.store8 (i32.const 32) (i32.add (i32.const 48) (i32.div_u (local.get $2) (i32.const 10))))
         (i32.store8 (i32.const 33) (i32.add (i32.const 48) (i32.rem_u (local.get $2) (i32.const 10))))
         {}
         (drop (call $get_status (i32.const 28) (i32.const 16) (i32.const 20)))
         {}",
        append(1, "(i32.const 32) (i32.const 2)"),
        append_given(1)
    )
}

const GO_ON: &str = "(drop (call $continue_stream (i32.const 0)))";

/// Pauses where `$a`, what the host answered, is OK; else that is the body.
fn pauses() -> String {
    format!(
        "(if (result i32) (local.get $a)
            (then
                (i32.store8 (i32.const 32) (i32.add (i32.const 48) (local.get $a)))
                {}
                (i32.const 0))
            (else (i32.const 1)))",
        append(1, "(i32.const 32) (i32.const 1)")
    )
}

/// A function that calls a method of a service, and answers with what came.
fn calls(cluster: &str, [service, method]: [&str; 2], metadata: &[(&str, &str)], sends: &[u8]) -> String {
    let mut guest = Guest::new();
    let [cluster, service, method] = [cluster, service, method].map(|text| guest.text(text));
    let (metadata, sends) = (guest.headers(metadata), guest.bytes(sends));
    let asks = format!(
        "(local.set $a (call $grpc_call {cluster} {service} {method} {metadata} {sends}
            (i32.const 300) (i32.const 24)))
         {}",
        pauses()
    );
    guest
        .on("proxy_on_request_headers", 3, &asks)
        .on("proxy_on_grpc_receive", 3, &format!("{} {GO_ON}", message()))
        .on("proxy_on_grpc_close", 3, &format!("{} {GO_ON}", status()))
        .module()
}

const UNARY: [&str; 2] = ["test.Echo", "Unary"];

#[tokio::test]
async fn a_function_answers_with_the_message_of_a_call() {
    let peer = Peer::start("up").await;
    let demo = Demo::run(
        &peer.addr().to_string(),
        &[
            (
                "echo",
                calls("up", UNARY, &[("x-of", "guest"), ("te", "mine")], b"hello"),
            ),
            ("empty", calls("up", UNARY, &[], b"")),
            ("missing", calls("up", ["test.Echo", "Nothing"], &[], b"")),
            ("slow", calls("up", UNARY, &[("x-slow", "20000")], b"")),
            ("forbidden", calls("other", UNARY, &[], b"")),
            ("nowhere", calls("nowhere", UNARY, &[], b"")),
        ],
    );
    assert_eq!(demo.ask("echo").await.text(), "hello");
    let seen = peer.seen().pop().unwrap();
    for (name, value) in [("x-of", "guest"), ("te", "trailers"), ("grpc-timeout", "300m")] {
        assert_eq!(seen[name], value);
    }
    assert_eq!(demo.ask("empty").await.text(), "");
    assert_eq!(demo.ask("missing").await.text(), "12no such method");
    let asked = Instant::now();
    let late = demo.ask("slow").await.text();
    let took = asked.elapsed();
    assert!(late.starts_with("04"), "{late}");
    assert!(
        (Duration::from_millis(300)..Duration::from_secs(10)).contains(&took),
        "{took:?}"
    );
    let requests = peer.requests();
    for id in ["forbidden", "nowhere"] {
        assert_eq!(demo.ask(id).await.text(), "4", "{id}");
    }
    assert_eq!(peer.requests(), requests);
}

#[tokio::test]
async fn a_function_asks_the_runtime_by_its_cluster() {
    let port = free_port();
    let request = SayHelloRequest {
        service_name: "helloworld".to_owned(),
        name: "guest".to_owned(),
        data: None,
    };
    let hello = calls(
        "up",
        ["spec.proto.runtime.v1.Runtime", "SayHello"],
        &[],
        &request.encode_to_vec(),
    );
    let hellos = json!({"hellos": {"helloworld": {"type": "helloworld", "hello": "greeting"}}});
    let demo = Demo::run_with(&format!("127.0.0.1:{port}"), &[("hello", hello)], |plan| {
        plan.listener(runtime(port, hellos))
    });
    let reply = demo.ask("hello").await;
    let reply = SayHelloResponse::decode(reply.body).unwrap();
    assert_eq!(reply.hello, "greeting, guest");
}

/// A function that opens a stream and sends a message over it, which is the last for `Server`;
/// `on_message` is done with each that comes. How many came before is at 40, the token at 24.
fn streams(method: &str, sends: &str, on_message: impl FnOnce(&mut Guest) -> String) -> String {
    let mut guest = Guest::new();
    let last = u32::from(method == "Server");
    let [cluster, service, method, sends] = ["up", "test.Echo", method, sends].map(|text| guest.text(text));
    let [initial, trailing, separator] = ["initial", " trailing ", " "].map(|text| guest.text(text));
    let metadata = guest.headers(&[("x-of", "guest")]);
    let kind = guest.text("content-type");
    let found = |map: u32, name: &str, text: &str| {
        // The map is there: its size and one value can be read.
        format!(
            "(if (i32.eqz (call $get_header_map_value (i32.const {map}) {name} (i32.const 16) (i32.const 20)))
                (then {}))",
            append(1, text)
        )
    };
    let grpc_status = guest.text("grpc-status");
    let on_message = on_message(&mut guest);
    let opens = format!(
        "(local.set $a (call $grpc_stream {cluster} {service} {method} {metadata} (i32.const 24)))
         (drop (call $grpc_send (i32.load (i32.const 24)) {sends} (i32.const {last})))
         {}",
        pauses()
    );
    let receives = format!(
        "{} {} {on_message}
         (i32.store (i32.const 40) (i32.add (i32.load (i32.const 40)) (i32.const 1)))",
        append(1, &separator),
        message()
    );
    guest
        .on("proxy_on_request_headers", 3, &opens)
        .on(
            "proxy_on_grpc_receive_initial_metadata",
            3,
            &found(4, &kind, &initial),
        )
        .on("proxy_on_grpc_receive", 3, &receives)
        .on(
            "proxy_on_grpc_receive_trailing_metadata",
            3,
            &found(5, &grpc_status, &trailing),
        )
        .on("proxy_on_grpc_close", 3, &format!("{} {GO_ON}", status()))
        .module()
}

/// Sends `text` as the last message when the first has come.
fn answers_the_first(text: &'static str) -> impl FnOnce(&mut Guest) -> String {
    move |guest| {
        let text = guest.text(text);
        format!(
            "(if (i32.eqz (i32.load (i32.const 40)))
                (then (drop (call $grpc_send (i32.load (i32.const 24)) {text} (i32.const 1)))))"
        )
    }
}

#[tokio::test]
async fn a_stream_goes_both_ways_until_both_have_ended_it() {
    let peer = Peer::start("up").await;
    let cancels = |_: &mut Guest| format!("(drop (call $grpc_cancel (i32.load (i32.const 24)))) {GO_ON}");
    let demo = Demo::run(
        &peer.addr().to_string(),
        &[
            ("bidi", streams("Bidi", "one", answers_the_first("two"))),
            ("server", streams("Server", "three times", |_| String::new())),
            ("cancels", streams("Bidi", "one", cancels)),
        ],
    );
    assert_eq!(demo.ask("bidi").await.text(), "initial one two trailing 00");
    assert_eq!(
        demo.ask("server").await.text(),
        "initial three times three times three times trailing 00"
    );
    assert_eq!(demo.ask("cancels").await.text(), "initial one");
    assert_eq!(peer.seen()[0]["x-of"], "guest");
}
