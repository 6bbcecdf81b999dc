use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tokio::sync::mpsc;
use tower::{ServiceExt, service_fn};

use super::*;
use crate::stack::over;

fn call(timeout: &str) -> Request<Empty<Bytes>> {
    Request::builder()
        .header(CONTENT_TYPE, "application/grpc")
        .header(GRPC_TIMEOUT, timeout)
        .body(Empty::new())
        .unwrap()
}

fn ok() -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("ok")))
}

#[test]
fn reads_every_unit() {
    let read = |text| parse(&HeaderValue::from_static(text));
    assert_eq!(read("2H"), Ok(Duration::from_secs(7200)));
    assert_eq!(read("2M"), Ok(Duration::from_secs(120)));
    assert_eq!(read("2S"), Ok(Duration::from_secs(2)));
    assert_eq!(read("2m"), Ok(Duration::from_millis(2)));
    assert_eq!(read("2u"), Ok(Duration::from_micros(2)));
    assert_eq!(read("00000002n"), Ok(Duration::from_nanos(2)));
    assert_eq!(read("99999999H"), Ok(Duration::from_secs(99_999_999 * 3600)));
    for malformed in ["", "S", "1", "1s", "123456789S", "-1S", "1.5S", " 1S"] {
        assert_eq!(read(malformed), Err(Malformed), "{malformed}");
    }
}

#[tokio::test(start_paused = true)]
async fn work_is_dropped_when_the_deadline_passes() {
    let alive = Arc::new(());
    let held = alive.clone();
    let service = over(service_fn(move |_: Request<Empty<Bytes>>| {
        let held = held.clone();
        async move {
            std::future::pending::<()>().await;
            drop(held);
            ok()
        }
    }));
    let begin = Instant::now();
    let future = service.push(layer()).into_service().oneshot(call("250m"));
    let mut future = std::pin::pin!(future);
    let reply = future.as_mut().await.unwrap();
    assert_eq!(begin.elapsed().as_millis(), 250);
    assert_eq!(reply.headers()["grpc-status"], "4");
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test(start_paused = true)]
async fn the_handler_sees_the_deadline() {
    let service = over(service_fn(|request: Request<Empty<Bytes>>| async move {
        let deadline = Deadline::of(request.extensions()).unwrap();
        assert_eq!(deadline.remaining(), Duration::from_secs(3));
        ok()
    }));
    let reply = service
        .push(layer())
        .into_service()
        .oneshot(call("3S"))
        .await
        .unwrap();
    assert_eq!(reply.into_body().collect().await.unwrap().to_bytes(), "ok");
}

#[tokio::test]
async fn requests_without_a_deadline_pass_untouched() {
    let service = over(service_fn(|request: Request<Empty<Bytes>>| async move {
        assert_eq!(Deadline::of(request.extensions()), None);
        ok()
    }));
    let service = service.push(layer()).into_service();
    let plain = Request::new(Empty::new());
    assert_eq!(service.clone().oneshot(plain).await.unwrap().status(), 200);
    // The header means nothing outside of gRPC.
    let http = Request::builder()
        .header(GRPC_TIMEOUT, "nonsense")
        .body(Empty::new())
        .unwrap();
    assert!(
        !service
            .oneshot(http)
            .await
            .unwrap()
            .headers()
            .contains_key("grpc-status")
    );
}

#[tokio::test]
async fn calls_that_are_late_or_malformed_do_not_reach_the_handler() {
    let service = over(service_fn(|_: Request<Empty<Bytes>>| async {
        panic!("reached the handler");
        #[allow(unreachable_code)]
        ok()
    }));
    let service = service.push(layer()).into_service();
    for (timeout, status) in [("0n", "4"), ("5x", "13")] {
        let reply = service.clone().oneshot(call(timeout)).await.unwrap();
        assert_eq!(reply.headers()["grpc-status"], status, "{timeout}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_replies_ends_at_the_deadline() {
    let (send, receive) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let receive = Arc::new(std::sync::Mutex::new(Some(receive)));
    let service = over(service_fn(move |_: Request<Empty<Bytes>>| {
        let mut receive = receive.lock().unwrap().take().unwrap();
        let frames = futures::stream::poll_fn(move |cx| receive.poll_recv(cx));
        async { Ok::<_, Infallible>(Response::new(StreamBody::new(frames))) }
    }));
    let mut body = service
        .push(layer())
        .into_service()
        .oneshot(call("1S"))
        .await
        .unwrap()
        .into_body();
    send.send(Ok(Frame::data(Bytes::from_static(b"one"))))
        .await
        .unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "4");
    assert!(send.is_closed());
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_beyond_the_clock_is_far_away() {
    let service = over(service_fn(|request: Request<Empty<Bytes>>| async move {
        assert!(Deadline::of(request.extensions()).unwrap().remaining() > Duration::from_secs(86_400));
        ok()
    }));
    service
        .push(layer())
        .into_service()
        .oneshot(call("99999999H"))
        .await
        .unwrap();
}
