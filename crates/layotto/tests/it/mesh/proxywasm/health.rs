//! The example that asks a back end over gRPC whether it serves, with the crate `proxy-wasm`.

use std::{pin::pin, time::Duration};

use layotto_testkit::soon::soon;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::{ServingStatus, server::health_reporter};

use super::*;
use crate::guests::put_example;

/// How long nothing has to happen until it is taken for never.
const SILENCE: Duration = Duration::from_millis(150);

#[tokio::test]
async fn requests_pass_while_the_back_end_says_that_it_serves() {
    let (mut reporter, health) = health_reporter();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let back = incoming.local_addr().unwrap();
    let serving = Server::builder()
        .add_service(health)
        .serve_with_incoming(incoming);
    let _serving = AbortOnDropHandle::new(tokio::spawn(serving));
    let says = async |status| reporter.set_service_status("", status).await;

    let web = free_port();
    let route = to("/", "back", json!({"upstream_protocol": "Http2"}));
    let plan = Plan::web(web, json!([route]))
        .filters(json!([filter("health", &json!({"allow_clusters": ["back"]}))]))
        .cluster("back", [], json!({"hosts": [{"address": back.to_string()}]}));
    let folder = tempfile::tempdir().unwrap();
    put_example(folder.path(), "rust-health", "health");
    let _running = plan.run_in(folder, &[]);
    let ask = Ask::get("/");
    let checked = async || {
        let reply = ask.http1(web).await;
        (reply.status.as_u16(), reply.text())
    };
    let refused = |why: &str| (503, format!("the back end does not serve: {why}\n"));

    says(ServingStatus::NotServing).await;
    assert_eq!(checked().await, refused("it says so"));
    let patient = ask.clone().header("x-wait", "1");
    let mut waits = pin!(patient.http1(web));
    assert!(timeout(SILENCE, &mut waits).await.is_err());
    says(ServingStatus::Serving).await;
    let waited = soon(waits).await;
    // The service is all that this back end has.
    for passed in [waited, ask.http1(web).await] {
        assert_eq!(
            (passed.status.as_u16(), passed.header("grpc-status")),
            (200, "12")
        );
    }
    reporter.clear_service_status("").await;
    assert_eq!(checked().await, refused("status 5"));
}
