//! Where requests and replies end, as each side sees it.

use super::*;

/// Answers every request with these bytes, and closes.
async fn answering(reply: &'static str) -> Server {
    Server::raw(move |mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(reply.as_bytes()).await.unwrap();
    })
    .await
}

#[tokio::test]
async fn a_reply_that_is_chunked_has_no_other_length() {
    let reply = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
                 a\r\n0123456789\r\n0\r\n\r\n";
    let server = answering(reply).await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    for protocol in BOTH {
        let front = front(http(), speaking(Protocol::Http1), cluster.clone()).await;
        let request = http::Request::get(format!("http://{front}/"));
        let request = match protocol {
            Protocol::Http1 => request.header("host", "a"),
            Protocol::Http2 => request.version(Version::HTTP_2),
        };
        let reply = send(front, protocol, request.body(Body::empty()).unwrap()).await;
        assert!(!reply.headers().contains_key("content-length"), "{protocol:?}");
        assert_eq!(text(reply.into_body()).await, "0123456789", "{protocol:?}");
    }
}

#[tokio::test]
async fn a_post_that_nothing_was_sent_of_is_sent_again() {
    let server = Server::raw(|stream, number| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut refuse = number == 0;
        let mut first = true;
        while let Some(Ok((_, mut reply))) = connection.accept().await {
            match refuse && !std::mem::take(&mut first) {
                true => {
                    refuse = false;
                    reply.send_reset(h2::Reason::REFUSED_STREAM);
                }
                false => drop(reply.send_response(http::Response::new(()), true).unwrap()),
            }
        }
    })
    .await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    for attempts in [1, 2] {
        let post = http::Request::post("http://a/").version(Version::HTTP_2);
        let post = post.body(Body::empty()).unwrap();
        let (reply, exchange) = ask(post, &plain(), &cluster).await;
        assert_eq!(
            (reply.status().as_u16(), exchange.facts().attempts),
            (200, attempts)
        );
    }
}
