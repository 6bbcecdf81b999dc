//! Bodies and trailers that pass a guest, of all kinds of calls.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    super::{
        clients::{Http1, Outcome},
        host::Host,
    },
    *,
};
use crate::limits::resident;

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

/// Takes a request in chunks to its end and sends `length` bytes back. The number of bytes that came
/// is the answer.
async fn exchange(host: &Host, length: usize) -> usize {
    let mut stream = host.accept().await;
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
    let host = Host::start().await;
    let demo = Demo::run(&host.address(), &sees_all());
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
    let mut client = Http1::connect(demo.web).await;
    let outcome = client.send(&Ask::get("/")).await;
    assert!(outcome.is_err(), "{outcome:?}");
    demo.running.wait_for_log("unreachable").await;
}
