use std::time::Duration;

use layotto_mesh::listener::Protocol;
use tokio::io::AsyncWriteExt;
use tower::service_fn;

use crate::support::{Server, get, grpc, hello, http1, http2, loopback, text, until_closed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_are_served_at_once() {
    let server = Server::start(&loopback(), service_fn(hello)).await;
    let mut clients = Vec::new();
    for _ in 0..500 {
        let (mut one, _) = http1(server.connect().await).await;
        let (mut two, _) = http2(server.connect().await).await;
        assert_eq!(text(one.send_request(get("/")).await.unwrap()).await, "hello");
        assert_eq!(text(two.send_request(grpc("/")).await.unwrap()).await, "hello");
        clients.push((one, two));
    }
    assert_eq!(server.connections.open(), 1000);
    let again = clients.iter_mut().map(|(one, two)| async {
        one.ready().await.unwrap();
        assert_eq!(text(one.send_request(get("/")).await.unwrap()).await, "hello");
        assert_eq!(text(two.send_request(grpc("/")).await.unwrap()).await, "hello");
    });
    futures::future::join_all(again).await;
    drop(clients);
    server.signal.drain().await;
    assert_eq!(
        (server.connections.open(), server.connections.accepted()),
        (0, 1000)
    );
}

#[tokio::test]
async fn slow_and_silent_clients_are_closed() {
    let mut config = loopback();
    config.header_timeout = Duration::from_millis(50);
    let server = Server::start(&config, service_fn(hello)).await;
    for sent in [&b""[..], b"PRI * H", b"GET / HTTP/1.1\r\nhost: te"] {
        let mut client = server.connect().await;
        client.write_all(sent).await.unwrap();
        let answer = until_closed(&mut client).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed() {
    let mut config = loopback();
    config.idle_timeout = Some(Duration::from_millis(40));
    let server = Server::start(&config, service_fn(hello)).await;
    let (mut client, connection) = http2(server.connect().await).await;
    assert_eq!(text(client.send_request(grpc("/")).await.unwrap()).await, "hello");
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn beyond_the_limit_a_connection_waits_for_a_place() {
    let mut config = loopback();
    config.max_connections = 1;
    let server = Server::start(&config, service_fn(hello)).await;
    let (mut first, first_ends) = http1(server.connect().await).await;
    assert_eq!(text(first.send_request(get("/")).await.unwrap()).await, "hello");

    let (mut second, _) = http1(server.connect().await).await;
    let mut answer = std::pin::pin!(second.send_request(get("/")));
    assert!(futures::poll!(answer.as_mut()).is_pending());
    // A round trip on the first proves that the server ran and let the second wait.
    first.ready().await.unwrap();
    assert_eq!(text(first.send_request(get("/")).await.unwrap()).await, "hello");
    assert_eq!(server.connections.accepted(), 1);

    drop(first);
    first_ends.await.unwrap().unwrap();
    assert_eq!(text(answer.await.unwrap()).await, "hello");
    assert_eq!((server.connections.open(), server.connections.accepted()), (1, 2));
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let mut config = loopback();
    config.max_header_bytes = 8192;
    let server = Server::start(&config, service_fn(hello)).await;
    let long = "x".repeat(9000);
    let (mut one, _) = http1(server.connect().await).await;
    let mut request = get("/");
    request.headers_mut().insert("long", long.parse().unwrap());
    assert_eq!(one.send_request(request).await.unwrap().status(), 431);

    let (mut two, _) = http2(server.connect().await).await;
    assert_eq!(text(two.send_request(grpc("/")).await.unwrap()).await, "hello");
    let mut request = grpc("/");
    request.headers_mut().insert("long", long.parse().unwrap());
    assert!(
        two.send_request(request)
            .await
            .is_ok_and(|answer| answer.status() == 431)
    );
    assert_eq!(text(two.send_request(grpc("/")).await.unwrap()).await, "hello");
}

#[tokio::test]
async fn a_listener_speaks_only_its_protocol() {
    let mut config = loopback();
    config.protocol = Protocol::Http2;
    let server = Server::start(&config, service_fn(hello)).await;
    let mut one = server.connect().await;
    one.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        .await
        .unwrap();
    assert!(until_closed(&mut one).await.is_empty());
    let (mut two, _) = http2(server.connect().await).await;
    assert_eq!(text(two.send_request(grpc("/")).await.unwrap()).await, "hello");

    config.protocol = Protocol::Http1;
    let server = Server::start(&config, service_fn(hello)).await;
    let mut two = server.connect().await;
    two.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    assert!(until_closed(&mut two).await.is_empty());
}

#[tokio::test]
async fn nonsense_closes_only_its_own_connection() {
    let server = Server::start(&loopback(), service_fn(hello)).await;
    let (mut good, _) = http1(server.connect().await).await;
    assert_eq!(text(good.send_request(get("/")).await.unwrap()).await, "hello");
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        let mut bad = server.connect().await;
        bad.write_all(nonsense).await.unwrap();
        bad.shutdown().await.ok();
        until_closed(&mut bad).await;
    }
    good.ready().await.unwrap();
    assert_eq!(text(good.send_request(get("/")).await.unwrap()).await, "hello");
}
