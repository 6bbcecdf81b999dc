//! Hosts: which one is chosen, which are left out, what is tried again and how long it may take.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    clients::{Ask, Call, Http2, Reply, get},
    peer::Peer,
    plan::{Plan, Running, to, until_reply},
};
use crate::sidecar::free_port;

async fn three() -> [Peer; 3] {
    [
        Peer::start("a").await,
        Peer::start("b").await,
        Peer::start("c").await,
    ]
}

/// A proxy to one cluster.
fn proxy_to(peers: &[Peer], cluster: &Value, route: Value) -> (Running, u16) {
    let port = free_port();
    let plan = Plan::web(port, json!([to("/", "c", route)])).cluster("c", peers, cluster.clone());
    (plan.run(), port)
}

/// Which service answered how often to `count` requests.
async fn shares(port: u16, count: usize, ask: impl Fn(usize) -> Ask) -> BTreeMap<String, usize> {
    let connection = Http2::connect(port).await;
    let mut shares = BTreeMap::new();
    for number in 0..count {
        let reply = connection.send(&ask(number)).await.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        *shares.entry(reply.peer()).or_insert(0) += 1;
    }
    shares
}

#[tokio::test]
async fn every_way_of_choosing_uses_all_hosts() {
    for (lb, least) in [
        ("LB_RANDOM", 50),
        ("LB_ROUNDROBIN", 100),
        ("LB_WEIGHTED_ROUNDROBIN", 100),
        ("LB_LEAST_REQUEST", 50),
        ("LB_LEAST_CONNECTION", 50),
        ("LB_PEAK_EWMA", 1),
    ] {
        let peers = three().await;
        let (_running, port) = proxy_to(&peers, &json!({"lb_type": lb}), json!({}));
        let shares = shares(port, 300, |_| Ask::get("/")).await;
        assert!(
            shares.len() == 3 && shares.values().all(|share| *share >= least),
            "{lb}: {shares:?}"
        );
    }
}

#[tokio::test]
async fn weights_share_requests_out() {
    let peers = three().await;
    let port = free_port();
    let mut plan = Plan::web(port, json!([to("/", "c", json!({}))])).cluster(
        "c",
        &peers,
        json!({"lb_type": "LB_WEIGHTED_ROUNDROBIN"}),
    );
    for (host, weight) in [(0, 1), (1, 2), (2, 3)] {
        plan.clusters[0]["hosts"][host]["weight"] = json!(weight);
    }
    let _running = plan.run();
    let shares = shares(port, 600, |_| Ask::get("/")).await;
    for (name, share) in [("a", 100), ("b", 200), ("c", 300)] {
        assert!(shares[name].abs_diff(share) <= 3, "{shares:?}");
    }
}

#[tokio::test]
async fn hashes_stick_to_a_host() {
    for lb in ["LB_MAGLEV", "LB_RING_HASH"] {
        let peers = three().await;
        let by_user = json!({"hash_policy": [{"header": {"key": "x-user"}}]});
        let (_running, port) = proxy_to(&peers, &json!({"lb_type": lb}), by_user);
        let mut used = BTreeMap::new();
        for user in 0..30 {
            let user = format!("user-{user}");
            let shares = shares(port, 4, |_| Ask::get("/").header("x-user", &user)).await;
            assert_eq!(shares.len(), 1, "{lb}: {user} {shares:?}");
            used.extend(shares);
        }
        assert_eq!(used.len(), 3, "{lb}: {used:?}");
    }
}

#[tokio::test]
async fn each_request_begins_at_the_first_host_with_request_round_robin() {
    let peers = three().await;
    peers[0].always(503);
    let retry = json!({"retry_policy": {"retry_on": true, "num_retries": 2}});
    let (_running, port) = proxy_to(&peers, &json!({"lb_type": "LB_REQUEST_ROUNDROBIN"}), retry);
    for _ in 0..5 {
        assert_eq!(get(port, "/").await.peer(), "b");
    }
    assert_eq!(peers[0].requests(), 5);
    peers[0].always(0);
    assert_eq!(get(port, "/").await.peer(), "a");
}

#[tokio::test]
async fn a_host_that_is_ill_is_left_out_until_it_is_well() {
    let peers = three().await;
    let check = json!({"health_check": {
        "service_name": "c", "protocol": "Http1", "interval": "50ms", "initial_delay_seconds": "0s",
        "timeout": "500ms", "check_config": {"http_check_config": {"path": "/health"}}}});
    let (_running, port) = proxy_to(&peers, &check, json!({}));
    assert_eq!(shares(port, 9, |_| Ask::get("/")).await.len(), 3);
    peers[1].always(500);
    let asked = || async { shares_of_any(port, 9).await };
    until_shares("the ill host is left out", asked, |shares| {
        !shares.contains_key("b")
    })
    .await;
    for _ in 0..30 {
        assert_eq!(get(port, "/").await.status, 200);
    }
    peers[1].always(0);
    until_shares("the host is back", asked, |shares| shares.contains_key("b")).await;
    for peer in &peers {
        peer.always(500);
    }
    until_reply(
        "no host is well",
        || get(port, "/"),
        |reply| reply.status == 502 && reply.text().contains("no host of the cluster is well"),
    )
    .await;
}

