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

/// Says that streams up to 1 were begun.
fn farewell(reason: h2::Reason) -> Vec<u8> {
    vec![
        0,
        0,
        8,
        7,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        u32::from(reason) as u8,
    ]
}

/// Ends stream 3.
fn reset(reason: h2::Reason) -> Vec<u8> {
    vec![0, 0, 4, 3, 0, 0, 0, 0, 3, 0, 0, 0, u32::from(reason) as u8]
}

/// Answers streams; connection 0 ends its second one by `refusal` once its body is there.
async fn refusing(mut stream: TcpStream, number: usize, refusal: Vec<u8>) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let [_, high, low, kind, flags, .., id] = head;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        stream.read_exact(&mut payload).await.unwrap();
        let is_last = matches!(kind, 0 | 1) && flags & 1 == 1;
        let answer = match (kind, flags) {
            (4, 0) => vec![0, 0, 0, 4, 1, 0, 0, 0, 0],
            (6, 0) => [&[0, 0, low, 6, 1, 0, 0, 0, 0], &*payload].concat(),
            _ if is_last && number == 0 && id == 3 => refusal.clone(),
            // Status 200, from the static table.
            _ if is_last => vec![0, 0, 1, 1, 5, 0, 0, 0, id, 0x88],
            _ => continue,
        };
        stream.write_all(&answer).await.unwrap();
    }
}

/// Status and tries of two posts with a body, to a server that refuses the second.
async fn two_posts(http: &Http, refusal: Vec<u8>) -> [(u16, u32); 2] {
    let server = Server::raw(move |stream, number| refusing(stream, number, refusal.clone())).await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let mut seen = [(0, 0); 2];
    for seen in &mut seen {
        let post = http::Request::post("http://a/").version(Version::HTTP_2);
        let (post, exchange) = with_exchange(post.body(Body::from("body")).unwrap());
        let reply = soon(http.forward(post, &plain(), &cluster)).await;
        *seen = (reply.status().as_u16(), exchange.facts().attempts);
    }
    seen
}

#[tokio::test]
async fn a_post_with_a_body_that_the_host_did_nothing_for_is_sent_again() {
    for refusal in [
        farewell(h2::Reason::NO_ERROR),
        farewell(h2::Reason::ENHANCE_YOUR_CALM),
        reset(h2::Reason::REFUSED_STREAM),
    ] {
        let seen = two_posts(&http(), refusal.clone()).await;
        assert_eq!(seen, [(200, 1), (200, 2)], "{refusal:?}");
    }
    for refusal in [reset(h2::Reason::INTERNAL_ERROR), reset(h2::Reason::CANCEL)] {
        let seen = two_posts(&http(), refusal.clone()).await;
        assert_eq!(seen, [(200, 1), (502, 1)], "{refusal:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_to_keep_is_not_sent_again() {
    let mut http = http();
    http.settings.replay_bytes = 3;
    let seen = two_posts(&http, farewell(h2::Reason::NO_ERROR)).await;
    assert_eq!(seen, [(200, 1), (502, 1)]);
}
