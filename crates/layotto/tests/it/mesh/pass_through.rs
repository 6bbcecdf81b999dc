//! gRPC methods that the runtime does not have reach the service that the metadata names.

use serde_json::{Value, json};
use tonic::Code;

use super::{
    clients::{Call, channel, grpc, grpc_at},
    peer::Peer,
    plan::{Plan, Running, runtime, virtual_proxy},
};
use crate::sidecar::free_port;

const KINDS: [Call; 4] = [Call::Unary, Call::Client, Call::Server, Call::Bidi];

fn plan(peer: &Peer, action: Value) -> (Plan, u16) {
    let port = free_port();
    let channel = json!({"protocol": "http", "listener": "egress"});
    let sections = json!({
        "hellos": {"helloworld": {"type": "helloworld", "hello": "greeting"}},
        "rpcs": {"mosn": {"config": {"channel": [channel]}}},
    });
    let route = json!({
        "match": {"headers": [{"name": "id", "value": "echo"}]},
        "route": super::plan::merged(json!({"cluster_name": "echo"}), &action),
    });
    let plan = Plan::default()
        .listener(runtime(port, sections))
        .listener(virtual_proxy("egress", "routes"))
        .routes("routes", json!([route]))
        .cluster("echo", [peer], json!({}));
    (plan, port)
}

async fn world(action: Value) -> (Running, Peer, u16) {
    let peer = Peer::start("echo").await;
    let (plan, port) = plan(&peer, action);
    (plan.run(), peer, port)
}

#[tokio::test]
async fn calls_of_all_kinds_reach_the_service_that_the_metadata_names() {
    for action in [json!({}), json!({"upstream_protocol": "Http2"})] {
        let (_running, peer, port) = world(action).await;
        let channel = channel(port).await;
        for name in ["id", "dapr-app-id"] {
            for (kind, replies) in KINDS.into_iter().zip([1, 1, 3, 2]) {
                let messages = grpc(&channel, kind, &[(name, "echo"), ("x-mine", "1")], "text")
                    .await
                    .unwrap_or_else(|status| panic!("{kind:?}: {status}"));
                assert_eq!(messages.len(), replies, "{kind:?}");
                let text = if kind == Call::Client { "texttext" } else { "text" };
                assert!(
                    messages.iter().all(|message| *message == text),
                    "{kind:?}: {messages:?}"
                );
                let seen = peer.seen().pop().unwrap();
                assert_eq!(seen.get("x-mine").unwrap(), "1");
                assert_eq!(seen.get("id").unwrap(), "echo");
            }
        }
    }
}

#[tokio::test]
async fn a_service_without_a_route_and_a_call_without_a_service_are_unimplemented() {
    let (_running, peer, port) = world(json!({})).await;
    let channel = channel(port).await;
    for metadata in [&[("id", "unknown")][..], &[]] {
        for kind in KINDS {
            let status = grpc(&channel, kind, metadata, "x").await.unwrap_err();
            assert_eq!(status.code(), Code::Unimplemented, "{kind:?}: {status}");
        }
    }
    assert_eq!(peer.requests(), 0);
}

#[tokio::test]
async fn a_cluster_that_speaks_http1_is_unimplemented() {
    let (_running, peer, port) = world(json!({"upstream_protocol": "Http1"})).await;
    let channel = channel(port).await;
    for kind in KINDS {
        let status = grpc(&channel, kind, &[("id", "echo")], "x").await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{kind:?}: {status}");
    }
    assert_eq!(peer.requests(), 0);
}

#[tokio::test]
async fn the_runtimes_own_methods_are_never_passed_on() {
    let (_running, peer, port) = world(json!({})).await;
    let channel = channel(port).await;
    let own = "/spec.proto.runtime.v1.Runtime/SayHello";
    let outcome = grpc_at(&channel, Call::Unary, own, &[("id", "echo")], "").await;
    // An empty message names no service: the runtime itself says so.
    assert_eq!(outcome.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(peer.requests(), 0);
}

#[tokio::test]
async fn calls_that_are_passed_on_need_the_api_token_and_do_not_show_it() {
    let peer = Peer::start("echo").await;
    let (plan, port) = plan(&peer, json!({}));
    let _running = plan.run_with(&[("LAYOTTO_API_TOKEN".to_owned(), "s3cret".to_owned())]);
    let channel = channel(port).await;
    for kind in KINDS {
        for wrong in [
            &[("id", "echo")][..],
            &[("id", "echo"), ("layotto-api-token", "no")],
        ] {
            let status = grpc(&channel, kind, wrong, "x").await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{kind:?}: {status}");
        }
    }
    assert_eq!(peer.requests(), 0);
    for name in ["layotto-api-token", "dapr-api-token"] {
        for kind in KINDS {
            grpc(&channel, kind, &[("id", "echo"), (name, "s3cret")], "x")
                .await
                .unwrap();
        }
    }
    assert!(
        peer.seen()
            .iter()
            .all(|headers| !format!("{headers:?}").contains("s3cret"))
    );
}

#[tokio::test]
async fn a_service_that_is_gone_is_unavailable() {
    let (_running, peer, port) = world(json!({})).await;
    let channel = channel(port).await;
    drop(peer);
    let status = grpc(&channel, Call::Unary, &[("id", "echo")], "x")
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}
