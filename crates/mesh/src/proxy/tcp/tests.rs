use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, from_value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    Listener,
    connection::Local,
    drain, listener,
    tls::{
        server::{Acceptor, Options},
        testing::Authority,
    },
};

fn info(source: &str, destination: &str) -> Info {
    let remote = Remote::Tcp(source.parse().unwrap());
    Info::new(remote, Local::Tcp(destination.parse().unwrap()), "test")
}

fn clusters(names: Value) -> Arc<Clusters> {
    let manager = from_value(json!({ "clusters": names })).unwrap();
    Arc::new(Clusters::build(&manager, None).unwrap())
}

fn proxy(config: Value, clusters: Arc<Clusters>) -> TcpProxy {
    TcpProxy::build(&from_value(config).unwrap(), clusters).unwrap()
}

/// A server that says what it got, once that has ended.
async fn echo() -> SocketAddr {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            tokio::spawn(async move {
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                stream.write_all(format!("got {text}").as_bytes()).await.unwrap();
            });
        }
    });
    address
}

/// An address of loopback that nobody listens on.
async fn nobody() -> SocketAddr {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.local_addr().unwrap()
}

struct Server {
    address: SocketAddr,
    connections: crate::connection::Connections,
    signal: drain::Signal,
}

async fn serve(proxy: TcpProxy) -> Server {
    serve_raw(Arc::new(proxy)).await
}

async fn serve_raw(proxy: Arc<impl RawService>) -> Server {
    let config = listener::Config::new("test", SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let listener = Listener::bind(&config).await.unwrap();
    let (address, connections) = (listener.local_addr().tcp().unwrap(), listener.connections());
    let (signal, watch) = drain::channel();
    tokio::spawn(listener.serve_raw(proxy, watch));
    Server {
        address,
        connections,
        signal,
    }
}

async fn ask(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.ok();
    stream.shutdown().await.ok();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok();
    answer
}

#[tokio::test]
async fn bytes_go_to_the_cluster_and_back_and_are_counted() {
    let host = echo().await.to_string();
    let clusters = clusters(json!([{"name": "c", "type": "SIMPLE", "hosts": [{"address": host}]}]));
    let server = serve(proxy(json!({"cluster": "c"}), clusters)).await;
    assert_eq!(ask(server.address, "abc").await, "got abc");
    server.signal.drain().await;
    let connections = server.connections;
    assert_eq!((connections.bytes_read(), connections.bytes_written()), (3, 7));
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_passed_over_twice() {
    let (one, two, good) = (nobody().await, nobody().await, echo().await);
    let hosts: Vec<_> = [one, two, good]
        .iter()
        .map(|it| json!({"address": it.to_string()}))
        .collect();
    let clusters = clusters(json!([{"name": "c", "type": "SIMPLE", "hosts": hosts}]));
    let server = serve(proxy(json!({"cluster": "c"}), clusters)).await;
    for _ in 0..5 {
        assert_eq!(ask(server.address, "abc").await, "got abc");
    }
}

#[tokio::test]
async fn a_cluster_with_tls_is_spoken_to_under_tls() {
    let authority = Authority::new();
    let acceptor = Acceptor::build(&[authority.server(&["127.0.0.1"])], &Options::default())
        .unwrap()
        .unwrap();
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let host = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = acceptor.accept(socket.accept().await.unwrap().0).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        stream
            .write_all(format!("secretly {text}").as_bytes())
            .await
            .unwrap();
        stream.shutdown().await.unwrap();
    });
    let clusters = clusters(json!([{
        "name": "c", "type": "SIMPLE", "hosts": [{"address": host}],
        "tls_context": {"status": true, "ca_cert": authority.client().ca_cert},
    }]));
    let server = serve(proxy(json!({"cluster": "c"}), clusters)).await;
    assert_eq!(ask(server.address, "abc").await, "secretly abc");
}

#[tokio::test]
async fn connections_count_as_those_of_requests_do() {
    let hosts = json!([{"address": nobody().await.to_string()}, {"address": echo().await.to_string()}]);
    let of = json!([{"name": "c", "type": "SIMPLE", "lb_type": "LB_REQUEST_ROUNDROBIN", "hosts": hosts}]);
    let clusters = clusters(of);
    let server = serve(proxy(json!({"cluster": "c"}), clusters.clone())).await;
    assert_eq!(ask(server.address, "abc").await, "got abc");
    server.signal.drain().await;
    let stats = &clusters.get("c").unwrap().stats;
    let counted = [
        stats.connection_con_fail.get(),
        stats.connection_total.get(),
        stats.connection_close.get(),
        stats.connection_active.get(),
    ];
    assert_eq!(counted, [1, 1, 1, 0]);
}

#[tokio::test]
async fn a_long_connection_keeps_no_old_cluster_alive() {
    let host = echo().await.to_string();
    let old = clusters(json!([{"name": "c", "type": "SIMPLE", "hosts": [{"address": host}]}]));
    let watched = Arc::downgrade(old.get("c").unwrap());
    let place = Arc::new(arc_swap::ArcSwap::from_pointee(proxy(
        json!({"cluster": "c"}),
        old,
    )));
    let server = serve_raw(place.clone()).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(b"abc").await.unwrap();
    let active = || {
        let cluster = watched.upgrade()?;
        Some(cluster.stats.connection_active.get())
    };
    while active() == Some(0) {
        tokio::task::yield_now().await;
    }
    place.store(Arc::new(proxy(json!({"cluster": "c"}), clusters(json!([])))));
    assert_eq!(active(), None);
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "got abc");
}

