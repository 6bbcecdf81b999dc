use std::{
    convert::Infallible,
    sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use layotto_core::GoDuration;
use tokio::net::{TcpListener, UnixListener};

use super::*;
use crate::cluster::{
    Clusters, Pick,
    config::{CheckConfig, ClusterConfig, ClusterManager, GrpcCheck, HostConfig},
    resolve::Lookup,
};

/// A server whose answers the test sets; 0 is no answer at all.
#[derive(Debug, Clone)]
struct Server {
    answer: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answer: u16) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Self {
            answer: Arc::new(AtomicU16::new(answer)),
            asked: Arc::default(),
        };
        let serving = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let serving = serving.clone();
                let service = service_fn(move |request| serving.clone().reply(request));
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let served = builder.serve_connection(TokioIo::new(stream), service).await;
                    drop(served);
                });
            }
        });
        (server, address)
    }

    async fn reply(self, request: Request<Incoming>) -> Result<Response<crate::Body>, Infallible> {
        self.asked.fetch_add(1, SeqCst);
        match self.answer.load(SeqCst) {
            0 => std::future::pending().await,
            status if request.version() == http::Version::HTTP_2 => Ok(grpc_reply(request, status).await),
            status => {
                assert_eq!(
                    (request.uri().path(), &request.headers()["host"]),
                    ("/health", &HeaderValue::from_static("svc"))
                );
                let mut response = Response::new(crate::Body::empty());
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                Ok(response)
            }
        }
    }
}

/// `status` is the serving status; above 100 it is a gRPC status.
async fn grpc_reply(request: Request<Incoming>, status: u16) -> Response<crate::Body> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&body[..], [0, 0, 0, 0, 3, 0x0a, 1, b's']);
    if status > 100 {
        let refused = crate::reply::refuse(crate::reply::Kind::Grpc, crate::reply::Code::NotFound, "");
        return refused.map(crate::Body::new);
    }
    let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, status as u8]);
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let body = Full::new(message).with_trailers(async { Some(Ok(trailers)) });
    Response::new(crate::Body::new(body))
}

fn check(protocol: &str) -> HealthCheck {
    HealthCheck {
        service_name: "s".into(),
        protocol: protocol.into(),
        interval: GoDuration::from_millis(10),
        interval_jitter: GoDuration::from_millis(1),
        initial_delay_seconds: GoDuration::from_millis(1),
        check_config: CheckConfig {
            http_check_config: HttpCheck {
                path: "/health".into(),
                domain: "svc".into(),
                codes: vec![Codes { start: 200, end: 299 }],
                ..HttpCheck::default()
            },
            grpc_check_config: GrpcCheck {
                service: "s".into(),
                authority: String::new(),
            },
        },
        ..HealthCheck::default()
    }
}

fn clusters(address: &str, health_check: HealthCheck) -> (Clusters, Arc<Cluster>) {
    let manager = ClusterManager {
        clusters: vec![ClusterConfig {
            name: "c".into(),
            hosts: vec![HostConfig {
                address: address.into(),
                ..HostConfig::default()
            }],
            health_check,
            ..ClusterConfig::default()
        }],
        ..ClusterManager::default()
    };
    let clusters = Clusters::build(&manager, None).unwrap();
    let cluster = clusters.get("c").unwrap().clone();
    (clusters, cluster)
}

/// Waits until the cluster has a host that is well, or none.
async fn until(cluster: &Cluster, well: bool) {
    until_true(|| cluster.choose(&Pick::default()).is_some() == well).await;
}

async fn until_true(condition: impl Fn() -> bool) {
    let changed = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), changed)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_host_is_well_while_its_path_answers_as_it_should() {
    let (server, address) = Server::start(204).await;
    let (clusters, cluster) = clusters(&address, check("Http1"));
    assert!(
        cluster.choose(&Pick::default()).is_some(),
        "well until a check says otherwise"
    );
    clusters.start();
    server.answer.store(503, SeqCst);
    until(&cluster, false).await;
    server.answer.store(200, SeqCst);
    until(&cluster, true).await;
    let health = &cluster.health;
    assert_eq!(
        (health.became_unhealthy.get(), health.became_healthy.get()),
        (1, 1)
    );
    assert!(health.active_failure.get() > 0 && health.success.get() > 0);
    assert_eq!(health.network_failure.get(), 0);
}

