mod counting;
mod framing;
mod routing;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::*;
use crate::{
    cluster::config::{ClusterConfig, HostConfig},
    router::Table,
    upstream::{
        Protocol,
        fixture::{Server, built, cluster, echo, fed, first, limits, nobody, soon, text, until},
    },
};

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

fn http() -> Http {
    let (signal, watch) = drain::channel();
    // A dropped signal begins the drain.
    std::mem::forget(signal);
    Http::new(Settings::default(), watch)
}

/// A router of these routes.
fn table(routers: Value) -> Table {
    let hosts = json!([{ "domains": ["*"], "routers": routers }]);
    let config = serde_json::from_value(json!({ "virtual_hosts": hosts })).unwrap();
    Table::new(&config, &[]).unwrap()
}

/// The route that takes every request and is what `router` says.
fn only(router: Value) -> Arc<Route> {
    let (head, _) = get().into_parts();
    let exchange = Exchange::begin("test".into(), None);
    table(json!([router])).find(&head, &exchange).unwrap().clone()
}

/// A route to the cluster `test`, with these keys.
fn route(mut keys: Value) -> Arc<Route> {
    keys["cluster_name"] = "test".into();
    only(json!({ "route": keys }))
}

fn plain() -> Arc<Route> {
    route(json!({}))
}

/// A route to hosts that speak `protocol`.
fn speaking(protocol: Protocol) -> Arc<Route> {
    route(json!({ "upstream_protocol": name(protocol) }))
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "Http1",
        Protocol::Http2 => "Http2",
    }
}

/// A route that tries again `num_retries` times.
fn retrying(retry_on: bool, num_retries: u32, retry_timeout: Option<Duration>) -> Arc<Route> {
    let timeout = retry_timeout.unwrap_or_default().as_millis();
    route(json!({ "retry_policy": {
        "retry_on": retry_on,
        "num_retries": num_retries,
        "retry_timeout": format!("{timeout}ms"),
    } }))
}

fn get() -> Request {
    let request = http::Request::get("/").header("host", "test");
    request.body(Body::empty()).unwrap()
}

fn grpc() -> Request {
    let request = http::Request::post("http://test/pkg.Svc/Do").version(Version::HTTP_2);
    let request = request
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    request.body(Body::from("message")).unwrap()
}

fn with_exchange(mut request: Request) -> (Request, Exchange) {
    let exchange = Exchange::begin("test".into(), None);
    request.extensions_mut().insert(exchange.clone());
    (request, exchange)
}

async fn ask(request: Request, route: &Arc<Route>, cluster: &Arc<Cluster>) -> (Response, Exchange) {
    let (request, exchange) = with_exchange(request);
    (soon(http().forward(request, route, cluster)).await, exchange)
}

async fn status(code: u16) -> Response {
    let mut response = Response::new(Body::from("status"));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn flags(exchange: &Exchange) -> Flags {
    exchange.facts().flags
}

/// The proxy behind a listener of its own.
async fn front(proxy: Http, route: Arc<Route>, cluster: Arc<Cluster>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (proxy, route, cluster) = (proxy.clone(), route.clone(), cluster.clone());
            let service = service_fn(move |request: http::Request<Incoming>| {
                let (proxy, route, cluster) = (proxy.clone(), route.clone(), cluster.clone());
                async move {
                    let request = request.map(Body::from);
                    Ok::<_, Infallible>(proxy.forward(request, &route, &cluster).await)
                }
            });
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                drop(
                    server
                        .serve_connection_with_upgrades(TokioIo::new(stream), service)
                        .await,
                );
            });
        }
    });
    address
}

/// Sends a request over a connection of its own.
async fn send(address: SocketAddr, protocol: Protocol, request: Request) -> http::Response<Incoming> {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    match protocol {
        Protocol::Http1 => {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            soon(sender.send_request(request)).await.unwrap()
        }
        Protocol::Http2 => {
            let executor = TokioExecutor::new();
            let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, stream)
                .await
                .unwrap();
            tokio::spawn(connection);
            soon(sender.send_request(request)).await.unwrap()
        }
    }
}

fn chunked(frames: impl Into<Vec<Frame<Bytes>>>) -> Body {
    let frames = frames.into();
    let (sender, body) = fed();
    tokio::spawn(async move {
        for frame in frames {
            if sender.send(Ok(frame)).await.is_err() {
                return;
            }
        }
    });
    body
}

