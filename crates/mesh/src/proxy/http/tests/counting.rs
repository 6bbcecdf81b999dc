//! What a try leaves in the counters of its host and its cluster.

use super::*;
use crate::cluster::Stats;

/// The counters of requests that are not 0, of `stats`; times are left out.
fn counted(stats: &Stats) -> Vec<(&'static str, u64)> {
    let all = stats
        .all()
        .filter(|(name, n)| *n > 0 && *name != "request_duration_time_total");
    all.filter(|(name, _)| !name.starts_with("connection_")).collect()
}

/// The same of a cluster of one host, which must agree with its host.
fn of_one(cluster: &Cluster) -> Vec<(&'static str, u64)> {
    let counts = counted(&cluster.stats);
    assert_eq!(counts, counted(&first(cluster).stats));
    counts
}

#[tokio::test]
async fn a_good_reply_counts_as_such_once_it_has_ended() {
    for up in BOTH {
        let server = Server::start(up, async |_| {
            Response::new(chunked([Frame::data("a".into()), Frame::data("b".into())]))
        })
        .await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let (reply, exchange) = ask(get(), &speaking(up), &cluster).await;
        let begun = [
            ("request_total", 1),
            ("request_active", 1),
            ("response_success", 1),
        ];
        assert_eq!(of_one(&cluster), begun, "{up:?}");
        assert_eq!(soon(text(reply.into_body())).await, "ab");
        assert_eq!(of_one(&cluster), [("request_total", 1), ("response_success", 1)]);
        assert!(cluster.stats.request_duration_time_total.get() > 0);
        let facts = exchange.facts();
        assert!(Arc::ptr_eq(facts.host.as_ref().unwrap(), &first(&cluster)));
    }
}

#[tokio::test]
async fn a_reply_that_is_dropped_at_its_end_was_not_given_up() {
    let go = Arc::new(Notify::new());
    let told = go.clone();
    let server = Server::start(Protocol::Http1, move |_| {
        let told = told.clone();
        async move {
            let (feed, body) = fed();
            tokio::spawn(async move {
                told.notified().await;
                feed.send(Ok(Frame::data("ab".into()))).await.unwrap();
            });
            let reply = http::Response::builder().header("content-length", "2");
            reply.body(body).unwrap()
        }
    })
    .await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let (reply, _) = ask(get(), &plain(), &cluster).await;
    let mut body = reply.into_body();
    go.notify_one();
    soon(body.frame()).await.unwrap().unwrap();
    assert!(http_body::Body::is_end_stream(&body));
    drop(body);
    assert_eq!(of_one(&cluster), [("request_total", 1), ("response_success", 1)]);
}

#[tokio::test]
async fn a_retry_counts_where_it_goes_and_a_bad_reply_where_it_came_from() {
    let bad = Server::start(Protocol::Http1, |_| status(503)).await;
    let good = Server::start(Protocol::Http1, echo).await;
    let cluster = cluster(&[bad.address, good.address], ClusterConfig::default());
    let (reply, _) = ask(get(), &retrying(true, 1, None), &cluster).await;
    assert_eq!(text(reply.into_body()).await, "");
    let hosts = cluster.hosts();
    assert_eq!(
        counted(&hosts[0].stats),
        [("request_total", 1), ("response_failed", 1)]
    );
    assert_eq!(
        counted(&hosts[1].stats),
        [
            ("request_total", 1),
            ("request_retry", 1),
            ("response_success", 1)
        ]
    );
    assert_eq!(cluster.stats.request_total.get(), 2);
}

#[tokio::test]
async fn a_failed_connect_is_no_reset_and_its_retry_is_counted_as_such() {
    let good = Server::start(Protocol::Http1, echo).await;
    let cluster = cluster(&[nobody().await, good.address], ClusterConfig::default());
    ask(get(), &retrying(false, 1, None), &cluster).await;
    let hosts = cluster.hosts();
    assert_eq!(
        counted(&hosts[0].stats),
        [("request_total", 1), ("response_failed", 1)]
    );
    assert_eq!(hosts[0].stats.connection_con_fail.get(), 1);
    assert_eq!(hosts[1].stats.connection_retry.get(), 1);
}

#[tokio::test]
async fn a_try_that_took_too_long_timed_out_and_was_given_up_by_us() {
    for up in BOTH {
        let server = Server::start(up, |_| std::future::pending()).await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let route = route(json!({ "upstream_protocol": name(up), "timeout": "30ms" }));
        ask(get(), &route, &cluster).await;
        assert_eq!(
            of_one(&cluster),
            [
                ("request_total", 1),
                ("request_local_reset", 1),
                ("request_timeout", 1),
                ("response_failed", 1)
            ]
        );
    }
}

