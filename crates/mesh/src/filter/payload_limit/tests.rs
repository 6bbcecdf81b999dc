use http_body_util::{BodyExt, StreamBody};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::filter::testing::{chunks, grpc, http, run, run_over};

fn filter(config: Value) -> Arc<dyn Filter> {
    build(&config, &Context::default()).unwrap()
}

fn of_five() -> Arc<dyn Filter> {
    filter(json!({"max_entity_size": 5}))
}

fn with(mut request: Request, body: impl Into<Body>) -> Request {
    *request.body_mut() = body.into();
    request
}

/// A service that reads the whole request, then answers with its size.
async fn size(request: Request) -> Response {
    match request.into_body().collect().await {
        Ok(body) => Response::new(body.to_bytes().len().to_string().into()),
        Err(_) => panic!("the filter should have dropped this before it could answer"),
    }
}

#[tokio::test]
async fn a_body_up_to_the_limit_passes() {
    for body in [Body::from("12345"), chunks(["12", "345"]), Body::empty()] {
        let outcome = run_over(&*of_five(), with(http("/"), body), async |request| {
            let body = request.into_body().collect().await.unwrap();
            Response::new(body.to_bytes().into())
        })
        .await;
        assert_eq!((outcome.status, outcome.broken), (200, None));
        assert!(outcome.body.is_empty() || outcome.body == "12345");
    }
}

#[tokio::test]
async fn an_announced_size_is_refused_before_the_service_hears_of_it() {
    let mut lied = with(http("/"), chunks(["1"]));
    lied.headers_mut().insert(CONTENT_LENGTH, 6.into());
    for request in [with(http("/"), "123456"), lied] {
        let outcome = run_over(&*of_five(), request, async |_| panic!("called")).await;
        assert_eq!(outcome.status, 413);
        assert_eq!(outcome.body, TEXT);
        assert!(outcome.flags.contains(Flags::TOO_LARGE));
    }
}

#[tokio::test]
async fn a_body_that_grows_too_big_is_refused_if_the_reply_has_not_begun() {
    let filter = filter(json!({"max_entity_size ": 5, "http_status": 400}));
    let outcome = run_over(
        &*filter,
        with(http("/"), chunks(["123", "456"])),
        async |mut request| {
            while let Some(Ok(_)) = request.body_mut().frame().await {}
            std::future::pending().await
        },
    )
    .await;
    assert_eq!((outcome.status, &*outcome.body), (400, TEXT.as_bytes()));
    assert!(outcome.flags.contains(Flags::TOO_LARGE));
}

#[tokio::test]
async fn a_service_that_answers_the_broken_body_is_not_heard() {
    let outcome = run_over(
        &*of_five(),
        with(http("/"), chunks(["123", "456"])),
        async |mut request| {
            while let Some(Ok(_)) = request.body_mut().frame().await {}
            Response::new("half is enough".into())
        },
    )
    .await;
    assert_eq!(outcome.status, 413);
}

#[tokio::test]
async fn grpc_callers_get_resource_exhausted() {
    for body in [Body::from("123456"), chunks(["123", "456"])] {
        let outcome = run_over(&*of_five(), with(grpc("/a.B/C"), body), async |mut request| {
            while let Some(Ok(_)) = request.body_mut().frame().await {}
            std::future::pending().await
        })
        .await;
        assert_eq!(outcome.grpc(), Some(("8", TEXT)));
        assert!(outcome.flags.contains(Flags::TOO_LARGE));
    }
}

/// A service that begins to reply at once, and reads the request on another task.
async fn echo(mut request: Request) -> Response {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(Ok(frame)) = request.body_mut().frame().await {
            sender.send(Ok::<_, BoxError>(frame)).await.unwrap();
        }
        std::future::pending::<()>().await;
        drop(sender);
    });
    let frames = futures::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    Response::new(Body::new(StreamBody::new(frames)))
}

/// A body whose second chunk comes when the sender says so.
fn held() -> (Body, oneshot::Sender<()>) {
    let (sender, go) = oneshot::channel::<()>();
    let later = async move {
        go.await.unwrap();
        Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"456")))
    };
    let first = std::future::ready(Ok(Frame::data(Bytes::from_static(b"123"))));
    let frames = futures::StreamExt::chain(futures::stream::once(first), futures::stream::once(later));
    (Body::new(StreamBody::new(frames)), sender)
}

/// Sends `go` once all others have nothing left to do.
async fn last(go: oneshot::Sender<()>) {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
}

#[tokio::test]
async fn a_service_that_waits_for_another_task_is_woken() {
    let (body, go) = held();
    let filter = of_five();
    let service = async |request| {
        let reply = echo(request).await;
        std::future::pending::<()>().await;
        reply
    };
    let outcome = run_over(&*filter, with(http("/"), body), service);
    let (outcome, ()) = tokio::join!(outcome, last(go));
    assert_eq!(outcome.status, 413);
}

#[tokio::test]
async fn a_reply_that_has_begun_is_reset() {
    let (body, go) = held();
    let filter = of_five();
    let outcome = run_over(&*filter, with(http("/"), body), echo);
    let (outcome, ()) = tokio::join!(outcome, last(go));
    assert_eq!((outcome.status, outcome.broken.as_deref()), (200, Some(TEXT)));
    assert!(outcome.flags.contains(Flags::TOO_LARGE));
}

// deviation: D049
#[tokio::test]
async fn a_grpc_stream_that_has_begun_ends_with_resource_exhausted() {
    let (body, go) = held();
    go.send(()).unwrap();
    let outcome = run_over(&*of_five(), with(grpc("/a.B/C"), body), echo).await;
    assert_eq!(outcome.broken, None);
    assert!(outcome.trailers.is_some());
    assert_eq!(outcome.grpc(), Some(("8", TEXT)));
}

// deviation: D055
#[tokio::test]
async fn chunks_pass_as_they_come() {
    let (body, go) = held();
    let filter = filter(json!({"max_entity_size": 6}));
    let service = crate::filter::testing::Service::new(echo);
    let mut reply = filter
        .call(with(http("/"), body), Next::new(&[], &service))
        .await
        .into_body();
    let first = reply.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "123");
    go.send(()).unwrap();
    let second = reply.frame().await.unwrap().unwrap();
    assert_eq!(second.into_data().unwrap(), "456");
}

#[tokio::test]
async fn without_a_limit_anything_passes() {
    for config in [Value::Null, json!({"max_entity_size": 0})] {
        let outcome = run_over(&*filter(config), with(http("/"), chunks(["123", "456"])), size).await;
        assert_eq!(outcome.body, "6");
    }
}

#[test]
fn a_route_has_its_own_limit() {
    let filter = PayloadLimit(Limit::read(&json!({"max_entity_size": 5})).unwrap());
    let read = KIND.route_config.unwrap();
    let route = read(&json!({"max_entity_size ": 7, "http_status": 400})).unwrap();
    let limit = filter.limit(Some(&route));
    assert_eq!((limit.bytes, limit.status.as_u16()), (Some(7), 400));
    assert_eq!(filter.limit(None).bytes, Some(5));
}

#[tokio::test]
async fn a_status_out_of_range_builds_nothing() {
    let error = build(&json!({"http_status": 99}), &Context::default())
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "http_status: found 99, expected an HTTP status from 200 to 599"
    );
    assert_eq!(
        run(&*filter(json!({"http_status": 599})), http("/")).await.status,
        200
    );
}
