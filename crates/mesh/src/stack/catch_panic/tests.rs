use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Full, StreamBody};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::stack::over;

fn request(content_type: &str) -> Request<()> {
    Request::builder()
        .header(CONTENT_TYPE, content_type)
        .body(())
        .unwrap()
}

async fn fail(yes: bool) -> Result<Response<Full<Bytes>>, Infallible> {
    tokio::task::yield_now().await;
    assert!(!yes, "as asked for");
    Ok(Response::new(Full::from("ok")))
}

#[tokio::test]
async fn a_panic_is_told_as_the_caller_expects() {
    let service = over(service_fn(|_: Request<()>| fail(true)))
        .push(layer())
        .into_service();
    let grpc = service
        .clone()
        .oneshot(request("application/grpc"))
        .await
        .unwrap();
    assert_eq!(
        (grpc.status().as_u16(), &grpc.headers()["grpc-status"]),
        (200, &"13".parse().unwrap())
    );
    let http = service.oneshot(request("text/plain")).await.unwrap();
    assert_eq!(http.status(), 500);
}

#[tokio::test]
async fn a_panic_before_the_future_exists_is_caught_too() {
    let service = service_fn(|request: Request<()>| {
        assert!(request.headers().is_empty(), "as asked for");
        fail(false)
    });
    let reply = over(service)
        .push(layer())
        .into_service()
        .oneshot(request("text/plain"))
        .await
        .unwrap();
    assert_eq!(reply.status(), 500);
}

#[tokio::test]
async fn other_replies_pass() {
    let service = over(service_fn(|_: Request<()>| fail(false)))
        .push(layer())
        .into_service();
    let reply = service.oneshot(request("text/plain")).await.unwrap();
    assert_eq!(reply.body().size_hint().exact(), Some(2));
    assert_eq!(reply.into_body().collect().await.unwrap().to_bytes(), "ok");
}

fn failing_body(
    content_type: &'static str,
) -> impl Future<Output = Response<Body<impl HttpBody<Data = Bytes, Error = Infallible>>>> {
    let service = service_fn(|_: Request<()>| async {
        let mut frames = 0;
        let frames = futures::stream::poll_fn(move |_| {
            frames += 1;
            assert!(frames < 2, "as asked for");
            Poll::Ready(Some(Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"one")))))
        });
        Ok::<_, Infallible>(Response::new(StreamBody::new(frames)))
    });
    let service = over(service).push(layer()).into_service();
    async move { service.oneshot(request(content_type)).await.unwrap() }
}

#[tokio::test]
async fn a_panicking_grpc_body_ends_with_a_status() {
    let mut body = failing_body("application/grpc").await.into_body();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "13");
    assert!(body.is_end_stream());
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_panicking_http_body_is_not_taken_for_a_whole_one() {
    let mut body = failing_body("text/plain").await.into_body();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    assert!(body.frame().await.unwrap().is_err());
}
