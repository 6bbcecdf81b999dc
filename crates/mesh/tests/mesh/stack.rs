use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use layotto_mesh::stack::{self, admin::Access, catch_panic, deadline};
use tokio::sync::Notify;
use tower::service_fn;

use crate::support::{Server, get, grpc, http1, http2, loopback, text};

async fn handle(request: Request<Incoming>, gate: Arc<Notify>) -> Result<Response<Full<Bytes>>, Infallible> {
    match request.uri().path() {
        "/panic" => panic!("as asked for"),
        "/wait" => gate.notified().await,
        "/never" => std::future::pending().await,
        _ => {}
    }
    Ok(Response::new(Full::from("ok")))
}

async fn server(gate: Arc<Notify>) -> Server {
    let stack = stack::over(service_fn(move |request| handle(request, gate.clone())))
        .push(deadline::layer())
        .push(catch_panic::layer());
    Server::start(&loopback(), stack.into_service()).await
}

#[tokio::test]
async fn a_panic_costs_an_http1_client_one_request() {
    let server = server(Arc::default()).await;
    let (mut client, _) = http1(server.connect().await).await;
    let failed = client.send_request(get("/panic")).await.unwrap();
    assert_eq!(failed.status(), 500);
    assert_eq!(
        text(failed).await,
        r#"{"code":"INTERNAL","message":"internal error"}"#
    );
    assert_eq!(text(client.send_request(get("/")).await.unwrap()).await, "ok");
}

#[tokio::test]
async fn a_panic_leaves_the_other_streams_of_a_connection_alone() {
    let gate = Arc::new(Notify::new());
    let server = server(gate.clone()).await;
    let (mut client, _) = http2(server.connect().await).await;
    let other = tokio::spawn(client.send_request(grpc("/wait")));
    let failed = client.send_request(grpc("/panic")).await.unwrap();
    assert_eq!(failed.status(), 200);
    assert_eq!(failed.headers()["grpc-status"], "13");
    gate.notify_one();
    assert_eq!(text(other.await.unwrap().unwrap()).await, "ok");
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let server = server(Arc::default()).await;
    let (mut client, _) = http2(server.connect().await).await;
    let mut call = grpc("/never");
    call.headers_mut().insert("grpc-timeout", "20m".parse().unwrap());
    let late = client.send_request(call).await.unwrap();
    assert_eq!(late.headers()["grpc-status"], "4");
    assert_eq!(text(client.send_request(grpc("/")).await.unwrap()).await, "ok");
}

#[tokio::test]
async fn a_guarded_stack_serves_and_knows_local_clients() {
    let stack = stack::over(service_fn(|request| handle(request, Arc::default())))
        .push(Access::new(None).layer())
        .into_service();
    let server = Server::start(&loopback(), stack).await;
    let (mut client, _) = http1(server.connect().await).await;
    let named = |host: &'static str| {
        let mut request = get("/");
        request.headers_mut().insert("host", host.parse().unwrap());
        request
    };
    let own = client.send_request(named("localhost")).await.unwrap();
    assert_eq!(text(own).await, "ok");
    let foreign = client.send_request(named("elsewhere.example")).await.unwrap();
    assert_eq!(foreign.status(), 403);
}
