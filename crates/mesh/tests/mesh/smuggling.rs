//! What is sent over HTTP/1 to be read in two ways, or to wear the server out.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::service_fn;

use crate::support::{Server, hello, loopback, until_closed};

type Seen = Arc<Mutex<Vec<String>>>;

/// A server that notes each request whose body it could read to its end.
async fn recording() -> (Server, Seen) {
    let seen = Seen::default();
    let notes = seen.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let notes = notes.clone();
        async move {
            let (path, host) = (
                request.uri().path().to_owned(),
                request.headers().get("host").cloned(),
            );
            let host = host.map(|host| host.to_str().unwrap().to_owned());
            let Ok(body) = request.into_body().collect().await else {
                return Ok::<_, Infallible>(Response::builder().status(400).body(String::new()).unwrap());
            };
            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            notes.lock().unwrap().push(format!("{path} {body}"));
            Ok(Response::new(format!("host is {}", host.unwrap_or_default())))
        }
    });
    (Server::start(&loopback(), service).await, seen)
}

async fn answer(server: &Server, text: &str) -> String {
    let mut client = server.connect().await;
    client.write_all(text.as_bytes()).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), until_closed(&mut client)).await;
    String::from_utf8(answer.expect("the server closes")).unwrap()
}

#[tokio::test]
async fn heads_that_can_be_read_in_two_ways_are_refused_and_end_the_connection() {
    let (server, seen) = recording().await;
    for head in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "transfer-encoding: chunked\r\nx: y\r\ncontent-length: 5\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5\r\ncontent-length: 5\r\n",
        "content-length: 5, 5\r\n",
        "content-length: +5\r\n",
        "content-length: -1\r\n",
        "content-length: 5 5\r\n",
        "content-length: 0x5\r\n",
        "content-length: 99999999999999999999\r\n",
        "content-length : 5\r\n",
        "content-length\t: 5\r\n",
        "content-length:\r\n 5\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: \x0bchunked\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding : chunked\r\n",
        " transfer-encoding: chunked\r\n",
        "transfer-encoding\r\n",
        "x: a\ncontent-length: 5\r\n",
        "x: a\rcontent-length: 5\r\n",
        "x: a\0b\r\n",
        "x\0: a\r\n",
        "x: a\r\r\n",
        "host: other\r\n",
        ": empty\r\n",
        "x y: z\r\n",
    ] {
        let text = format!(
            "POST / HTTP/1.1\r\nhost: a\r\n{head}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        let answer = answer(&server, &text).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{head:?}");
    }
    assert!(seen.lock().unwrap().is_empty(), "{seen:?}");
}

#[tokio::test]
async fn request_lines_and_hosts_that_are_none_are_refused() {
    let (server, seen) = recording().await;
    for text in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\n\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nhost: a\r\n\r\n",
        "GET / x HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n",
        "G\0T / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nhost: a\r\n\r\n",
        "GET /\r\n\r\n",
        "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let answer = answer(&server, text).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") || answer.is_empty(),
            "{text:?}: {answer}"
        );
    }
    assert!(seen.lock().unwrap().is_empty(), "{seen:?}");
}

