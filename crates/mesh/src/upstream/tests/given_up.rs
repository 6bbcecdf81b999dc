//! Requests over HTTP/2 that are given up: what they leave behind is counted, and harms no others.

use tokio::sync::Notify;

use super::{super::http2::MOST_GIVEN_UP, *};
use crate::connection::{Backlog, Local, Remote};

/// A client's connection, and what it has under way.
fn client() -> (Info, Arc<Backlog>) {
    let backlog = Arc::new(Backlog::default());
    let (there, here) = ("10.0.0.7:4000", "10.0.0.1:80");
    let info = Info::new(
        Remote::Tcp(there.parse().unwrap()),
        Local::Tcp(here.parse().unwrap()),
        "web",
    );
    (info.counted(&backlog), backlog)
}

/// Begins a request of 30 KiB and gives it up.
async fn give_up(cluster: &Cluster, client: &Info) {
    let mut request = get(Protocol::Http2);
    let large = "x".repeat(30 * 1024).parse().unwrap();
    request.headers_mut().insert("x-large", large);
    let lease = lease(cluster, Protocol::Http2).await.unwrap();
    let mut sending = Box::pin(lease.on_behalf_of(Some(client)).send(request, None));
    assert!(futures::poll!(&mut sending).is_pending());
}

#[tokio::test]
async fn what_is_given_up_is_under_way_until_the_host_takes_it() {
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    let server = Server::raw(move |mut stream, _| {
        let gate = gate.clone();
        async move {
            let host = h2::server::handshake(&mut stream);
            drop(host.await.unwrap().accept().await.unwrap().unwrap());
            // Nothing more is read until then, and nothing looked at.
            gate.notified().await;
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
        }
    })
    .await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let (client, backlog) = client();
    give_up(&cluster, &client).await;
    until(|| backlog.under_way() == 0).await;
    // More than what the system holds between the two.
    for _ in 0..300 {
        give_up(&cluster, &client).await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let held = backlog.under_way();
    assert!((1..=300).contains(&held), "{held}");
    go.notify_one();
    until(|| backlog.under_way() == 0).await;
}

#[tokio::test]
async fn after_many_that_were_given_up_a_connection_is_replaced_and_ends_what_it_has() {
    const AT_ONCE: usize = 100;
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    let server = Server::start(Protocol::Http2, move |request: Request<Body>| {
        let gate = gate.clone();
        async move {
            match request.method().as_str() {
                "POST" => gate.notified().await,
                _ => std::future::pending().await,
            }
            Response::new(Body::from("late"))
        }
    })
    .await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let first = lease(&cluster, Protocol::Http2).await.unwrap();
    let first = tokio::spawn(first.send(Request::post("http://test/").body(Body::empty()).unwrap(), None));
    until(|| server.seen.requests() == 1).await;
    for round in 1..=MOST_GIVEN_UP / AT_ONCE + 2 {
        let one = async || {
            lease(&cluster, Protocol::Http2)
                .await?
                .send(get(Protocol::Http2), None)
                .await
        };
        let all = join_all((0..AT_ONCE).map(|_| one()));
        tokio::select! {
            _ = all => panic!("answered"),
            () = until(|| server.seen.requests() == 1 + round * AT_ONCE) => {}
        }
        until(|| server.seen.cancelled.load(SeqCst) == round * AT_ONCE).await;
    }
    assert_eq!(server.seen.accepted(), 2);
    go.notify_one();
    let reply = soon(first).await.unwrap().unwrap();
    assert_eq!(text(reply.body).await, "late");
}
