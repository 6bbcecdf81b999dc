mod counting;
mod given_up;
mod refused;
mod secure;

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use http::{Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use layotto_core::GoDuration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    fixture::{
        Server, Setup, built, cluster, echo, endless, fed, first, host, limits, nobody, soon, text, until,
    },
    *,
};
use crate::{
    BoxError,
    cluster::{Overflow, config::ClusterConfig},
};

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

async fn hello(_: Request<Body>) -> Response<Body> {
    Response::new(Body::from("hello"))
}

fn request(body: Body) -> Request<Body> {
    Request::post("http://test/")
        .header("host", "test")
        .body(body)
        .unwrap()
}

fn get(protocol: Protocol) -> Request<Body> {
    let uri = match protocol {
        Protocol::Http1 => "/",
        Protocol::Http2 => "http://test/",
    };
    Request::get(uri)
        .header("host", "test")
        .body(Body::empty())
        .unwrap()
}

async fn lease(cluster: &Cluster, protocol: Protocol) -> Result<Lease, Failure> {
    let host = &first(cluster);
    host.pool.lease(protocol, cluster, host, false).await
}

async fn ask(cluster: &Cluster, protocol: Protocol) -> Result<String, Failure> {
    let reply = lease(cluster, protocol).await?.send(get(protocol), None).await?;
    Ok(text(reply.body).await)
}

