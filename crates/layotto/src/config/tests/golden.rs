//! Every configuration with which Go Layotto was recorded: it loads here, or fails for the reason
//! for which it failed there.

use super::*;

const GOLDEN: &str = include_str!("../fixtures/golden.jsonl");

fn placeholder(name: &str) -> Option<String> {
    let value = match name {
        "CALLBACK_PORT" => "9999",
        "DIR" => "/tmp",
        "REDIS" | "REDIS2" | "REDIS3" | "REDIS4" | "ETCD" | "HTTP" | "TCP" | "CLOSED" | "ZK" | "S3" => {
            "127.0.0.1:1"
        }
        _ => return None,
    };
    Some(value.to_owned())
}

fn whole_file(case: &serde_json::Value) -> String {
    let config = &case["config"];
    if config.get("servers").is_some() {
        return config.to_string();
    }
    let mut listener = serde_json::json!({
        "name": "grpc", "address": "127.0.0.1:0", "bind_port": true,
        "filter_chains": [{"filters": [{"type": "grpc", "config": {"grpc_config": config}}]}],
    });
    listener["stream_filters"] = case.get("stream_filters").cloned().unwrap_or_default();
    let mut file = serde_json::json!({"servers": [{"listeners": [listener]}]});
    file["metrics"] = case.get("metrics").cloned().unwrap_or_default();
    file.to_string()
}

fn errors_of(case: &serde_json::Value) -> Vec<String> {
    let text = whole_file(case);
    let Outcome { report, .. } = read(
        text.as_bytes(),
        Format::Json,
        &"f".into(),
        &registry(),
        &placeholder,
    );
    let errors = report.errors.iter().map(|finding| finding.message.clone());
    errors.collect()
}

#[test]
fn what_upstream_started_with_loads() {
    let mut failed = Vec::new();
    for line in GOLDEN.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = case["case"].as_str().unwrap().to_owned();
        for error in errors_of(&case) {
            let sentence = error.split(';').next().unwrap_or_default();
            failed.push(format!("{name}: {sentence}"));
        }
    }
    assert_eq!(
        failed,
        [
            "dapr_misc/custom-component-unknown-type: custom component nope is not regsitered",
            // A plug-in upstream: a type that a process beside it brings.
            "pluggable/hello: service component hello-demo is not regsitered",
            "startup/unknown-type-state: service component nope is not regsitered",
            "startup/unknown-type-sequencer: service component nope is not regsitered",
            "startup/unknown-type-config: service component nope is not regsitered",
            "startup/unknown-type-secret: couldn't find secret store nope",
            "startup/unknown-type-file: service component nope is not regsitered",
            "startup/unknown-type-cryption: service component nope is not registered",
            "startup/unknown-type-phone: service component nope is not registered",
            "startup/wrong-json-type: found a number, expected a text",
            "startup/component-ref-unknown-secret: no secret store is called \"nope\"",
            // Nor did upstream start with it.
            "state_zookeeper/missing-session-timeout: missing field `sessionTimeout`",
        ]
    );
}