async fn shares_of_any(port: u16, count: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        *shares.entry(get(port, "/").await.peer()).or_insert(0) += 1;
    }
    shares
}

async fn until_shares<F: Future<Output = BTreeMap<String, usize>>>(
    what: &str,
    ask: impl Fn() -> F,
    wanted: impl Fn(&BTreeMap<String, usize>) -> bool,
) {
    super::plan::until(what, async || wanted(&ask().await)).await;
}

#[tokio::test]
async fn errors_reach_clients_only_while_no_host_is_healthy() {
    let [a, b, c] = three().await;
    let (addr_a, addr_b) = (a.addr(), b.addr());
    let port = free_port();
    let retry = json!({"retry_policy": {"retry_on": true, "num_retries": 2}});
    let check = json!({"health_check": {
        "service_name": "c", "interval": "50ms", "initial_delay_seconds": "0s"}});
    let plan = Plan::web(port, json!([to("/", "c", retry)])).cluster("c", [&a, &b, &c], check);
    let _running = plan.run();
    assert_eq!(shares(port, 30, |_| Ask::get("/")).await.len(), 3);
    // Killed while requests go on: what it had not answered is tried elsewhere.
    drop(a);
    assert_eq!(shares(port, 60, |_| Ask::get("/")).await.get("a"), None);
    drop(b);
    assert_eq!(shares(port, 60, |_| Ask::get("/")).await.len(), 1);
    drop(c);
    until_reply("no host is left", || get(port, "/"), |reply| reply.status == 502).await;
    let _a = Peer::at("a", addr_a, None).await;
    until_reply("a is back", || get(port, "/"), |reply| reply.peer() == "a").await;
    let _b = Peer::at("b", addr_b, None).await;
    until_reply("b is back", || get(port, "/"), |reply| reply.peer() == "b").await;
    let shares = shares(port, 60, |_| Ask::get("/")).await;
    assert_eq!((shares.len(), shares.get("c")), (2, None));
}

/// Sends slow requests together and counts the statuses.
async fn together(port: u16, count: usize) -> BTreeMap<u16, usize> {
    let ask = Ask::get("/").header("x-do", "slow=500");
    let replies = (0..count).map(|_| ask.http1(port));
    let mut statuses = BTreeMap::new();
    for reply in futures::future::join_all(replies).await {
        if reply.status == 503 {
            assert!(reply.text().contains("no room"), "{reply:?}");
        }
        *statuses.entry(reply.status.as_u16()).or_insert(0) += 1;
    }
    statuses
}

#[tokio::test]
async fn circuit_breakers_bound_requests_connections_and_waiting() {
    for (limits, served) in [
        (json!({"max_requests": 3}), 3),
        // Two are sent, one waits.
        (json!({"max_connections": 2, "max_pending_requests": 1}), 3),
        (json!({"max_connections": 2}), 10),
        (json!({}), 10),
    ] {
        let peers = [Peer::start("a").await];
        let (_running, port) = proxy_to(&peers, &json!({"circuit_breakers": [limits]}), json!({}));
        let statuses = together(port, 10).await;
        let expected = match served {
            10 => BTreeMap::from([(200, 10)]),
            served => BTreeMap::from([(200, served), (503, 10 - served)]),
        };
        assert_eq!(statuses, expected, "{limits}");
        let most = limits["max_connections"].as_u64().unwrap_or(10);
        assert!(peers[0].connections() as u64 <= most, "{limits}");
        assert_eq!(
            get(port, "/").await.status,
            200,
            "{limits}: the places are free again"
        );
    }
}

#[tokio::test]
async fn what_the_policy_names_is_tried_again_and_nothing_else() {
    let policy = |policy: Value| json!({"retry_policy": policy});
    for (name, route, told, status, requests) in [
        ("none", json!({}), "status=503", 503, 1),
        ("off", policy(json!({"num_retries": 2})), "status=503", 503, 1),
        (
            "on",
            policy(json!({"retry_on": true, "num_retries": 2})),
            "status=503",
            503,
            3,
        ),
        (
            "repaired",
            policy(json!({"retry_on": true, "num_retries": 2})),
            "fail-first=2",
            200,
            3,
        ),
        (
            "other status",
            policy(json!({"retry_on": true, "num_retries": 2})),
            "status=404",
            404,
            1,
        ),
        (
            "named status",
            policy(json!({"retry_on": true, "num_retries": 1, "status_codes": [404]})),
            "status=404",
            404,
            2,
        ),
        (
            "cut",
            policy(json!({"retry_on": true, "num_retries": 2})),
            "cut=1",
            502,
            3,
        ),
        (
            "slow tries",
            policy(json!({"retry_on": true, "num_retries": 1, "retry_timeout": "100ms"})),
            "slow=5000",
            504,
            2,
        ),
    ] {
        let peers = [Peer::start("a").await];
        let (_running, port) = proxy_to(&peers, &json!({}), route);
        let reply = Ask::new("POST", "/x")
            .header("x-do", told)
            .body("b")
            .http1(port)
            .await;
        assert_eq!(
            (reply.status.as_u16(), peers[0].requests()),
            (status, requests),
            "{name}: {reply:?}"
        );
    }
}

