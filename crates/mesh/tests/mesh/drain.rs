use std::{
    convert::Infallible,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering::SeqCst},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc},
};
use tower::{Service, service_fn};

use crate::support::{Server, get, grpc, hello, http1, http2, loopback, text, until_closed};

/// A handler that says when it was entered and answers when it may.
#[derive(Clone, Default)]
struct Gate {
    entered: Arc<Notify>,
    open: Arc<Notify>,
    /// Calls that neither answered nor were dropped.
    inside: Arc<AtomicUsize>,
}

struct Inside(Arc<AtomicUsize>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Gate {
    fn service(
        &self,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<Full<Bytes>>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static {
        let gate = self.clone();
        service_fn(move |_: Request<Incoming>| {
            let gate = gate.clone();
            async move {
                gate.inside.fetch_add(1, SeqCst);
                let _inside = Inside(gate.inside.clone());
                gate.entered.notify_one();
                gate.open.notified().await;
                Ok(Response::new(Full::from("done")))
            }
        })
    }
}

#[tokio::test]
async fn a_request_in_flight_is_answered_and_then_the_connection_closes() {
    let gate = Gate::default();
    let server = Server::start(&loopback(), gate.service()).await;
    let (mut client, connection) = http1(server.connect().await).await;
    let answer = tokio::spawn(async move { client.send_request(get("/")).await.unwrap() });
    gate.entered.notified().await;

    server.signal.begin();
    server.accepting.await.unwrap();
    assert_eq!(server.connections.open(), 1);
    gate.open.notify_one();
    let answer = answer.await.unwrap();
    assert_eq!(answer.headers()["connection"], "close");
    assert_eq!(text(answer).await, "done");
    server.signal.drain().await;
    connection.await.unwrap().unwrap();
    assert_eq!(server.connections.open(), 0);
}

#[tokio::test]
async fn http2_requests_in_flight_are_answered_and_new_ones_are_not_taken() {
    let gate = Gate::default();
    let server = Server::start(&loopback(), gate.service()).await;
    let (mut client, connection) = http2(server.connect().await).await;
    let first = client.send_request(grpc("/a"));
    let second = client.send_request(grpc("/b"));
    let first = tokio::spawn(first);
    let second = tokio::spawn(second);
    while gate.inside.load(SeqCst) < 2 {
        gate.entered.notified().await;
    }

    server.signal.begin();
    server.accepting.await.unwrap();
    // The farewell is an exchange: wait until this client has seen its end.
    while client.ready().await.is_ok() && client.send_request(grpc("/c")).await.is_ok() {
        gate.open.notify_one();
    }
    gate.open.notify_waiters();
    for answer in [first, second] {
        assert_eq!(text(answer.await.unwrap().unwrap()).await, "done");
    }
    server.signal.drain().await;
    connection.await.unwrap().unwrap();
    assert_eq!(server.connections.open(), 0);
}

#[tokio::test]
async fn no_connection_is_accepted_once_the_drain_began() {
    let gate = Gate::default();
    let server = Server::start(&loopback(), gate.service()).await;
    let address = server.tcp();
    let (mut client, _connection) = http1(server.connect().await).await;
    let answer = tokio::spawn(async move { client.send_request(get("/")).await });
    gate.entered.notified().await;

    server.signal.begin();
    server.accepting.await.unwrap();
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    gate.open.notify_one();
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn one_signal_drains_every_listener() {
    let (signal, watch) = layotto_mesh::drain::channel();
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let listener = layotto_mesh::Listener::bind(&loopback()).await.unwrap();
        tasks.push(tokio::spawn(listener.serve(service_fn(hello), watch.clone())));
    }
    assert!(signal.drain_within(Duration::from_secs(60)).await);
    assert!(tasks.iter().all(tokio::task::JoinHandle::is_finished));
}

#[tokio::test]
async fn idle_and_silent_connections_close_at_once() {
    let server = Server::start(&loopback(), service_fn(hello)).await;
    let (mut one, one_ends) = http1(server.connect().await).await;
    let (mut two, two_ends) = http2(server.connect().await).await;
    let mut silent = server.connect().await;
    let mut hesitant = server.connect().await;
    hesitant.write_all(b"PRI * HT").await.unwrap();
    assert_eq!(text(one.send_request(get("/")).await.unwrap()).await, "hello");
    assert_eq!(text(two.send_request(grpc("/")).await.unwrap()).await, "hello");

    // Far shorter than every time-out of a connection.
    assert!(server.signal.drain_within(Duration::from_secs(3)).await);
    one_ends.await.unwrap().unwrap();
    two_ends.await.unwrap().unwrap();
    assert!(until_closed(&mut silent).await.is_empty());
    assert!(until_closed(&mut hesitant).await.is_empty());
    assert_eq!(server.connections.open(), 0);
}

#[tokio::test]
async fn a_peer_that_leaves_the_farewell_unanswered_does_not_hold_the_drain() {
    let server = Server::start(&loopback(), service_fn(hello)).await;
    let mut peer = server.connect().await;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    peer.write_all(&settings).await.unwrap();
    peer.read_u8().await.unwrap();

    tokio::time::pause();
    assert!(server.signal.drain_within(Duration::from_secs(30)).await);
    assert_eq!(server.connections.open(), 0);
}

#[tokio::test]
async fn connections_outlive_a_listener_that_is_dropped() {
    let server = Server::start(&loopback(), service_fn(hello)).await;
    let (mut client, _connection) = http2(server.connect().await).await;
    assert_eq!(text(client.send_request(grpc("/")).await.unwrap()).await, "hello");
    server.accepting.abort();
    assert!(server.accepting.await.unwrap_err().is_cancelled());
    assert_eq!(text(client.send_request(grpc("/")).await.unwrap()).await, "hello");
    server.signal.drain().await;
    assert_eq!(server.connections.open(), 0);
}

#[tokio::test]
async fn what_outlives_the_limit_is_cut_and_cancelled() {
    let gate = Gate::default();
    let server = Server::start(&loopback(), gate.service()).await;
    let (mut one, _one_ends) = http1(server.connect().await).await;
    let (mut two, _two_ends) = http2(server.connect().await).await;
    let one = tokio::spawn(async move { one.send_request(get("/")).await });
    let two = tokio::spawn(async move { two.send_request(grpc("/")).await });
    while gate.inside.load(SeqCst) < 2 {
        gate.entered.notified().await;
    }

    assert!(!server.signal.drain_within(Duration::from_millis(20)).await);
    assert_eq!(gate.inside.load(SeqCst), 0);
    assert_eq!(server.connections.open(), 0);
    one.await.unwrap().unwrap_err();
    two.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_stream_of_replies_keeps_its_connection_until_it_ends() {
    let (send, receive) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let receive = Arc::new(std::sync::Mutex::new(Some(receive)));
    let service = service_fn(move |_: Request<Incoming>| {
        let mut receive = receive.lock().unwrap().take().unwrap();
        let frames = futures::stream::poll_fn(move |cx| receive.poll_recv(cx));
        async { Ok(Response::new(StreamBody::new(frames))) }
    });
    let server = Server::start(&loopback(), service).await;
    let (mut client, _connection) = http2(server.connect().await).await;
    let mut body = client.send_request(grpc("/")).await.unwrap().into_body();

    server.signal.begin();
    server.accepting.await.unwrap();
    send.send(Ok(Frame::data(Bytes::from_static(b"late"))))
        .await
        .unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "late");
    assert_eq!(server.connections.open(), 1);
    drop(send);
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
    server.signal.drain().await;
    assert_eq!(server.connections.open(), 0);
}
