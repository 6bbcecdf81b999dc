//! Measures what idle HTTP/2 connections cost: `cargo run --example idle_connections -- 2000`.
//!
//! The clients live in a process of their own, so that only the server's memory is seen.
#![allow(clippy::unwrap_used, reason = "a measurement")]

use std::{convert::Infallible, process::Stdio, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use layotto_mesh::{Address, Listener, drain, listener::Config};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Command,
};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let count: usize = arguments.get(1).map_or(2000, |count| count.parse().unwrap());
    match arguments.get(2) {
        Some(address) => clients(count, address).await,
        None => server(count).await,
    }
}

async fn clients(count: usize, address: &str) {
    let mut open = Vec::new();
    for _ in 0..count {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = Request::post("http://test/").body(Empty::<Bytes>::new()).unwrap();
        client
            .send_request(request)
            .await
            .unwrap()
            .into_body()
            .collect()
            .await
            .unwrap();
        open.push(client);
    }
    println!("open");
    // Until the server has looked.
    let wait = || std::io::stdin().read_line(&mut String::new());
    tokio::task::spawn_blocking(wait).await.unwrap().unwrap();
}

async fn server(count: usize) {
    let hello =
        |_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello"))) };
    let config = Config::new("test", "127.0.0.1:0".parse::<Address>().unwrap());
    let listener = Listener::bind(&config).await.unwrap();
    let (address, connections) = (listener.local_addr().to_string(), listener.connections());
    let (signal, watch) = drain::channel();
    tokio::spawn(listener.serve(tower::service_fn(hello), watch));
    round(100, &address).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    for _ in 0..2 {
        let before = resident();
        let (open, closed) = round(count, &address).await;
        let cost = open.saturating_sub(before);
        println!(
            "{count} connections: {} bytes each; after the close {}% is back, {} KiB stay",
            cost * 1024 / count,
            open.saturating_sub(closed) * 100 / cost.max(1),
            closed.saturating_sub(before),
        );
    }
    assert_eq!(connections.open(), 0);
    drop(signal);
}

/// Resident KiB with `count` connections, and 10 s after they are closed.
async fn round(count: usize, address: &str) -> (usize, usize) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([&count.to_string(), address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("open"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let open = resident();
    child.stdin.take().unwrap().write_all(b"\n").await.unwrap();
    child.wait().await.unwrap();
    tokio::time::sleep(Duration::from_secs(if count > 100 { 10 } else { 0 })).await;
    (open, resident())
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