fn trailers() -> Frame<Bytes> {
    let (name, value) = ("x-end".parse().unwrap(), HeaderValue::from_static("yes"));
    Frame::trailers(HeaderMap::from_iter([(name, value)]))
}

#[tokio::test]
async fn bodies_trailers_and_hosts_pass_between_all_versions() {
    for (down, up) in [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(down, up)| (BOTH[down], BOTH[up])) {
        let server = Server::start(up, async |request| {
            let host = match request.uri().authority() {
                Some(authority) => authority.as_str().to_owned(),
                None => request.headers()["host"].to_str().unwrap().to_owned(),
            };
            let path = request.uri().path_and_query().unwrap().to_string();
            let names: Vec<_> = request.headers().keys().map(ToString::to_string).collect();
            http::Response::builder()
                .header("x-saw-host", host)
                .header("x-saw-path", path)
                .header("x-saw-names", names.join(","))
                .header("trailer", "x-end")
                .header(
                    "connection",
                    if request.version() == Version::HTTP_2 {
                        ""
                    } else {
                        "x-hop"
                    },
                )
                .header("x-hop", "1")
                .body(request.into_body())
                .unwrap()
        })
        .await;
        let route = speaking(up);
        let front = front(
            http(),
            route,
            cluster(&[server.address], ClusterConfig::default()),
        )
        .await;
        let uri = match down {
            Protocol::Http1 => "/a?b=c",
            Protocol::Http2 => "http://example.com/a?b=c",
        };
        let body = chunked([Frame::data("one ".into()), Frame::data("two".into()), trailers()]);
        let request = http::Request::post(uri)
            .header("te", "trailers")
            .header("trailer", "x-end");
        let request = match down {
            Protocol::Http1 => request
                .header("host", "example.com")
                .header("connection", "te, x-mine"),
            Protocol::Http2 => request,
        };
        let request = request.header("x-mine", "1").body(body).unwrap();
        let reply = send(front, down, request).await;
        let saw = |name: &str| reply.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(
            (saw("x-saw-host"), saw("x-saw-path")),
            ("example.com".into(), "/a?b=c".into())
        );
        let names = saw("x-saw-names");
        assert_eq!(
            names.contains("x-mine"),
            down == Protocol::Http2,
            "{down:?} {up:?}: {names}"
        );
        assert_eq!(reply.headers().contains_key("x-hop"), up == Protocol::Http2);
        let whole = soon(reply.into_body().collect()).await.unwrap();
        assert_eq!(whole.trailers().unwrap()["x-end"], "yes", "{down:?} {up:?}");
        assert_eq!(whole.to_bytes(), "one two");
    }
}

#[tokio::test]
async fn a_get_with_a_body_passes() {
    for up in BOTH {
        let server = Server::start(up, echo).await;
        let route = speaking(up);
        let cluster = cluster(&[server.address], ClusterConfig::default());
        for body in [Body::from("known"), chunked([Frame::data("known".into())])] {
            let request = http::Request::get("/").header("host", "a").body(body).unwrap();
            let (reply, _) = ask(request, &route, &cluster).await;
            assert_eq!(soon(text(reply.into_body())).await, "known", "{up:?}");
        }
    }
}

// deviation: D046
#[tokio::test]
async fn refusals_speak_the_callers_language_and_repeat_nothing() {
    let cluster = cluster(&[nobody().await], ClusterConfig::default());
    let mut request = get();
    request
        .headers_mut()
        .insert("cookie", HeaderValue::from_static("secret"));
    let (reply, exchange) = ask(request, &plain(), &cluster).await;
    assert_eq!(reply.status(), 502);
    assert!(!reply.headers().contains_key("cookie"));
    assert!(text(reply.into_body()).await.contains("UNAVAILABLE"));
    assert_eq!(flags(&exchange), Flags::CONNECTION_FAILURE);
    {
        let facts = exchange.facts();
        assert_eq!((facts.attempts, facts.cluster.as_deref()), (1, Some("test")));
        assert!(facts.upstream_failure.as_ref().unwrap().contains("refused"));
    }

    let (reply, _) = ask(grpc(), &plain(), &cluster).await;
    assert_eq!(
        (reply.status(), &reply.headers()["grpc-status"]),
        (StatusCode::OK, &HeaderValue::from(14))
    );

    let none = built(ClusterConfig::default());
    let (reply, exchange) = ask(get(), &plain(), &none).await;
    assert_eq!(
        (reply.status().as_u16(), flags(&exchange)),
        (502, Flags::NO_HEALTHY)
    );

    let mut connect = get();
    *connect.method_mut() = Method::CONNECT;
    let (reply, _) = ask(connect, &plain(), &cluster).await;
    assert_eq!(reply.status(), 405);

    let (request, exchange) = with_exchange(get());
    let reply = http().handle(request, None, &Clusters::default()).await;
    assert_eq!(
        (reply.status().as_u16(), flags(&exchange)),
        (404, Flags::NO_ROUTE)
    );
    let reply = http().handle(grpc(), None, &Clusters::default()).await;
    assert_eq!(reply.headers()["grpc-status"], "12");
    let reply = http().handle(get(), Some(&plain()), &Clusters::default()).await;
    assert_eq!(reply.status(), 404);
}