#[tokio::test]
async fn a_client_that_goes_away_gives_the_request_up_before_and_after_the_reply() {
    for up in BOTH {
        let server = Server::start(up, |_| std::future::pending()).await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let (proxy, route) = (http(), speaking(up));
        let mut asking = Box::pin(proxy.forward(get(), &route, &cluster));
        assert!(futures::poll!(&mut asking).is_pending());
        drop(asking);
        assert_eq!(
            of_one(&cluster),
            [("request_total", 1), ("request_local_reset", 1)],
            "{up:?}"
        );

        let server = Server::start(up, async |_| Response::new(fed_forever())).await;
        let cluster = built(ClusterConfig {
            hosts: vec![crate::upstream::fixture::host(server.address.to_string())],
            ..ClusterConfig::default()
        });
        let (reply, _) = ask(get(), &route, &cluster).await;
        drop(reply);
        let expected = [
            ("request_total", 1),
            ("request_local_reset", 1),
            ("response_success", 1),
        ];
        assert_eq!(of_one(&cluster), expected, "{up:?}");
    }
}

#[tokio::test]
async fn a_host_that_breaks_off_gives_the_request_up_before_and_after_the_reply() {
    for (reply, expected) in [
        (
            "",
            [
                ("request_total", 1),
                ("request_remote_reset", 1),
                ("response_failed", 1),
            ],
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            [
                ("request_total", 1),
                ("request_remote_reset", 1),
                ("response_success", 1),
            ],
        ),
    ] {
        let go = Arc::new(Notify::new());
        let told = go.clone();
        let server = Server::raw(move |mut stream, _| {
            let told = told.clone();
            async move {
                read_until(&mut stream, "\r\n\r\n").await;
                stream.write_all(reply.as_bytes()).await.unwrap();
                if !reply.is_empty() {
                    told.notified().await;
                }
            }
        })
        .await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let (mut reply, _) = ask(get(), &plain(), &cluster).await;
        if reply.status() == 200 {
            go.notify_one();
            assert!(soon(reply.body_mut().frame()).await.unwrap().is_err());
        }
        assert_eq!(of_one(&cluster), expected);
    }
}

#[tokio::test]
async fn what_limits_refuse_is_counted_by_the_cluster() {
    let bad = Server::start(Protocol::Http1, |_| status(500)).await;
    let cluster = cluster(&[bad.address], limits([0, 0, 1, 1]));
    let taken = cluster.limits().try_retry().unwrap();
    ask(get(), &retrying(true, 2, None), &cluster).await;
    assert_eq!(cluster.stats.request_retry_overflow.get(), 1);
    assert_eq!(cluster.stats.request_retry.get(), 0);
    drop(taken);
    let _taken = cluster.limits().try_request().unwrap();
    ask(get(), &plain(), &cluster).await;
    assert_eq!(cluster.stats.request_pending_overflow.get(), 1);
    assert_eq!(cluster.stats.request_total.get(), 1, "it was never sent");
}

#[tokio::test]
async fn the_bytes_of_an_upgraded_connection_are_counted_and_end_the_exchange() {
    let server = parrot().await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let exchange = Exchange::begin("test".into(), None);
    let (address, seen) = (front_with(exchange.clone(), cluster.clone()).await, exchange);
    let mut client = upgraded(address).await;
    let end = seen.facts().tunnel.take().unwrap();
    client.write_all(b"one").await.unwrap();
    assert_eq!(read_until(&mut client, "one").await, "one");
    client.shutdown().await.unwrap();
    soon(end).await.unwrap();
    let bytes = {
        let facts = seen.facts();
        (facts.bytes_received, facts.bytes_sent)
    };
    assert_eq!(bytes, (3, "helloonebye".len() as u64));
    until(|| of_one(&cluster) == [("request_total", 1), ("response_success", 1)]).await;
}

/// The proxy behind a listener of its own, with all requests in one exchange.
async fn front_with(exchange: Exchange, cluster: Arc<Cluster>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(move |request: http::Request<Incoming>| {
            let (exchange, cluster) = (exchange.clone(), cluster.clone());
            async move {
                let mut request = request.map(Body::from);
                request.extensions_mut().insert(exchange);
                Ok::<_, Infallible>(http().forward(request, &plain(), &cluster).await)
            }
        });
        let server = hyper::server::conn::http1::Builder::new();
        drop(
            server
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await,
        );
    });
    address
}
