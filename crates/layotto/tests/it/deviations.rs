//! Deviations from upstream that no recorded call shows.

use layotto_proto::runtime::v1::{
    GetNextIdRequest, GetStateRequest, InvokeServiceRequest, runtime_client::RuntimeClient,
};
use serde_json::{Value, json};
use tonic::{Code, transport::Channel};

use crate::{
    golden::http,
    lifecycle::client,
    sidecar::{Sidecar, config, free_port},
};

struct Running {
    _process: Sidecar,
    _folder: tempfile::TempDir,
    client: RuntimeClient<Channel>,
    actuator: u16,
}

async fn start(grpc_config: Value) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let (port, actuator) = (free_port(), free_port());
    let mut process = Sidecar::with_config(folder.path(), &config(port, actuator, &grpc_config), &[]);
    assert!(process.wait_for_port(port), "{}", process.output());
    Running {
        _process: process,
        _folder: folder,
        client: client(port).await,
        actuator,
    }
}

// deviation: D004
#[tokio::test]
async fn invoke_service_without_an_invoker_is_a_failed_precondition() {
    let status = start(json!({}))
        .await
        .client
        .invoke_service(InvokeServiceRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, "invoker not init")
    );
}

// deviation: D022
#[tokio::test]
async fn bigger_than_holds_for_the_plain_and_for_the_prefixed_key() {
    let sequencer = json!({"type": "in-memory", "metadata": {}, "biggerThan": {
        "plain": 100, "sequencer|||app1||prefixed": 200}});
    let mut running = start(json!({"app": {"app_id": "app1"}, "sequencer": {"q": sequencer}})).await;
    for (key, expected) in [("plain", 101), ("prefixed", 201), ("other", 1)] {
        let request = GetNextIdRequest {
            store_name: "q".into(),
            key: key.into(),
            ..Default::default()
        };
        assert_eq!(
            running
                .client
                .get_next_id(request)
                .await
                .unwrap()
                .into_inner()
                .next_id,
            expected,
            "{key}"
        );
    }
}

// deviation: D028
#[tokio::test]
async fn a_secret_ref_to_an_unknown_store_is_an_error_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let secret_ref = json!([{"store_name": "nope", "key": "k", "sub_key": "k"}]);
    let state = json!({"state": {"s": {"type": "in-memory", "secret_ref": secret_ref}}});
    let mut process = Sidecar::with_config(folder.path(), &config(free_port(), free_port(), &state), &[]);
    assert_eq!(process.wait_for_end().code(), Some(1));
    let output = process.output();
    assert!(
        output.contains("state.s.secret_ref") && output.contains("nope"),
        "{output}"
    );
}

// deviation: D031
#[tokio::test]
async fn a_type_that_is_not_built_yet_leaves_its_component_down_and_no_other() {
    let state = json!({"later": {"type": "mongodb", "metadata": {}}, "now": {"type": "in-memory"}});
    let mut running = start(json!({"state": state})).await;
    let get = |store: &str| GetStateRequest {
        store_name: store.into(),
        key: "k".into(),
        ..Default::default()
    };
    let status = running.client.get_state(get("later")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status.message().contains("mongodb is not supported yet"),
        "{status}"
    );
    running.client.get_state(get("now")).await.unwrap();
    let readiness = http::try_get(running.actuator, "/actuator/health/readiness")
        .await
        .unwrap();
    assert_eq!(
        readiness["body_json"]["components"]["state.later"]["status"], "DOWN",
        "{readiness}"
    );
    assert_eq!(
        readiness["body_json"]["components"]["state.now"]["status"], "UP",
        "{readiness}"
    );
}

// deviation: D036
#[tokio::test]
async fn the_custom_kind_helloworld_is_there() {
    let custom = json!({"helloworld": {
        "demo": {"type": "in-memory", "metadata": {}}, "bye": {"type": "goodbye", "metadata": {}}}});
    let running = start(json!({"custom_component": custom})).await;
    let components = http::try_get(running.actuator, "/actuator/components")
        .await
        .unwrap();
    let up = components["body_json"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|component| {
            component["kind"] == "custom_component.helloworld" && component["status"] == "UP"
        });
    assert_eq!(up.count(), 2, "{components}");
}
