//! What is sent over HTTP/2 to wear the server out. Whatever it is, the connection that sends it
//! ends or is held up, and another one is served.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tower::service_fn;

use crate::support::{Server, grpc, hello, http2, loopback, text, until_closed};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `POST http /`, `:authority a`, in HPACK without a table.
const HEAD: &[u8] = b"\x83\x86\x84\x01\x01a";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A client that writes frames as they are.
struct Attacker(TcpStream);

/// How an attack went.
#[derive(Debug, PartialEq)]
enum End {
    /// The server closed the connection, or said that it will.
    Closed,
    /// The server reads no further.
    HeldUp,
    /// All was written, and the connection lives.
    Written,
}

impl Attacker {
    async fn connect(server: &Server, settings: &[u8]) -> Self {
        let mut stream = server.connect().await;
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, settings)).await.unwrap();
        Self(stream)
    }

    /// Writes without reading until the server has enough of it.
    async fn write(&mut self, bytes: &[u8]) -> End {
        match timeout(Duration::from_millis(500), self.0.write_all(bytes)).await {
            Ok(Ok(())) => End::Written,
            Ok(Err(_)) => End::Closed,
            Err(_) => End::HeldUp,
        }
    }

    /// Writes and reads at once, until the server closes or is quiet.
    async fn exchange(mut self, bytes: &[u8]) -> End {
        let (mut read, mut write) = self.0.split();
        let reading = async {
            let mut all = Vec::new();
            loop {
                match timeout(Duration::from_secs(1), read.read_buf(&mut all)).await {
                    Ok(Ok(0) | Err(_)) => return End::Closed,
                    Ok(Ok(_)) if says_goodbye(&all) => return End::Closed,
                    Ok(Ok(_)) => {}
                    Err(_) => return End::Written,
                }
            }
        };
        let writing = async { write.write_all(bytes).await.ok() };
        tokio::join!(writing, reading).1
    }
}

/// Whether a frame among `bytes` is a GOAWAY that names an error.
fn says_goodbye(mut bytes: &[u8]) -> bool {
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if *kind == GOAWAY && rest.get(4..8).is_some_and(|error| error != [0; 4]) {
            return true;
        }
        bytes = rest.get(length..).unwrap_or_default();
    }
    false
}

async fn is_served(server: &Server) {
    let ask = async {
        let (mut client, _) = http2(server.connect().await).await;
        assert_eq!(text(client.send_request(grpc("/")).await.unwrap()).await, "hello");
    };
    timeout(Duration::from_secs(5), ask)
        .await
        .expect("others are served");
}

#[tokio::test]
async fn streams_reset_as_fast_as_they_are_opened_end_the_connection() {
    let server = Server::start(&loopback(), service_fn(hello)).await;
    let attacker = Attacker::connect(&server, &[]).await;
    let mut attack = Vec::new();
    for stream in (1..40_000).step_by(2) {
        attack.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, HEAD));
        attack.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    assert_eq!(attacker.exchange(&attack).await, End::Closed);
    is_served(&server).await;
    until(|| server.connections.cut() == 1).await;
}

/// A server that answers `/` and nothing else, and how many requests it began otherwise.
async fn slow() -> (Server, Arc<AtomicUsize>) {
    let begun = Arc::new(AtomicUsize::new(0));
    let counter = begun.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let counter = counter.clone();
        async move {
            if request.uri().path() != "/" {
                counter.fetch_add(1, Relaxed);
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(Response::new("hello".to_owned()))
        }
    });
    (Server::start(&loopback(), service).await, begun)
}

async fn until(done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.unwrap();
}

// deviation: D119
#[tokio::test]
async fn streams_reset_one_by_one_while_they_are_served_end_the_connection_too() {
    let (server, begun) = slow().await;
    let mut attacker = Attacker::connect(&server, &[]).await;
    let closed = || server.connections.accepted() == 1 && server.connections.open() == 0;
    // The same with the path `/x`.
    let head = b"\x83\x86\x04\x02/x\x01\x01a";
    let mut sent = 0;
    for stream in (1..20_000).step_by(2) {
        let open = frame(HEADERS, END_HEADERS | END_STREAM, stream, head);
        if attacker.0.write_all(&open).await.is_err() {
            break;
        }
        sent += 1;
        until(|| begun.load(Relaxed) == sent || closed()).await;
        let reset = frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
        if closed() || attacker.0.write_all(&reset).await.is_err() {
            break;
        }
    }
    assert!((400..2000).contains(&sent), "{sent} streams were opened");
    let last = until_closed(&mut attacker.0).await;
    assert!(says_goodbye(&last), "it is told why");
    assert_eq!(server.connections.cut(), 1);
    is_served(&server).await;
}

#[tokio::test]
async fn calls_that_are_hedged_for_long_end_no_connection() {
    let (server, begun) = slow().await;
    let (mut client, _) = http2(server.connect().await).await;
    for round in 1..=600 {
        let mut slower: Vec<_> = (0..2)
            .map(|_| Box::pin(client.send_request(grpc("/slow"))))
            .collect();
        for call in &mut slower {
            assert!(futures::poll!(call).is_pending());
        }
        until(|| begun.load(Relaxed) == 2 * round).await;
        drop(slower);
        assert_eq!(text(client.send_request(grpc("/")).await.unwrap()).await, "hello");
    }
    assert_eq!((server.connections.accepted(), server.connections.cut()), (1, 0));
}

