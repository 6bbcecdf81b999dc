//! Hosts behind TLS.

use std::net::SocketAddr;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, task::JoinSet};

use super::*;
use crate::{
    cluster::config::HostConfig,
    listener,
    tls::{
        server::{Acceptor, Options},
        testing::Authority,
    },
};

/// A server with a certificate for `host.test`; it answers with the scheme and the name that it was
/// asked for. Gone with the tasks.
async fn serve(authority: &Authority, protocol: listener::Protocol, tasks: &mut JoinSet<()>) -> SocketAddr {
    let options = Options {
        protocol,
        ..Options::default()
    };
    let acceptor = Acceptor::build(&[authority.server(&["host.test"])], &options);
    let acceptor = Arc::new(acceptor.unwrap().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let Ok((stream, _)) = acceptor.accept(stream).await else {
                    return;
                };
                let service = service_fn(async |request: Request<hyper::body::Incoming>| {
                    let scheme = request.uri().scheme_str().unwrap_or_default().to_owned();
                    Ok::<_, std::convert::Infallible>(Response::new(Body::from(scheme)))
                });
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                drop(server.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    address
}

fn cluster_at(address: SocketAddr, authority: &Authority, hostname: &str) -> Arc<Cluster> {
    built(ClusterConfig {
        hosts: vec![HostConfig {
            hostname: hostname.into(),
            ..host(address.to_string())
        }],
        tls_context: Some(authority.client()),
        ..ClusterConfig::default()
    })
}

#[tokio::test]
async fn a_host_proves_its_name_and_the_protocol_is_agreed_on() {
    let (authority, mut tasks) = (Authority::new(), JoinSet::new());
    for protocol in BOTH {
        let address = serve(&authority, listener::Protocol::Auto, &mut tasks).await;
        let cluster = cluster_at(address, &authority, "host.test");
        let lease = soon(lease(&cluster, protocol)).await.unwrap();
        assert!(lease.is_secure() && lease.local().is_some());
        let reply = soon(lease.send(get(protocol), None)).await.unwrap();
        assert_eq!(reply.head.status, 200, "{protocol:?}");
        assert!(soon(ask(&cluster, protocol)).await.is_ok());
    }
}

#[tokio::test]
async fn a_host_that_is_another_or_speaks_another_protocol_is_no_connection() {
    let (authority, mut tasks) = (Authority::new(), JoinSet::new());
    let address = serve(&authority, listener::Protocol::Auto, &mut tasks).await;
    for (cluster, why) in [
        (cluster_at(address, &authority, "other.test"), "certificate"),
        (cluster_at(address, &Authority::new(), "host.test"), "certificate"),
    ] {
        let failed = soon(lease(&cluster, Protocol::Http2)).await.unwrap_err();
        assert_eq!(failed.fault, Fault::Connect);
        assert!(failed.told().contains(why), "{}", failed.told());
        assert_eq!(cluster.stats.connection_con_fail.get(), 1);
    }
    let address = serve(&authority, listener::Protocol::Http1, &mut tasks).await;
    let cluster = cluster_at(address, &authority, "host.test");
    let failed = soon(lease(&cluster, Protocol::Http2)).await.unwrap_err();
    assert_eq!(failed.fault, Fault::Connect);
}