#[tokio::test]
async fn clients_that_lead_nowhere_are_sent_away() {
    let dead =
        json!([{"name": "dead", "type": "SIMPLE", "hosts": [{"address": nobody().await.to_string()}]}]);
    for cluster in ["dead", "unknown"] {
        let server = serve(proxy(json!({"cluster": cluster}), clusters(dead.clone()))).await;
        assert_eq!(ask(server.address, "abc").await, "", "{cluster}");
    }
}

#[tokio::test]
async fn beyond_max_connections_clients_are_sent_away() {
    let host = echo().await.to_string();
    let clusters = clusters(json!([{
        "name": "c", "type": "SIMPLE", "hosts": [{"address": host}], "circuit_breakers": [{"max_connections": 1}],
    }]));
    let server = serve(proxy(json!({"cluster": "c"}), clusters.clone())).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(b"a").await.unwrap();
    // Wait for the place to be taken.
    while clusters.get("c").unwrap().limits().try_connection().is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(server.address, "abc").await, "");
    first.shutdown().await.unwrap();
    let mut answer = String::new();
    first.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "got a");
}

#[tokio::test]
async fn a_drain_waits_for_a_connection_and_then_cuts_it() {
    let host = echo().await.to_string();
    let clusters = clusters(json!([{"name": "c", "type": "SIMPLE", "hosts": [{"address": host}]}]));
    let server = serve(proxy(json!({"cluster": "c"}), clusters)).await;
    let mut quick = TcpStream::connect(server.address).await.unwrap();
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    while server.connections.open() < 2 {
        tokio::task::yield_now().await;
    }
    quick.write_all(b"a").await.unwrap();
    let mut answer = String::new();
    let finish = async {
        quick.shutdown().await.unwrap();
        quick.read_to_string(&mut answer).await.unwrap();
    };
    let limit = Duration::from_millis(300);
    let (clean, ()) = tokio::join!(server.signal.drain_within(limit), finish);
    assert_eq!((clean, &*answer), (false, "got a"));
    assert_eq!(slow.read(&mut [0]).await.unwrap_or(0), 0);
}

#[test]
fn the_first_route_that_matches_both_ends_is_taken() {
    let config: TcpProxyConfig = from_value(json!({
        "cluster": "rest",
        "routes": [
            {"Cluster": "near", "SourceAddrs": [{"Address": "10.1.0.0", "Length": 16}], "DestinationPort": "80,90-99"},
            {"cluster": "six", "source_addrs": ["2001:db8::/32"]},
            {"cluster": "one", "destination_addrs": ["10.9.9.9"], "source_port": "1000-2000"},
        ],
    }))
    .unwrap();
    let routes = config.routes().unwrap();
    for (source, destination, expected) in [
        ("10.1.2.3:5", "10.0.0.1:80", "near"),
        ("[::ffff:10.1.2.3]:5", "10.0.0.1:95", "near"),
        ("10.1.2.3:5", "10.0.0.1:81", "rest"),
        ("10.2.2.3:5", "10.0.0.1:80", "rest"),
        ("[2001:db8::1]:5", "[::1]:80", "six"),
        ("10.2.2.3:1500", "10.9.9.9:80", "one"),
        ("10.2.2.3:2500", "10.9.9.9:80", "rest"),
    ] {
        let info = info(source, destination);
        let taken = routes.iter().find(|route| route.matches(&info)).unwrap();
        assert_eq!(taken.cluster, expected, "{source} {destination}");
    }
}

#[test]
fn a_network_of_no_bits_is_every_address_of_its_family() {
    let config = json!({"routes": [{"cluster": "c", "source_addrs": ["0.0.0.0/0"]}]});
    let routes = from_value::<TcpProxyConfig>(config).unwrap().routes().unwrap();
    assert!(routes[0].matches(&info("9.9.9.9:1", "1.1.1.1:1")));
    assert!(!routes[0].matches(&info("[::1]:1", "[::1]:1")));
}

#[test]
fn what_is_wrong_is_named() {
    for (config, path) in [
        (json!({}), "cluster"),
        (json!({"routes": [{}]}), "routes[0].cluster"),
        (
            json!({"routes": [{"cluster": "c", "source_addrs": ["10.0.0.0/33"]}]}),
            "routes[0].source_addrs",
        ),
        (
            json!({"routes": [{"cluster": "c", "destination_port": "9-1"}]}),
            "routes[0].destination_port",
        ),
    ] {
        let config: TcpProxyConfig = from_value(config).unwrap();
        let error = TcpProxy::build(&config, Arc::default()).unwrap_err();
        assert_eq!(error.path, path);
    }
}

#[test]
fn idle_timeout_is_a_duration_or_nanoseconds() {
    for (value, seconds) in [(json!("90s"), 90), (json!(2_000_000_000_u64), 2)] {
        let config: TcpProxyConfig = from_value(json!({"idle_timeout": value})).unwrap();
        assert_eq!(config.idle_timeout.unwrap().get().as_secs(), seconds);
    }
}
