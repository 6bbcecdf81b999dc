//! Accepting without file descriptors; alone, as their limit is the whole process's.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{convert::Infallible, fs::File};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use layotto_mesh::{Address, Listener, drain, listener::Config};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::service_fn;

#[tokio::test]
async fn a_listener_outlives_a_want_of_descriptors() {
    let config = Config::new("test", "127.0.0.1:0".parse::<Address>().unwrap());
    let listener = Listener::bind(&config).await.unwrap();
    let address = listener.local_addr().tcp().unwrap();
    let connections = listener.connections();
    let (signal, watch) = drain::channel();
    let service = service_fn(|_: http::Request<Incoming>| async {
        Ok::<_, Infallible>(http::Response::new(Full::<Bytes>::from("hello")))
    });

    let mut client = TcpStream::connect(address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(64),
            ..limit
        },
    )
    .unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }

    let accepting = tokio::spawn(listener.serve(service, watch));
    // Long enough for several tries; the clock is not paused, as the socket is a real one.
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(10));
    for _ in 0..5 {
        ticks.tick().await;
    }
    assert_eq!(connections.accepted(), 0);
    assert!(!accepting.is_finished());

    drop(hoard);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
    assert_eq!(connections.accepted(), 1);
    signal.drain().await;
}