#[tokio::test]
async fn a_connection_carries_one_request_after_the_other() {
    for protocol in BOTH {
        let server = Server::start(protocol, hello).await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        for _ in 0..20 {
            assert_eq!(soon(ask(&cluster, protocol)).await.unwrap(), "hello");
        }
        assert_eq!(
            (server.seen.accepted(), server.seen.requests()),
            (1, 20),
            "{protocol:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_share_eight_connections() {
    let setup = |protocol| Setup {
        protocol,
        max_streams: Some(10),
    };
    for protocol in BOTH {
        let server = Server::with(setup(protocol), async |_| {
            tokio::task::yield_now().await;
            Response::new(Body::from("hello"))
        })
        .await;
        let cluster = cluster(&[server.address], limits([8, 0, 0, 0]));
        let all = (0..1000).map(|_| {
            let cluster = cluster.clone();
            tokio::spawn(async move { ask(&cluster, protocol).await })
        });
        for done in soon(join_all(all)).await {
            assert_eq!(done.unwrap().unwrap(), "hello");
        }
        assert_eq!(server.seen.requests(), 1000);
        assert!(server.seen.most.load(SeqCst) <= 8, "{:?}", server.seen);
        assert!(first(&cluster).pool.open() <= 8);
    }
}

// deviation: D063
#[tokio::test]
async fn only_so_many_wait_and_those_beyond_are_refused() {
    let server = Server::start(Protocol::Http1, hello).await;
    let cluster = cluster(&[server.address], limits([1, 1, 0, 0]));
    let held = lease(&cluster, Protocol::Http1).await.unwrap();
    let mut waits = pin!(lease(&cluster, Protocol::Http1));
    assert!(futures::poll!(&mut waits).is_pending());
    let refused = lease(&cluster, Protocol::Http1).await.unwrap_err();
    assert_eq!(refused.fault, Fault::Overflow(Overflow::PendingRequests));
    drop(held);
    soon(waits).await.unwrap();
}

#[tokio::test]
async fn who_stops_waiting_does_not_hold_up_the_next() {
    for protocol in BOTH {
        let setup = Setup {
            protocol,
            max_streams: Some(1),
        };
        let server = Server::with(setup, hello).await;
        let cluster = cluster(&[server.address], limits([1, 0, 0, 0]));
        let held = lease(&cluster, protocol).await.unwrap();
        let mut first = Box::pin(lease(&cluster, protocol));
        let mut second = pin!(lease(&cluster, protocol));
        let mut third = pin!(lease(&cluster, protocol));
        assert!(futures::poll!(&mut first).is_pending());
        assert!(futures::poll!(&mut second).is_pending());
        assert!(futures::poll!(&mut third).is_pending());
        // The first is granted the connection and goes away without having looked.
        let reply = held.send(get(protocol), None).await.unwrap();
        assert_eq!(text(reply.body).await, "hello");
        drop(first);
        let second = soon(&mut second).await.unwrap();
        assert!(second.is_reused());
        drop(second);
        soon(third).await.unwrap();
        assert!(server.seen.accepted() <= 2, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_not_handed_out() {
    let close = Arc::new(tokio::sync::Notify::new());
    let told = close.clone();
    let server = Server::raw(move |mut stream, _| {
        let told = told.clone();
        async move {
            let mut buffer = [0; 1024];
            let _read = stream.read(&mut buffer).await.unwrap();
            let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(reply).await.unwrap();
            told.notified().await;
        }
    })
    .await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    assert_eq!(soon(ask(&cluster, Protocol::Http1)).await.unwrap(), "ok");
    close.notify_one();
    soon(server.seen.closed.notified()).await;
    until(|| first(&cluster).pool.http1.idle_are_dead()).await;
    assert!(!lease(&cluster, Protocol::Http1).await.unwrap().is_reused());
}

#[tokio::test]
async fn idle_connections_are_closed_when_their_time_is_over() {
    for protocol in BOTH {
        let server = Server::start(protocol, hello).await;
        let settings = ClusterConfig {
            idle_timeout: GoDuration(Duration::from_secs(60)),
            ..ClusterConfig::default()
        };
        let cluster = cluster(&[server.address], settings);
        let pool = &first(&cluster).pool;
        soon(ask(&cluster, protocol)).await.unwrap();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(50)).await;
        tokio::task::yield_now().await;
        assert_eq!(pool.open(), 1);
        tokio::time::advance(Duration::from_secs(20)).await;
        tokio::time::resume();
        until(|| pool.open() == 0).await;
        soon(server.seen.closed.notified()).await;
    }
}

#[tokio::test]
async fn a_connection_carries_no_more_requests_than_it_may() {
    for protocol in BOTH {
        let server = Server::start(protocol, hello).await;
        let settings = ClusterConfig {
            max_request_per_conn: 3,
            ..ClusterConfig::default()
        };
        let cluster = cluster(&[server.address], settings);
        for _ in 0..7 {
            soon(ask(&cluster, protocol)).await.unwrap();
        }
        assert_eq!(server.seen.accepted(), 3, "{protocol:?}");
    }
}

#[tokio::test]
async fn streams_beyond_the_hosts_limit_get_a_connection_of_their_own() {
    let setup = Setup {
        protocol: Protocol::Http2,
        max_streams: Some(2),
    };
    let server = Server::with(setup, hello).await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let leases: Vec<_> = (0..5).map(|_| lease(&cluster, Protocol::Http2)).collect();
    let leases = soon(join_all(leases)).await;
    assert!(leases.iter().all(Result::is_ok));
    assert_eq!(server.seen.accepted(), 3);
}

#[tokio::test]
async fn after_a_farewell_requests_go_elsewhere_and_those_begun_are_finished() {
    let (go, wait) = (
        Arc::new(tokio::sync::Notify::new()),
        Arc::new(tokio::sync::Notify::new()),
    );
    let (told, held) = (go.clone(), wait.clone());
    let server = Server::start(Protocol::Http2, move |_| {
        let (told, held) = (told.clone(), held.clone());
        async move {
            told.notify_one();
            held.notified().await;
            Response::new(Body::from("late"))
        }
    })
    .await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let begun = tokio::spawn({
        let cluster = cluster.clone();
        async move { ask(&cluster, Protocol::Http2).await }
    });
    soon(go.notified()).await;
    server.seen.farewell.notify_one();
    let cluster_ref = &cluster;
    let next = soon(async {
        loop {
            let next = lease(cluster_ref, Protocol::Http2).await.unwrap();
            if !next.is_reused() {
                return next;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    wait.notify_one();
    assert_eq!(soon(begun).await.unwrap().unwrap(), "late");
    wait.notify_one();
    let reply = soon(next.send(get(Protocol::Http2), None)).await.unwrap();
    assert_eq!(text(reply.body).await, "late");
    assert_eq!(server.seen.accepted(), 2);
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    for protocol in BOTH {
        let server = Server::start(protocol, echo).await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let (feed, body) = fed();
        let progress = Progress::default();
        let mut request = request(body);
        if protocol == Protocol::Http1 {
            request
                .headers_mut()
                .insert("transfer-encoding", "chunked".parse().unwrap());
        }
        let sending = lease(&cluster, protocol)
            .await
            .unwrap()
            .send(request, Some(&progress));
        let mut reply = soon(sending).await.unwrap();
        for text in ["one", "two", "three"] {
            feed.send(Ok(Frame::data(text.into()))).await.unwrap();
            let frame = soon(reply.body.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), text, "{protocol:?}");
        }
        drop(feed);
        assert!(soon(reply.body.frame()).await.is_none());
    }
}

#[tokio::test]
async fn a_reply_that_is_not_read_is_not_fetched() {
    for protocol in BOTH {
        let (taken, body) = endless();
        let body = std::sync::Mutex::new(Some(body));
        let server = Server::start(protocol, move |_| {
            let body = body.lock().unwrap().take().unwrap_or_default();
            async { Response::new(body) }
        })
        .await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let mut reply = soon(lease(&cluster, protocol).await.unwrap().send(get(protocol), None))
            .await
            .unwrap();
        soon(reply.body.frame()).await.unwrap().unwrap();
        let mut quiet = 0;
        let mut before = 0;
        while quiet < 1000 {
            tokio::task::yield_now().await;
            let now = taken.load(SeqCst);
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
        }
        // What the sockets and windows hold, and no more.
        assert!(before < 16 << 20, "{protocol:?} fetched {before} bytes");
        drop(reply);
    }
}

#[tokio::test]
async fn a_request_is_not_read_faster_than_it_is_sent() {
    for protocol in BOTH {
        let server = Server::start(protocol, |request| async move {
            let _held = request;
            std::future::pending().await
        })
        .await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let (taken, body) = endless();
        let mut request = request(body);
        if protocol == Protocol::Http1 {
            request
                .headers_mut()
                .insert("transfer-encoding", "chunked".parse().unwrap());
        }
        let progress = Progress::default();
        let sending = lease(&cluster, protocol)
            .await
            .unwrap()
            .send(request, Some(&progress));
        let mut sending = pin!(sending);
        let (mut quiet, mut before) = (0, 0);
        while quiet < 1000 {
            assert!(futures::poll!(&mut sending).is_pending());
            tokio::task::yield_now().await;
            let now = taken.load(SeqCst);
            quiet = if now == before && now > 0 { quiet + 1 } else { 0 };
            before = now;
        }
        assert!(before < 16 << 20, "{protocol:?} read {before} bytes");
    }
}

#[tokio::test]
async fn a_dropped_request_is_cancelled_at_the_host() {
    for protocol in BOTH {
        let server = Server::start(protocol, |_| std::future::pending()).await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let mut sending = Box::pin(lease(&cluster, protocol).await.unwrap().send(get(protocol), None));
        assert!(futures::poll!(&mut sending).is_pending());
        let seen = &server.seen;
        soon(async {
            while seen.requests() == 0 {
                assert!(futures::poll!(&mut sending).is_pending());
                tokio::task::yield_now().await;
            }
        })
        .await;
        drop(sending);
        until(|| seen.cancelled.load(SeqCst) == 1).await;
        let open = first(&cluster).pool.open();
        assert_eq!(open, usize::from(protocol == Protocol::Http2), "{protocol:?}");
    }
}

#[tokio::test]
async fn a_dropped_reply_is_cancelled_at_the_host() {
    for protocol in BOTH {
        let (feed, body) = fed();
        let body = std::sync::Mutex::new(Some(body));
        let server = Server::start(protocol, move |_| {
            let body = body.lock().unwrap().take().unwrap_or_default();
            async { Response::new(body) }
        })
        .await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let reply = soon(lease(&cluster, protocol).await.unwrap().send(get(protocol), None))
            .await
            .unwrap();
        assert!(!reply.body.is_end_stream());
        drop(reply);
        soon(feed.closed()).await;
        let open = first(&cluster).pool.open();
        assert_eq!(open, usize::from(protocol == Protocol::Http2), "{protocol:?}");
    }
}

#[tokio::test]
async fn trailers_come_through() {
    for protocol in BOTH {
        let server = Server::start(protocol, |_| async {
            let (feed, body) = fed();
            tokio::spawn(async move {
                feed.send(Ok(Frame::data("data".into()))).await.unwrap();
                let trailers = http::HeaderMap::from_iter([("x-t".parse().unwrap(), "1".parse().unwrap())]);
                feed.send(Ok(Frame::trailers(trailers))).await.unwrap();
            });
            Response::builder().header("trailer", "x-t").body(body).unwrap()
        })
        .await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let mut request = get(protocol);
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        let reply = soon(lease(&cluster, protocol).await.unwrap().send(request, None))
            .await
            .unwrap();
        let whole = soon(reply.body.collect()).await.unwrap();
        assert_eq!(whole.trailers().unwrap()["x-t"], "1");
        assert_eq!(whole.to_bytes(), "data");
        // The end was seen, so the connection is good for more.
        assert!(
            lease(&cluster, protocol).await.unwrap().is_reused(),
            "{protocol:?}"
        );
    }
}

#[tokio::test]
async fn nobody_listening_fails_all_who_wait_at_once() {
    for protocol in BOTH {
        let cluster = cluster(&[nobody().await], ClusterConfig::default());
        let mut all: FuturesUnordered<_> = (0..50).map(|_| lease(&cluster, protocol)).collect();
        while let Some(failed) = soon(all.next()).await {
            assert_eq!(failed.unwrap_err().fault, Fault::Connect);
        }
        assert_eq!(first(&cluster).pool.open(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_speak_http2_is_no_connection() {
    let server = Server::raw(|stream, _| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let failed = lease(&cluster, Protocol::Http2).await.unwrap_err();
    assert_eq!(failed.fault, Fault::Connect);
    assert!(failed.told().ends_with("it took too long"), "{}", failed.told());
}

#[tokio::test]
async fn a_lost_connection_and_a_broken_reply_are_told_apart() {
    for (answer, fault) in [
        ("", Fault::Terminated),
        ("HTP/1.1 nonsense\r\n\r\n", Fault::Reset),
    ] {
        let server = Server::raw(move |mut stream, _| async move {
            let mut buffer = [0; 1024];
            let _read = stream.read(&mut buffer).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let failed = soon(ask(&cluster, Protocol::Http1)).await.unwrap_err();
        assert_eq!((failed.fault, failed.untouched), (fault, false));
    }
}

#[tokio::test]
async fn a_body_that_fails_is_the_clients_fault() {
    for protocol in BOTH {
        let server = Server::start(protocol, echo).await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let body = Body::new(http_body_util::StreamBody::new(futures::stream::iter([Err::<
            Frame<_>,
            BoxError,
        >(
            "broken".into(),
        )])));
        let mut request = request(body);
        request
            .headers_mut()
            .insert("content-length", "5".parse().unwrap());
        let progress = Progress::default();
        let sending = lease(&cluster, protocol)
            .await
            .unwrap()
            .send(request, Some(&progress));
        let failed = soon(sending).await.unwrap_err();
        assert_eq!(failed.fault, Fault::Request, "{protocol:?}");
    }
}

#[tokio::test]
async fn unix_sockets_are_hosts_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        let _read = stream.read(&mut buffer).await.unwrap();
        let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(reply).await.unwrap();
        stream
    });
    let cluster = built(ClusterConfig {
        hosts: vec![host(format!("unix:{}", path.display()))],
        ..ClusterConfig::default()
    });
    assert_eq!(soon(ask(&cluster, Protocol::Http1)).await.unwrap(), "ok");
    drop(server.await.unwrap());
}

const ROUNDS: usize = 20_000;
const TASKS: usize = 16;

/// Processor time of this process.
fn spent() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks = stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2);
    Duration::from_millis(ticks.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
}

async fn measure<F: Future<Output = ()> + Send + 'static>(name: &str, task: impl Fn() -> F) {
    let (begun, before) = (std::time::Instant::now(), spent());
    join_all((0..TASKS).map(|_| tokio::spawn(task()))).await;
    let requests = u32::try_from(ROUNDS * TASKS).unwrap();
    let (wall, processor) = (begun.elapsed() / requests, (spent() - before) / requests);
    println!("{name}: {wall:?}, processor {processor:?} per request, server included");
}

/// Run with optimisation and `--ignored --nocapture`: both ends in this process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_the_pool() {
    for protocol in BOTH {
        if std::env::var("ONLY").is_ok_and(|only| only != format!("{protocol:?}")) {
            continue;
        }
        let server = Server::start(protocol, hello).await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        measure(&format!("{protocol:?} pool"), || {
            let cluster = cluster.clone();
            async move {
                for _ in 0..ROUNDS {
                    ask(&cluster, protocol).await.unwrap();
                }
            }
        })
        .await;
    }
}

/// To compare with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_hypers_client() {
    for protocol in BOTH {
        if std::env::var("ONLY").is_ok_and(|only| only != format!("{protocol:?}")) {
            continue;
        }
        let server = Server::start(protocol, hello).await;
        let address = server.address;
        if protocol == Protocol::Http1 {
            measure("hyper http1", || hyper_http1(address)).await;
            continue;
        }
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = hyper::client::conn::http2::handshake(
            hyper_util::rt::TokioExecutor::new(),
            hyper_util::rt::TokioIo::new(stream),
        )
        .await
        .unwrap();
        tokio::spawn(connection);
        measure("hyper http2", || hyper_http2(sender.clone())).await;
    }
}

async fn hyper_http1(address: SocketAddr) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let stream = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..ROUNDS {
        sender.ready().await.unwrap();
        let reply = sender.send_request(get(Protocol::Http1)).await.unwrap();
        text(reply.into_body()).await;
    }
}

async fn hyper_http2(mut sender: hyper::client::conn::http2::SendRequest<Body>) {
    for _ in 0..ROUNDS {
        let reply = sender.send_request(get(Protocol::Http2)).await.unwrap();
        text(reply.into_body()).await;
    }
}
