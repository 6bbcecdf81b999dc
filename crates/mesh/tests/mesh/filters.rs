//! Filters before a service, seen by real clients.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream};
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use layotto_mesh::{
    Body, BoxError,
    connection::Info,
    exchange::Exchange,
    filter::{self, Context, Filter, KINDS, Next, Terminal},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::service_fn;

use crate::support::{Server, get, grpc, http1, http2, loopback, text};

fn build(name: &str, config: Value) -> Arc<dyn Filter> {
    let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
    (kind.build)(&config, &Context::default()).unwrap()
}

/// A service that sends back what it gets, as it comes; or, at `/late`, when it has all of it.
struct Echo;

impl Terminal for Echo {
    fn call(&self, request: filter::Request) -> BoxFuture<'_, filter::Response> {
        Box::pin(async move {
            let late = request.uri().path() == "/late";
            let (sender, receiver) = mpsc::channel(1);
            let mut body = request.into_body();
            if late && body.frame().await.is_none() {
                return filter::Response::new("nothing".into());
            }
            let pump = tokio::spawn(async move {
                while let Some(Ok(frame)) = body.frame().await {
                    if sender.send(Ok::<_, BoxError>(frame)).await.is_err() {
                        break;
                    }
                }
            });
            if late {
                pump.await.unwrap();
            }
            let frames = stream::unfold(receiver, async |mut receiver| {
                receiver.recv().await.map(|frame| (frame, receiver))
            });
            filter::Response::new(Body::new(StreamBody::new(frames)))
        })
    }
}

async fn serve(filter: Arc<dyn Filter>) -> Server {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let filter = filter.clone();
        async move {
            let mut request = request.map(Body::from);
            let connection = Info::of(request.extensions()).cloned();
            let exchange = Exchange::begin("test".into(), connection);
            request.extensions_mut().insert(exchange);
            Ok(filter.call(request, Next::new(&[], &Echo)).await)
        }
    });
    Server::start(&loopback(), service).await
}

/// A POST of these chunks, of no announced length; the body stays open if `open`.
fn post(path: &str, chunks: &'static [&str], open: bool) -> Request<Body> {
    let frame = |chunk: &&'static str| Ok::<_, BoxError>(Frame::data(Bytes::from_static(chunk.as_bytes())));
    let rest = match open {
        true => stream::pending().left_stream(),
        false => stream::empty().right_stream(),
    };
    let body = Body::new(StreamBody::new(
        stream::iter(chunks.iter().map(frame)).chain(rest),
    ));
    let uri = format!("http://test{path}");
    Request::post(uri).header("host", "test").body(body).unwrap()
}

#[tokio::test]
async fn a_chunked_upload_that_grows_too_big_gets_413() {
    let server = serve(build("payload_limit", json!({"max_entity_size": 5}))).await;
    let (mut client, _) = http1(server.connect().await).await;
    let refused = client
        .send_request(post("/late", &["123", "456"], true))
        .await
        .unwrap();
    assert_eq!(refused.status(), 413);
}

#[tokio::test]
async fn an_http2_stream_that_grows_too_big_is_reset_and_its_neighbours_are_not() {
    let server = serve(build("payload_limit", json!({"max_entity_size": 5}))).await;
    let (mut client, _) = http2(server.connect().await).await;
    let neighbour = client.send_request(post("/", &["12345"], true)).await.unwrap();
    // The rest is sent once the reply has begun: a reset takes what is not written yet with it.
    let (feed, mut fed) = mpsc::channel(2);
    let body = stream::poll_fn(move |cx| fed.poll_recv(cx));
    let request = Request::post("http://test/").body(Body::new(StreamBody::new(body)));
    let chunk = |text: &'static str| Ok::<_, BoxError>(Frame::data(Bytes::from_static(text.as_bytes())));
    feed.send(chunk("123")).await.unwrap();
    let begun = client.send_request(request.unwrap()).await.unwrap();
    assert_eq!(begun.status(), 200);
    feed.send(chunk("456")).await.unwrap();
    let error = begun.into_body().collect().await.unwrap_err();
    assert!(format!("{error:?}").contains("Reset"), "{error:?}");

    let refused = client
        .send_request(post("/late", &["123", "456"], true))
        .await
        .unwrap();
    assert_eq!(refused.status(), 413);
    let small = client.send_request(post("/late", &["123"], false)).await.unwrap();
    assert_eq!(small.status(), 200);
    let frame = neighbour.into_body().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "12345");
}

#[tokio::test]
async fn a_grpc_method_beyond_its_limit_is_refused_on_the_same_connection() {
    let config = json!({"global_switch": true, "rules": [
        {"resource": "/a.B/Limited", "threshold": 2, "statIntervalInMs": 600_000},
    ]});
    let server = serve(build("flowControlFilter", config)).await;
    let (mut client, _) = http2(server.connect().await).await;
    for limited in [false, false, true] {
        let reply = client.send_request(grpc("/a.B/Limited")).await.unwrap();
        assert_eq!(reply.status(), 200);
        let status = reply
            .headers()
            .get("grpc-status")
            .map(|status| status.to_str().unwrap());
        assert_eq!(status, limited.then_some("8"));
    }
    let other = client.send_request(grpc("/a.B/Other")).await.unwrap();
    assert!(!other.headers().contains_key("grpc-status"));
}

#[tokio::test]
async fn an_address_is_the_connections() {
    for (action, status) in [("allow", 200), ("deny", 403)] {
        let config = json!({"ips": [{"action": action, "addrs": ["127.0.0.1"]}]});
        let server = serve(build("ip_access", config)).await;
        let (mut client, _) = crate::support::http1(server.connect().await).await;
        let reply = client.send_request(get("/late")).await.unwrap();
        assert_eq!(reply.status(), status);
        assert_eq!(text(reply).await == "nothing", status == 200);
    }
}
