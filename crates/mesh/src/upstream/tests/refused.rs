//! Connections that are lost to new requests while others wait for them.

use h2::Reason;

use super::*;

/// Refuses the first stream and answers the others.
async fn refusing() -> Server {
    Server::raw(|stream, _| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut refused = false;
        while let Some(Ok((_, mut reply))) = connection.accept().await {
            match std::mem::replace(&mut refused, true) {
                false => reply.send_reset(Reason::REFUSED_STREAM),
                true => drop(reply.send_response(http::Response::new(()), true).unwrap()),
            }
        }
    })
    .await
}

#[tokio::test]
async fn at_the_limit_a_fresh_connection_is_not_waited_for_while_an_open_one_has_room() {
    let server = refusing().await;
    let cluster = cluster(&[server.address], limits([1, 0, 0, 0]));
    let refused = soon(ask(&cluster, Protocol::Http2)).await.unwrap_err();
    assert!(refused.untouched, "{refused:?}");
    let host = first(&cluster);
    let again = soon(host.pool.lease(Protocol::Http2, &cluster, &host, true));
    let again = again.await.unwrap();
    assert!(again.is_reused());
    let reply = soon(again.send(get(Protocol::Http2), None)).await.unwrap();
    assert_eq!(reply.head.status, 200);
    assert_eq!(server.seen.accepted(), 1);
}

#[tokio::test]
async fn who_waits_does_not_wait_for_the_last_stream_of_a_connection_that_said_farewell() {
    let setup = Setup {
        protocol: Protocol::Http2,
        max_streams: Some(2),
    };
    let server = Server::with(setup, |_| std::future::pending()).await;
    let cluster = cluster(&[server.address], limits([1, 0, 0, 0]));
    let begin = || {
        let cluster = cluster.clone();
        tokio::spawn(async move { ask(&cluster, Protocol::Http2).await })
    };
    let (_stays, ends) = (begin(), begin());
    until(|| server.seen.requests() == 2).await;
    let host = first(&cluster);
    let waiting = host.pool.lease(Protocol::Http2, &cluster, &host, false);
    let mut waiting = std::pin::pin!(waiting);
    assert!(futures::poll!(&mut waiting).is_pending());
    server.seen.farewell.notify_one();
    // The farewell has arrived once nothing is leased over the connection any more.
    tokio::time::sleep(Duration::from_millis(50)).await;
    ends.abort();
    assert!(!soon(waiting).await.unwrap().is_reused());
}

/// Allows `streams` at a time, and later none; answers nothing.
async fn closing_down(mut stream: tokio::net::TcpStream) {
    let settings = |streams: u8| [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, streams];
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    stream.write_all(&settings(100)).await.unwrap();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let [_, high, low, kind, flags, ..] = head;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        stream.read_exact(&mut payload).await.unwrap();
        let acknowledged = [0, 0, low, kind, 1, 0, 0, 0, 0];
        match (kind, flags) {
            (4, 0) => stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await.unwrap(),
            (6, 0) => {
                stream
                    .write_all(&[&acknowledged, &*payload].concat())
                    .await
                    .unwrap();
                stream.write_all(&settings(0)).await.unwrap();
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_request_given_up_before_its_stream_is_open_harms_no_other() {
    let server = Server::raw(|stream, _| closing_down(stream)).await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let first = soon(lease(&cluster, Protocol::Http2)).await.unwrap();
    // That no more streams are allowed has arrived.
    tokio::time::sleep(Duration::from_millis(50)).await;
    {
        let mut given_up = pin!(first.send(get(Protocol::Http2), None));
        assert!(futures::poll!(&mut given_up).is_pending());
    }
    let second = soon(lease(&cluster, Protocol::Http2)).await.unwrap();
    let mut waits = pin!(second.send(get(Protocol::Http2), None));
    let sent = futures::poll!(&mut waits);
    assert!(sent.is_pending(), "{sent:?}");
}