#[tokio::test]
async fn direct_answers_and_redirects_need_no_cluster() {
    let direct = only(json!({ "direct_response": { "status": 418, "body": "short and stout" } }));
    let reply = http().handle(get(), Some(&direct), &Clusters::default()).await;
    assert_eq!(reply.status(), 418);
    assert_eq!(text(reply.into_body()).await, "short and stout");
    let redirect = only(json!({ "redirect": { "response_code": 302, "path_redirect": "/there" } }));
    let reply = http().handle(get(), Some(&redirect), &Clusters::default()).await;
    assert_eq!(reply.status(), 302);
    assert_eq!(reply.headers()["location"], "/there");
}

#[tokio::test]
async fn a_cluster_that_is_full_refuses() {
    let server = Server::start(Protocol::Http1, |_| std::future::pending()).await;
    let cluster = cluster(&[server.address], limits([0, 0, 1, 0]));
    let (route, proxy) = (plain(), http());
    let mut first = Box::pin(proxy.forward(get(), &route, &cluster));
    assert!(futures::poll!(&mut first).is_pending());
    let (reply, exchange) = ask(get(), &route, &cluster).await;
    assert_eq!(
        (reply.status().as_u16(), flags(&exchange)),
        (503, Flags::OVERFLOW)
    );
    drop(first);
    let mut next = Box::pin(proxy.forward(get(), &route, &cluster));
    assert!(futures::poll!(&mut next).is_pending());
}

#[tokio::test]
async fn the_request_counts_until_its_reply_has_ended() {
    for up in BOTH {
        let server = Server::start(up, async |_| {
            Response::new(chunked([Frame::data("a".into()), Frame::data("b".into())]))
        })
        .await;
        let route = speaking(up);
        let cluster = cluster(&[server.address], limits([0, 0, 1, 0]));
        let (reply, exchange) = ask(get(), &route, &cluster).await;
        assert_eq!(first(&cluster).active.load(SeqCst), 1, "{up:?}");
        assert!(cluster.limits().try_request().is_err());
        assert_eq!(soon(text(reply.into_body())).await, "ab");
        assert_eq!(first(&cluster).active.load(SeqCst), 0);
        assert!(cluster.limits().try_request().is_ok());
        let facts = exchange.facts();
        assert!(facts.response_received.is_some() && facts.upstream_local.is_some());
        assert_eq!(
            facts.upstream_host.as_deref(),
            Some(server.address.to_string().as_str())
        );
    }
}

#[tokio::test]
async fn time_is_over_as_the_header_says() {
    for up in BOTH {
        let server = Server::start(up, |_| std::future::pending()).await;
        let route = speaking(up);
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let mut request = get();
        request
            .headers_mut()
            .insert("x-mosn-global-timeout", HeaderValue::from(30));
        let (reply, exchange) = ask(request, &route, &cluster).await;
        assert_eq!(
            (reply.status().as_u16(), flags(&exchange)),
            (504, Flags::UPSTREAM_TIMEOUT)
        );
        until(|| server.seen.cancelled.load(SeqCst) == 1).await;

        if up == Protocol::Http1 {
            // It carries no gRPC.
            continue;
        }
        let mut request = grpc();
        request
            .headers_mut()
            .insert("grpc-timeout", HeaderValue::from_static("30m"));
        let (reply, _) = ask(request, &route, &cluster).await;
        assert_eq!(reply.headers()["grpc-status"], "4", "{up:?}");
    }
}