#[tokio::test]
async fn a_host_is_well_while_it_says_so_over_grpc() {
    let (server, address) = Server::start(1).await;
    let (clusters, cluster) = clusters(&address, check("gRPC"));
    clusters.start();
    for sick in [2, 0x101, 3] {
        until(&cluster, true).await;
        server.answer.store(sick, SeqCst);
        until(&cluster, false).await;
        server.answer.store(1, SeqCst);
    }
    assert_eq!(cluster.health.network_failure.get(), 0);
}

#[tokio::test]
async fn no_reply_in_time_is_a_failure() {
    for protocol in ["Http1", "gRPC"] {
        let (_server, address) = Server::start(0).await;
        let timeout = GoDuration::from_millis(20);
        let (clusters, cluster) = clusters(
            &address,
            HealthCheck {
                timeout,
                ..check(protocol)
            },
        );
        clusters.start();
        until(&cluster, false).await;
        assert!(cluster.health.network_failure.get() > 0, "{protocol}");
    }
}

#[tokio::test]
async fn a_port_that_takes_no_connections_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (clusters, cluster) = clusters(&address.to_string(), check(""));
    clusters.start();
    listener.accept().await.unwrap();
    assert!(cluster.choose(&Pick::default()).is_some());
    drop(listener);
    until(&cluster, false).await;
}

#[tokio::test]
async fn unix_sockets_are_checked_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let (clusters, cluster) = clusters(&format!("unix:{}", path.display()), check(""));
    clusters.start();
    until(&cluster, false).await;
    let _listener = UnixListener::bind(&path).unwrap();
    until(&cluster, true).await;
}

#[tokio::test]
async fn hosts_that_look_ups_find_are_checked() {
    let (server, address) = Server::start(200).await;
    let port = address.rsplit_once(':').unwrap().1;
    let manager = ClusterManager {
        clusters: vec![ClusterConfig {
            name: "c".into(),
            kind: "STRICT_DNS".into(),
            hosts: vec![HostConfig {
                address: format!("svc:{port}"),
                ..HostConfig::default()
            }],
            health_check: check("Http1"),
            ..ClusterConfig::default()
        }],
        ..ClusterManager::default()
    };
    let lookup = Lookup::new(|_, port| Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) }));
    let clusters = Clusters::construct(&manager, &[], None, &lookup).unwrap();
    clusters.start();
    until_true(|| server.asked.load(SeqCst) >= 2).await;
}

#[tokio::test(start_paused = true)]
async fn thresholds_count_checks_in_a_row() {
    let config = HealthCheck {
        healthy_threshold: 2,
        unhealthy_threshold: 3,
        ..check("")
    };
    let checks = Checks::new(&config).unwrap().unwrap();
    let (_clusters, cluster) = clusters("127.0.0.1:1", config);
    let host = cluster.hosts()[0].clone();
    let mut streak = Streak::default();
    let mut note = |well: bool| {
        let result = well.then_some(()).ok_or_else(|| Failure::Reply("bad".into()));
        checks.note(&mut streak, result, &cluster, &host);
        host.is_healthy()
    };
    let said = [
        false, false, true, false, false, false, false, true, false, true, true, true,
    ];
    let counts = [
        true, true, true, true, true, false, false, false, false, false, true, true,
    ];
    assert_eq!(said.map(&mut note), counts);
    assert_eq!(
        (
            cluster.health.became_unhealthy.get(),
            cluster.health.became_healthy.get()
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn checks_end_with_their_cluster() {
    let (server, address) = Server::start(200).await;
    let (clusters, cluster) = clusters(&address, check("Http1"));
    let checks = Arc::downgrade(cluster.checks.as_ref().unwrap());
    clusters.start();
    until_true(|| server.asked.load(SeqCst) >= 2).await;
    drop((clusters, cluster));
    until_true(|| checks.strong_count() == 0).await;
}