#[tokio::test]
async fn a_chunked_body_that_is_not_exact_is_never_whole() {
    let (server, seen) = recording().await;
    for chunks in [
        "3 \r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "g\r\nabc\r\n0\r\n\r\n",
        "10000000000000003\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3;a\nabc\r\n0\r\n\r\n",
        "3;a=\"\r\"\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabc\r\n0\r\nx: y\n\r\n",
        "3\r\nabc\r\n0\r\ncontent-length: 9\r\n\r\n",
    ] {
        let text = format!(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        let answer = answer(&server, &text).await;
        assert!(answer.matches("HTTP/1.1").count() <= 1, "{chunks:?}: {answer}");
        assert!(!answer.contains(" 200 "), "{chunks:?}: {answer}");
    }
    assert!(seen.lock().unwrap().is_empty(), "{seen:?}");
}

#[tokio::test]
async fn a_request_before_the_bad_one_is_answered_however_the_bytes_are_cut() {
    let (server, seen) = recording().await;
    let text = "POST /good HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n\
                POST /bad HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    for at in (1..text.len()).step_by(7) {
        let (head, tail) = text.split_at(at);
        let mut client = server.connect().await;
        client.write_all(head.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        client.write_all(tail.as_bytes()).await.ok();
        let answer = String::from_utf8(until_closed(&mut client).await).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains("HTTP/1.1 400 "),
            "{at}: {answer}"
        );
    }
    assert!(
        seen.lock().unwrap().iter().all(|request| request == "/good abc"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn the_target_of_a_request_goes_before_its_host_field() {
    let (server, _) = recording().await;
    for (target, host, expected) in [
        ("http://inner:81/", "outer", "inner:81"),
        ("http://inner/", "inner", "inner"),
        ("http://me@inner/", "outer", "inner"),
        ("/", "outer", "outer"),
    ] {
        let text = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = answer(&server, &text).await;
        assert!(
            answer.ends_with(&format!("host is {expected}")),
            "{target}: {answer}"
        );
    }
}

#[tokio::test]
async fn heads_beyond_the_limits_are_refused() {
    let server = Server::start(&loopback(), service_fn(hello)).await;
    let many: String = (0..101).map(|at| format!("x{at}: y\r\n")).collect();
    let long = "x".repeat(100_000);
    for (text, statuses) in [
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"), [431, 431]),
        (
            format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n"),
            [431, 431],
        ),
        (format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n"), [414, 431]),
        (format!("GET /{long}{long}"), [414, 431]),
    ] {
        let mut client = server.connect().await;
        client.write_all(text.as_bytes()).await.ok();
        let mut status = [0; 12];
        client.read_exact(&mut status).await.unwrap();
        let status = String::from_utf8_lossy(&status).into_owned();
        assert!(
            statuses
                .iter()
                .any(|expected| status == format!("HTTP/1.1 {expected}")),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_body_that_pauses_too_long_ends_the_connection_and_one_that_goes_on_does_not() {
    let mut config = loopback();
    config.body_timeout = Some(Duration::from_millis(200));
    let service = service_fn(|request: Request<Incoming>| async {
        let whole = request.into_body().collect().await.is_ok();
        Ok::<_, Infallible>(Response::new(whole.to_string()))
    });
    let server = Server::start(&config, service).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 8\r\n\r\n";
    let mut patient = server.connect().await;
    patient.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        patient.write_all(b"x").await.unwrap();
    }
    assert!(until_closed(&mut patient).await.ends_with(b"true"));
    let mut stalled = server.connect().await;
    stalled.write_all(head.as_bytes()).await.unwrap();
    stalled.write_all(b"x").await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), until_closed(&mut stalled))
        .await
        .unwrap();
    assert!(!answer.ends_with(b"true"));
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_reply_is_cut() {
    let mut config = loopback();
    config.body_timeout = Some(Duration::from_millis(200));
    let dropped = Arc::new(tokio::sync::Notify::new());
    let end = dropped.clone();
    let service = service_fn(move |_: Request<Incoming>| {
        let guard = Guard(end.clone());
        let piece = move |_| {
            let _held = &guard;
            Ok::<_, Infallible>(hyper::body::Frame::data(bytes::Bytes::from(vec![0_u8; 1 << 16])))
        };
        let pieces = futures::StreamExt::map(futures::stream::iter(0_usize..), piece);
        std::future::ready(Ok::<_, Infallible>(Response::new(
            http_body_util::StreamBody::new(pieces),
        )))
    });
    let server = Server::start(&config, service).await;
    let mut client = server.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    tokio::time::timeout(Duration::from_secs(5), dropped.notified())
        .await
        .unwrap();
}

/// Tells when it is dropped.
struct Guard(Arc<tokio::sync::Notify>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_head_that_trickles_is_cut_although_it_never_pauses() {
    let mut config = loopback();
    config.header_timeout = Duration::from_millis(200);
    config.idle_timeout = Some(Duration::from_secs(60));
    let server = Server::start(&config, service_fn(hello)).await;
    let mut client = server.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx: ")
        .await
        .unwrap();
    let (mut read, mut write) = client.split();
    let trickle = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if write.write_all(b"x").await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), async {
        tokio::select! {
            _ = until_closed(&mut read) => {}
            () = trickle => {}
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn between_requests_a_connection_may_be_idle_longer_than_a_head_may_take() {
    let mut config = loopback();
    config.header_timeout = Duration::from_millis(50);
    config.idle_timeout = Some(Duration::from_secs(60));
    let server = Server::start(&config, service_fn(hello)).await;
    let mut client = server.connect().await;
    for _ in 0..2 {
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            assert!(client.read_buf(&mut answer).await.unwrap() > 0);
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// A server that leaves HTTP to send back what it gets, and a client of it that did, too.
async fn tunnel() -> (Server, tokio::net::TcpStream) {
    let service = service_fn(|mut request: Request<Incoming>| async move {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let (mut read, mut write) = tokio::io::split(&mut stream);
            tokio::io::copy(&mut read, &mut write).await.ok();
        });
        let answer = Response::builder().status(101).header("upgrade", "echo");
        Ok::<_, Infallible>(
            answer
                .header("connection", "upgrade")
                .body(String::new())
                .unwrap(),
        )
    });
    let server = Server::start(&loopback(), service).await;
    let mut client = server.connect().await;
    let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert!(client.read_buf(&mut answer).await.unwrap() > 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    (server, client)
}

#[tokio::test]
async fn a_connection_that_left_http_carries_any_bytes_and_counts_until_it_ends() {
    let (server, mut client) = tunnel().await;
    client.write_all(b"\0\n any: bytes\n\n").await.unwrap();
    let mut echo = [0; 15];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"\0\n any: bytes\n\n");
    assert_eq!(server.connections.open(), 1);
    drop(client);
    server.signal.drain().await;
    assert_eq!(server.connections.open(), 0);
}

#[tokio::test]
async fn a_connection_that_left_http_is_cut_at_the_end_of_the_drain() {
    let (server, mut client) = tunnel().await;
    assert!(!server.signal.drain_within(Duration::from_millis(50)).await);
    assert!(until_closed(&mut client).await.is_empty());
    assert_eq!(server.connections.open(), 0);
}