#[tokio::test]
async fn what_a_filter_decided_counts_more_than_headers_and_route() {
    let server = Server::start(Protocol::Http1, |_| std::future::pending()).await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let (mut request, exchange) = with_exchange(get());
    request
        .headers_mut()
        .insert("x-mosn-global-timeout", HeaderValue::from(100_000));
    exchange.facts().global_timeout = Some(Duration::from_millis(30));
    let reply = soon(http().forward(request, &plain(), &cluster)).await;
    assert_eq!(reply.status(), 504);
}

#[tokio::test]
async fn a_reply_that_began_outlives_the_timeout() {
    for up in BOTH {
        let go = Arc::new(Notify::new());
        let told = go.clone();
        let server = Server::start(up, move |_| {
            let told = told.clone();
            async move {
                let (feed, body) = fed();
                tokio::spawn(async move {
                    feed.send(Ok(Frame::data("first ".into()))).await.unwrap();
                    told.notified().await;
                    feed.send(Ok(Frame::data("last".into()))).await.unwrap();
                });
                Response::new(body)
            }
        })
        .await;
        let route = route(json!({ "upstream_protocol": name(up), "timeout": "1s" }));
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let (reply, _) = ask(get(), &route, &cluster).await;
        let mut body = reply.into_body();
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            "first "
        );
        assert!(futures::poll!(std::pin::pin!(body.frame())).is_pending());
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(100)).await;
        tokio::time::resume();
        go.notify_one();
        assert_eq!(soon(text(body)).await, "last");
    }
}

#[tokio::test]
async fn a_reply_that_stands_still_is_broken_off_and_a_grpc_stream_at_its_deadline() {
    let server = Server::start(Protocol::Http2, async |_| Response::new(fed_forever())).await;
    let route = speaking(Protocol::Http2);
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let settings = Settings {
        body_idle: Duration::from_millis(30),
        ..Settings::default()
    };
    let proxy = Http::new(settings, drain::channel().1);
    let (request, exchange) = with_exchange(get());
    let mut reply = soon(proxy.forward(request, &route, &cluster)).await;
    assert!(soon(reply.body_mut().frame()).await.unwrap().is_err());
    assert_eq!(flags(&exchange), Flags::UPSTREAM_TIMEOUT);

    let mut request = grpc();
    request
        .headers_mut()
        .insert("grpc-timeout", HeaderValue::from_static("60m"));
    let reply = soon(proxy.forward(request, &route, &cluster)).await;
    let whole = soon(reply.into_body().collect()).await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "4");
}

fn fed_forever() -> Body {
    let (feed, body) = fed();
    tokio::spawn(async move { feed.closed().await });
    body
}

#[tokio::test]
async fn a_client_that_stops_sending_is_given_up() {
    for up in BOTH {
        let server = Server::start(up, |request| async move {
            let whole = request.into_body().collect().await;
            Response::new(Body::from(whole.map(|_| "whole").unwrap_or("broken")))
        })
        .await;
        let route = speaking(up);
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let settings = Settings {
            body_idle: Duration::from_millis(30),
            ..Settings::default()
        };
        let proxy = Http::new(settings, drain::channel().1);
        let (_feed, body) = fed();
        let request = http::Request::post("/").header("host", "a").body(body).unwrap();
        let reply = soon(proxy.forward(request, &route, &cluster)).await;
        assert_eq!(reply.status(), 408, "{up:?}");
    }
}

#[tokio::test]
async fn bad_replies_are_tried_elsewhere_if_the_route_says_so() {
    let bad = Server::start(Protocol::Http1, |_| status(503)).await;
    let good = Server::start(Protocol::Http1, echo).await;
    let cluster = cluster(&[bad.address, good.address], ClusterConfig::default());
    let post = |body: Body| http::Request::post("/").header("host", "a").body(body).unwrap();
    let (reply, exchange) = ask(post("again".into()), &retrying(true, 2, None), &cluster).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(text(reply.into_body()).await, "again");
    assert_eq!(
        (
            exchange.facts().attempts,
            bad.seen.requests(),
            good.seen.requests()
        ),
        (2, 1, 1)
    );

    for route in [plain(), retrying(false, 2, None), retrying(true, 0, None)] {
        let (reply, _) = ask(post("once".into()), &route, &cluster).await;
        assert_eq!(reply.status(), 503);
        assert_eq!(text(reply.into_body()).await, "status");
    }
    let (request, exchange) = with_exchange(post("once".into()));
    exchange.facts().no_retry = true;
    let reply = soon(http().forward(request, &retrying(true, 2, None), &cluster)).await;
    assert_eq!(reply.status(), 503);
    assert_eq!(good.seen.requests(), 1);
}