#[tokio::test]
async fn a_head_that_never_ends_ends_the_connection() {
    let server = Server::start(&loopback(), service_fn(hello)).await;
    let attacker = Attacker::connect(&server, &[]).await;
    let mut attack = frame(HEADERS, 0, 1, HEAD);
    for _ in 0..100_000 {
        attack.extend(frame(CONTINUATION, 0, 1, b"\0\x01x\x01y"));
    }
    assert_eq!(attacker.exchange(&attack).await, End::Closed);
    is_served(&server).await;
}

#[tokio::test]
async fn a_small_head_that_unpacks_to_a_large_one_is_not_served() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    let service = service_fn(move |request| {
        counter.fetch_add(1, Relaxed);
        hello(request)
    });
    let server = Server::start(&loopback(), service).await;
    let mut attacker = Attacker::connect(&server, &[]).await;
    // A field of 4000 bytes goes into the table; each byte 0xbe behind it is that field again.
    let mut head = HEAD.to_vec();
    head.extend(b"\x40\x01x\x7f\xa1\x1e");
    head.extend([b'y'; 4000]);
    head.extend([0xbe; 12_000]);
    for stream in [1, 3, 5] {
        attacker
            .write(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head))
            .await;
    }
    is_served(&server).await;
    assert_eq!(requests.load(Relaxed), 1);
}

#[tokio::test]
async fn floods_of_pings_and_settings_are_held_up_or_answered_one_by_one() {
    let server = Server::start(&loopback(), service_fn(hello)).await;
    for one in [
        frame(PING, 0, 0, &[7; 8]),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]),
    ] {
        let mut attacker = Attacker::connect(&server, &[]).await;
        let end = attacker.write(&one.repeat(1_000_000)).await;
        assert_ne!(end, End::Written);
        is_served(&server).await;
    }
}

#[tokio::test]
async fn empty_pieces_of_a_body_end_the_connection() {
    let service = service_fn(|request: Request<Incoming>| async {
        http_body_util::BodyExt::collect(request.into_body()).await.ok();
        Ok::<_, Infallible>(Response::new("hello".to_owned()))
    });
    let server = Server::start(&loopback(), service).await;
    let attacker = Attacker::connect(&server, &[]).await;
    let mut attack = frame(HEADERS, END_HEADERS, 1, HEAD);
    attack.extend(frame(DATA, 0, 1, b"").repeat(300_000));
    assert_eq!(attacker.exchange(&attack).await, End::Closed);
    is_served(&server).await;
}

/// A server whose replies to `/` have no end, and a count of their pieces, of 64 KiB each.
async fn endless() -> (Server, Arc<AtomicUsize>) {
    let produced = Arc::new(AtomicUsize::new(0));
    let counter = produced.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let counter = counter.clone();
        async move {
            let pieces = futures::stream::iter(0_usize..).map(move |_| {
                counter.fetch_add(1, Relaxed);
                Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0_u8; 1 << 16])))
            });
            let count = if request.uri().path() == "/" {
                usize::MAX
            } else {
                0
            };
            Ok::<_, Infallible>(Response::new(StreamBody::new(pieces.take(count))))
        }
    });
    (Server::start(&loopback(), service).await, produced)
}

async fn small_reply(server: &Server) {
    let (mut client, _) = http2(server.connect().await).await;
    assert_eq!(text(client.send_request(grpc("/small")).await.unwrap()).await, "");
}

#[tokio::test]
async fn a_reply_without_a_window_is_not_produced() {
    let (server, produced) = endless().await;
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    let mut attacker = Attacker::connect(&server, &[0, 4, 0, 0, 0, 0]).await;
    for stream in (1..200).step_by(2) {
        attacker
            .write(&frame(HEADERS, END_HEADERS | END_STREAM, stream, HEAD))
            .await;
    }
    small_reply(&server).await;
    // At most one piece of each reply waits to be taken.
    assert!(produced.load(Relaxed) <= 100, "{produced:?}");
}

#[tokio::test]
async fn replies_with_large_windows_that_nobody_reads_are_held_in_small_buffers() {
    let (server, produced) = endless().await;
    let mut attacker = Attacker::connect(&server, &[0, 4, 0x7f, 0xff, 0xff, 0xff]).await;
    attacker
        .write(&frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0, 0]))
        .await;
    for stream in (1..600).step_by(2) {
        attacker
            .write(&frame(HEADERS, END_HEADERS | END_STREAM, stream, HEAD))
            .await;
    }
    small_reply(&server).await;
    // Two pieces of each of the 300 replies, and what the sockets hold.
    let mut before = 0;
    while before != produced.load(Relaxed) {
        before = produced.load(Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!((300..900).contains(&before), "{before}");
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused() {
    let mut config = loopback();
    config.http2.max_concurrent_streams = 10;
    let begun = Arc::new(AtomicUsize::new(0));
    let counter = begun.clone();
    let service = service_fn(move |_: Request<Incoming>| {
        counter.fetch_add(1, Relaxed);
        std::future::pending::<Result<Response<String>, Infallible>>()
    });
    let server = Server::start(&config, service).await;
    let attacker = Attacker::connect(&server, &[]).await;
    let mut attack = Vec::new();
    for stream in (1..2000).step_by(2) {
        attack.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, HEAD));
    }
    attacker.exchange(&attack).await;
    assert_eq!(begun.load(Relaxed), 10);
}