#[tokio::test]
async fn a_failed_connect_is_tried_at_another_host() {
    let peer = Peer::start("a").await;
    let dead = free_port();
    let port = free_port();
    let mut plan = Plan::web(
        port,
        json!([
            to("/retry", "c", json!({"retry_policy": {"num_retries": 1}})),
            to("/", "c", json!({})),
        ]),
    )
    .cluster("c", [&peer], json!({}));
    let hosts = plan.clusters[0]["hosts"].as_array_mut().unwrap();
    hosts.push(json!({"address": format!("127.0.0.1:{dead}")}));
    let _running = plan.run();
    for _ in 0..6 {
        assert_eq!(get(port, "/retry").await.status, 200);
    }
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(get(port, "/").await.status.as_u16());
    }
    assert!(statuses.contains(&502), "{statuses:?}");
}

/// A host that answers each connection with half a reply.
async fn half_replies() -> (
    std::net::SocketAddr,
    std::sync::Arc<std::sync::atomic::AtomicUsize>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            drop(stream.read(&mut [0; 1024]).await);
            let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
            drop(stream.write_all(half).await);
        }
    });
    (addr, count)
}

#[tokio::test]
async fn nothing_is_tried_again_once_the_reply_began() {
    let (addr, count) = half_replies().await;
    let port = free_port();
    let retry = json!({"retry_policy": {"retry_on": true, "num_retries": 3}});
    let mut plan = Plan::web(port, json!([to("/", "c", retry)])).cluster("c", [], json!({}));
    plan.clusters[0]["hosts"] = json!([{"address": addr.to_string()}]);
    let _running = plan.run();
    let mut connection = super::clients::Http1::connect(port).await;
    let reply = connection.send(&Ask::get("/")).await;
    assert!(reply.is_err(), "half a reply is no whole one: {reply:?}");
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);
}

async fn took(ask: Ask, port: u16) -> (Reply, Duration) {
    let begun = Instant::now();
    let reply = ask.http1(port).await;
    (reply, begun.elapsed())
}

#[tokio::test]
async fn routes_headers_and_deadlines_bound_the_time() {
    let peers = [Peer::start("a").await];
    let port = free_port();
    let plan = Plan::web(
        port,
        json!([
            to("/short", "c", json!({"timeout": "200ms"})),
            to("/", "c", json!({"timeout": "30s"})),
        ]),
    )
    .cluster("c", &peers, json!({}));
    let _running = plan.run();
    let slow = |path: &str| Ask::get(path).header("x-do", "slow=3000");
    for (name, ask) in [
        ("route", slow("/short")),
        ("header", slow("/").header("x-mosn-global-timeout", "200")),
        (
            "header over route",
            slow("/short").header("x-mosn-global-timeout", "250"),
        ),
        ("try header", slow("/").header("x-mosn-try-timeout", "200")),
    ] {
        let (reply, time) = took(ask, port).await;
        assert_eq!(reply.status, 504, "{name}: {reply:?}");
        assert!((200..2000).contains(&time.as_millis()), "{name}: {time:?}");
    }
    let longer = Ask::get("/short")
        .header("x-do", "slow=400")
        .header("x-mosn-global-timeout", "5000");
    assert_eq!(longer.http1(port).await.status, 200, "a header can lengthen it");
    // By hand, as tonic's client would not wait for the answer.
    for (slow, code) in [("3000", "4"), ("10", "")] {
        let ask = Ask::new("POST", Call::Unary.path())
            .header("content-type", "application/grpc")
            .header("grpc-timeout", "300m")
            .header("x-slow", slow);
        let begun = Instant::now();
        let reply = ask.body("\0\0\0\0\u{1}x").http2(port).await;
        assert_eq!(reply.header("grpc-status"), code, "{reply:?}");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn a_pool_carries_many_requests_over_few_connections() {
    let peers = [Peer::start("a").await];
    let (_running, port) = proxy_to(&peers, &json!({}), json!({"upstream_protocol": "Http1"}));
    shares(port, 50, |_| Ask::get("/")).await;
    assert_eq!(peers[0].connections(), 1);
    let peers = [Peer::start("a").await];
    let each = json!({"max_request_per_conn": 10});
    let (_running, port) = proxy_to(&peers, &each, json!({"upstream_protocol": "Http1"}));
    shares(port, 50, |_| Ask::get("/")).await;
    assert_eq!(peers[0].connections(), 5);
}