// deviation: D055
#[tokio::test]
async fn a_body_too_long_to_keep_is_sent_once() {
    let read = |request: http::Request<Body>| async {
        request.into_body().collect().await.unwrap();
        status(503).await
    };
    let bad = Server::start(Protocol::Http1, read).await;
    let good = Server::start(Protocol::Http1, echo).await;
    let cluster = cluster(&[bad.address, good.address], ClusterConfig::default());
    for (length, expected) in [(64 * 1024, 200), (64 * 1024 + 1, 503)] {
        let body = chunked([Frame::data(vec![b'a'; length].into())]);
        let request = http::Request::post("/").header("host", "a").body(body).unwrap();
        let (reply, _) = ask(request, &retrying(true, 1, None), &cluster).await;
        assert_eq!(reply.status(), expected);
    }
}

#[tokio::test]
async fn the_last_bad_reply_is_passed_on() {
    let bad = Server::start(Protocol::Http1, |_| status(500)).await;
    let cluster = cluster(&[bad.address], ClusterConfig::default());
    let (reply, exchange) = ask(get(), &retrying(true, 2, None), &cluster).await;
    assert_eq!((reply.status().as_u16(), exchange.facts().attempts), (500, 3));
    assert_eq!(text(reply.into_body()).await, "status");
}

// deviation: D052
#[tokio::test]
async fn retries_keep_within_the_clusters_budget() {
    let bad = Server::start(Protocol::Http1, |_| status(500)).await;
    let cluster = cluster(&[bad.address], limits([0, 0, 0, 1]));
    let _taken = cluster.limits().try_retry().unwrap();
    let (reply, exchange) = ask(get(), &retrying(true, 2, None), &cluster).await;
    assert_eq!((reply.status().as_u16(), exchange.facts().attempts), (500, 1));
}

