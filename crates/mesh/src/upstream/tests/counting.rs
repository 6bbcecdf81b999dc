//! What connections leave in the counters of their host and its cluster.

use super::*;
use crate::cluster::Stats;

/// The counters of connections that are not 0; those of the host and its cluster must agree.
fn counted(cluster: &Cluster) -> Vec<(&'static str, u64)> {
    let of = |stats: &Stats| -> Vec<_> {
        let all = stats.all().filter(|(_, n)| *n > 0);
        all.filter(|(name, _)| name.starts_with("connection_")).collect()
    };
    let counts = of(&cluster.stats);
    assert_eq!(counts, of(&first(cluster).stats));
    counts
}

const OPEN: [(&str, u64); 2] = [("connection_total", 1), ("connection_active", 1)];

/// A connection that is closed, by whom `by` says.
fn closed(by: &'static [&'static str]) -> Vec<(&'static str, u64)> {
    let first = ["connection_total", "connection_close"];
    first.iter().chain(by).map(|name| (*name, 1)).collect()
}

#[tokio::test]
async fn a_connection_is_open_as_long_as_it_is_kept_and_closed_by_us_when_it_is_idle() {
    for protocol in BOTH {
        let server = Server::start(protocol, hello).await;
        let settings = ClusterConfig {
            idle_timeout: GoDuration(Duration::from_secs(60)),
            ..ClusterConfig::default()
        };
        let cluster = cluster(&[server.address], settings);
        for _ in 0..2 {
            soon(ask(&cluster, protocol)).await.unwrap();
            assert_eq!(counted(&cluster), OPEN, "{protocol:?}");
        }
        tokio::time::pause();
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(70)).await;
        tokio::time::resume();
        until(|| counted(&cluster) == closed(&["connection_local_close"])).await;
    }
}

#[tokio::test]
async fn a_connection_that_carried_all_it_may_is_closed_by_us() {
    for protocol in BOTH {
        let server = Server::start(protocol, hello).await;
        let settings = ClusterConfig {
            max_request_per_conn: 1,
            ..ClusterConfig::default()
        };
        let cluster = cluster(&[server.address], settings);
        soon(ask(&cluster, protocol)).await.unwrap();
        until(|| counted(&cluster) == closed(&["connection_local_close"])).await;
    }
}

#[tokio::test]
async fn a_connection_that_the_host_closes_between_requests_carried_none() {
    for protocol in BOTH {
        let server = Server::start(protocol, hello).await;
        let settings = ClusterConfig {
            idle_timeout: GoDuration(Duration::from_secs(600)),
            ..ClusterConfig::default()
        };
        let cluster = cluster(&[server.address], settings);
        soon(ask(&cluster, protocol)).await.unwrap();
        drop(server);
        // Over HTTP/1.1 only the next look at it tells.
        tokio::time::pause();
        let expected = closed(&["connection_remote_close"]);
        soon(async {
            while counted(&cluster) != expected {
                tokio::time::advance(Duration::from_millis(10)).await;
                tokio::task::yield_now().await;
            }
        })
        .await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_connection_that_the_host_closes_under_a_request_is_told_apart() {
    for protocol in BOTH {
        let server = Server::start(protocol, |_| std::future::pending()).await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let mut sending = Box::pin(lease(&cluster, protocol).await.unwrap().send(get(protocol), None));
        soon(async {
            while server.seen.requests() == 0 {
                assert!(futures::poll!(&mut sending).is_pending());
                tokio::task::yield_now().await;
            }
        })
        .await;
        drop(server);
        soon(sending).await.unwrap_err();
        let expected = closed(&[
            "connection_remote_close",
            "connection_remote_close_with_active_request",
        ]);
        until(|| counted(&cluster) == expected).await;
    }
}

#[tokio::test]
async fn a_request_given_up_costs_its_connection_over_http1_alone() {
    for protocol in BOTH {
        let server = Server::start(protocol, |_| std::future::pending()).await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let mut sending = Box::pin(lease(&cluster, protocol).await.unwrap().send(get(protocol), None));
        assert!(futures::poll!(&mut sending).is_pending());
        drop(sending);
        match protocol {
            Protocol::Http1 => {
                let expected = closed(&[
                    "connection_local_close",
                    "connection_local_close_with_active_request",
                ]);
                assert_eq!(counted(&cluster), expected);
            }
            Protocol::Http2 => {
                until(|| server.seen.cancelled.load(SeqCst) == 1 || server.seen.requests() == 0).await;
                assert_eq!(counted(&cluster), OPEN);
            }
        }
    }
}

#[tokio::test]
async fn a_reply_without_an_end_of_its_own_ends_with_its_connection() {
    let server = Server::raw(|mut stream, _| async move {
        let _read = stream.read(&mut [0; 1024]).await.unwrap();
        let reply = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall";
        stream.write_all(reply).await.unwrap();
    })
    .await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    assert_eq!(soon(ask(&cluster, Protocol::Http1)).await.unwrap(), "all");
    assert_eq!(counted(&cluster), closed(&["connection_remote_close"]));
}

#[tokio::test]
async fn a_connection_that_fails_is_none() {
    for protocol in BOTH {
        let cluster = cluster(&[nobody().await], ClusterConfig::default());
        soon(lease(&cluster, protocol)).await.unwrap_err();
        assert_eq!(counted(&cluster), [("connection_con_fail", 1)]);
    }
}