// deviation: D051
#[tokio::test]
async fn failed_connects_are_tried_again_by_the_policy_alone() {
    let good = Server::start(Protocol::Http1, echo).await;
    let cluster = cluster(&[nobody().await, good.address], ClusterConfig::default());
    for (route, expected, attempts) in [
        (plain(), 502, 1),
        (retrying(false, 0, None), 502, 1),
        (retrying(false, 1, None), 200, 2),
    ] {
        let (reply, exchange) = ask(get(), &route, &cluster).await;
        assert_eq!(
            (reply.status().as_u16(), exchange.facts().attempts),
            (expected, attempts)
        );
    }
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_followed_by_another() {
    for up in BOTH {
        let slow = Server::start(up, |_| std::future::pending()).await;
        let good = Server::start(up, echo).await;
        let cluster = cluster(&[slow.address, good.address], ClusterConfig::default());
        let route = route(json!({
            "upstream_protocol": name(up),
            "retry_policy": { "retry_on": true, "num_retries": 1, "retry_timeout": "30ms" },
        }));
        let request = http::Request::post("/")
            .header("host", "a")
            .body("again".into())
            .unwrap();
        let (reply, exchange) = ask(request, &route, &cluster).await;
        assert_eq!((reply.status().as_u16(), exchange.facts().attempts), (200, 2));
        assert_eq!(text(reply.into_body()).await, "again");
        until(|| slow.seen.cancelled.load(SeqCst) == 1).await;
    }
}

#[tokio::test]
async fn a_connection_lost_while_idle_costs_a_get_nothing_and_a_post_is_not_repeated() {
    let answered = Arc::new(AtomicUsize::new(0));
    let count = answered.clone();
    // Every connection answers one request and closes at the next.
    let server = Server::raw(move |mut stream, _| {
        let count = count.clone();
        async move {
            let mut buffer = [0; 1024];
            let _read = stream.read(&mut buffer).await.unwrap();
            count.fetch_add(1, SeqCst);
            let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(reply).await.unwrap();
            let _read = stream.read(&mut buffer).await.unwrap();
        }
    })
    .await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let route = plain();
    for attempts in [1, 2] {
        let (reply, exchange) = ask(get(), &route, &cluster).await;
        assert_eq!(
            (reply.status().as_u16(), exchange.facts().attempts),
            (200, attempts)
        );
    }
    let post = http::Request::post("/")
        .header("host", "a")
        .body(Body::empty())
        .unwrap();
    let (reply, exchange) = ask(post, &route, &cluster).await;
    assert_eq!(
        (reply.status().as_u16(), flags(&exchange)),
        (502, Flags::CONNECTION_TERMINATION)
    );
    assert_eq!(answered.load(SeqCst), 2);
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_the_request() {
    for (down, up) in [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(down, up)| (BOTH[down], BOTH[up])) {
        let server = Server::start(up, |_| std::future::pending()).await;
        let route = speaking(up);
        let front = front(
            http(),
            route,
            cluster(&[server.address], ClusterConfig::default()),
        )
        .await;
        let request = match down {
            Protocol::Http1 => get(),
            Protocol::Http2 => http::Request::get("http://a/").body(Body::empty()).unwrap(),
        };
        let client = tokio::spawn(send(front, down, request));
        until(|| server.seen.requests() == 1).await;
        client.abort();
        drop(client.await);
        // The connections of the client's tasks go with their senders.
        until(|| server.seen.cancelled.load(SeqCst) == 1).await;
    }
}

#[tokio::test]
async fn a_request_that_was_dropped_is_flagged_and_gives_back_what_it_holds() {
    let server = Server::start(Protocol::Http1, |_| std::future::pending()).await;
    let cluster = cluster(&[server.address], limits([1, 1, 2, 0]));
    let (route, proxy) = (plain(), http());
    let (request, exchange) = with_exchange(get());
    let mut waiting = Box::pin(proxy.forward(get(), &route, &cluster));
    let mut asking = Box::pin(proxy.forward(request, &route, &cluster));
    assert!(futures::poll!(&mut asking).is_pending());
    assert!(futures::poll!(&mut waiting).is_pending());
    drop((waiting, asking));
    assert_eq!(flags(&exchange), Flags::DOWNSTREAM_TERMINATE);
    let limits = cluster.limits();
    let all = (
        limits.try_connection(),
        limits.try_pending(),
        limits.try_request(),
        limits.try_request(),
    );
    assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok() && all.3.is_ok());
    let hosts = cluster.hosts();
    assert_eq!(hosts[0].active.load(SeqCst), 0);
    assert_eq!(hosts[0].pool.open(), 0);
}

#[tokio::test]
async fn a_grpc_reply_that_breaks_off_ends_with_a_status() {
    let server = Server::start(Protocol::Http2, async |_| {
        let (feed, body) = fed();
        tokio::spawn(async move {
            feed.send(Ok(Frame::data("half".into()))).await.unwrap();
            feed.send(Err("broken".into())).await.unwrap();
        });
        Response::new(body)
    })
    .await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let (reply, exchange) = ask(grpc(), &plain(), &cluster).await;
    let whole = soon(reply.into_body().collect()).await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "14");
    assert_eq!(flags(&exchange), Flags::CONNECTION_TERMINATION);
}

#[tokio::test]
async fn the_body_is_asked_for_when_the_client_waits_to_be_told() {
    let server = Server::start(Protocol::Http1, echo).await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let front = front(http(), plain(), cluster).await;
    let mut client = TcpStream::connect(front).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    client.write_all(head).await.unwrap();
    assert!(
        read_until(&mut client, "\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 100 ")
    );
    client.write_all(b"ok").await.unwrap();
    let reply = read_until(&mut client, "\r\n\r\nok").await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let byte = soon(stream.read_u8()).await.unwrap();
        text.push(char::from(byte));
    }
    text
}

/// Upgrades to a protocol that repeats what it hears; and ends when it hears the end.
async fn parrot() -> Server {
    Server::raw(|mut stream, _| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await.to_lowercase();
        assert!(
            head.contains("connection: upgrade\r\n") && head.contains("upgrade: parrot\r\n"),
            "{head}"
        );
        let reply =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: parrot\r\n\r\nhello";
        stream.write_all(reply).await.unwrap();
        let (mut read, mut write) = stream.split();
        drop(tokio::io::copy(&mut read, &mut write).await);
        drop(write.write_all(b"bye").await);
    })
    .await
}

async fn upgraded(front: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(front).await.unwrap();
    let head = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: parrot\r\n\r\n";
    client.write_all(head).await.unwrap();
    let reply = read_until(&mut client, "\r\n\r\n").await;
    assert!(
        reply.starts_with("HTTP/1.1 101 ") && reply.contains("upgrade: parrot\r\n"),
        "{reply}"
    );
    assert_eq!(read_until(&mut client, "hello").await, "hello");
    client
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways_and_each_way_to_its_end() {
    let server = parrot().await;
    let cluster = cluster(&[server.address], limits([1, 0, 1, 0]));
    let front = front(http(), plain(), cluster.clone()).await;
    let mut client = upgraded(front).await;
    client.write_all(b"one").await.unwrap();
    assert_eq!(read_until(&mut client, "one").await, "one");
    assert!(
        cluster.limits().try_request().is_err(),
        "it counts as long as it lasts"
    );
    client.shutdown().await.unwrap();
    assert_eq!(read_until(&mut client, "bye").await, "bye");
    assert_eq!(soon(client.read(&mut [0])).await.unwrap(), 0);
    until(|| cluster.limits().try_request().is_ok() && first(&cluster).pool.open() == 0).await;
}

#[tokio::test]
async fn an_upgraded_connection_ends_with_the_drain_or_when_it_is_silent() {
    let server = parrot().await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let (signal, watch) = drain::channel();
    let address = front(Http::new(Settings::default(), watch), plain(), cluster.clone()).await;
    let mut client = upgraded(address).await;
    signal.begin();
    assert_eq!(soon(client.read(&mut [0])).await.unwrap(), 0);

    let settings = Settings {
        tunnel_idle: Duration::from_millis(20),
        ..Settings::default()
    };
    let (_signal, watch) = drain::channel();
    let address = front(Http::new(settings, watch), plain(), cluster).await;
    let mut client = upgraded(address).await;
    assert_eq!(soon(client.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_no_reply() {
    let server = Server::raw(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let reply = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        stream.write_all(reply).await.unwrap();
    })
    .await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let (reply, _) = ask(get(), &plain(), &cluster).await;
    assert_eq!(reply.status(), 502);
}

#[tokio::test]
async fn the_host_is_the_chosen_ones_name_if_the_route_says_so() {
    for up in BOTH {
        let seen = Arc::new(Mutex::new(String::new()));
        let note = seen.clone();
        let server = Server::start(up, move |request: Request| {
            let host = request.uri().authority().map(ToString::to_string);
            let host = host.unwrap_or_else(|| request.headers()["host"].to_str().unwrap().to_owned());
            *note.lock().unwrap() = host;
            status(200)
        })
        .await;
        let host = HostConfig {
            address: server.address.to_string(),
            hostname: "name.example".into(),
            ..HostConfig::default()
        };
        let cluster = built(ClusterConfig {
            hosts: vec![host],
            ..ClusterConfig::default()
        });
        for (auto_host_rewrite, expected) in [(false, "test"), (true, "name.example")] {
            let route =
                route(json!({ "upstream_protocol": name(up), "auto_host_rewrite": auto_host_rewrite }));
            ask(get(), &route, &cluster).await;
            assert_eq!(*seen.lock().unwrap(), expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_pass_through_a_small_pool() {
    let server = Server::start(Protocol::Http1, echo).await;
    let cluster = cluster(&[server.address], limits([8, 0, 0, 0]));
    let (route, proxy) = (plain(), http());
    let all = (0..1000).map(|number| {
        let (route, proxy, cluster) = (route.clone(), proxy.clone(), cluster.clone());
        tokio::spawn(async move {
            let request = http::Request::post("/").header("host", "a");
            let request = request.body(Body::from(number.to_string())).unwrap();
            let reply = proxy.forward(request, &route, &cluster).await;
            assert_eq!(reply.status(), 200);
            assert_eq!(text(reply.into_body()).await, number.to_string());
        })
    });
    for done in soon(futures::future::join_all(all)).await {
        done.unwrap();
    }
    assert!(server.seen.most.load(SeqCst) <= 8);
}

/// Every request allocates it, and what calls it moves it.
#[test]
fn the_future_of_an_exchange_stays_small() {
    let (proxy, routes, clusters) = (http(), Table::default(), Clusters::default());
    let size = std::mem::size_of_val(&proxy.answer(get(), Some(&routes), &clusters));
    assert!(size < 6 * 1024, "{size} bytes");
}
