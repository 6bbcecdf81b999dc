//! Secrets stay secret, and one bad request harms no other.

use std::fs;

use layotto_proto::runtime::v1::SayHelloRequest;
use rustix::process::Signal;
use serde_json::json;

use crate::{
    golden::http,
    lifecycle::client,
    sidecar::{Sidecar, config, free_port},
};

const CANARY: &str = "canary-8d1f2b";

#[tokio::test]
async fn a_secret_of_the_configuration_is_in_no_log_dump_or_error() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets.json");
    fs::write(&secrets, json!({"k": CANARY}).to_string()).unwrap();
    let (port, actuator) = (free_port(), free_port());
    let mut file = config(
        port,
        actuator,
        &json!({
            "secret_store": {"s": {"type": "local.file", "metadata": {"secretsFile": secrets}}},
            "hellos": {"helloworld": {"type": "helloworld", "hello": "x"}},
            "state": {
                // DOWN, with settings that hold a secret in every way there is.
                "redis": {"type": "redis", "metadata": {"redisHost": "h", "redisPassword": CANARY},
                          "secret_ref": [{"store_name": "s", "key": "k", "sub_key": "k", "inject_as": "password"}]},
                "unknown_key": {"type": "in-memory", "metadata": {"passwrod": CANARY}},
                "from_env": {"type": "in-memory", "metadata": {"token": "${SECRET_TOKEN}"}},
            },
            "bindings": {"b": {"type": "http", "metadata": {"url": format!("http://user:{CANARY}@127.0.0.1:1/")}}},
        }),
    );
    file["servers"][0]["default_log_level"] = json!("TRACE");
    let env = [
        ("SECRET_TOKEN".to_owned(), CANARY.to_owned()),
        ("LAYOTTO_API_TOKEN".to_owned(), CANARY.to_owned()),
    ];
    let mut process = Sidecar::with_config(folder.path(), &file, &env);
    assert!(process.wait_for_port(port), "{}", process.output());
    let mut seen = String::new();
    let request = SayHelloRequest {
        service_name: "helloworld".into(),
        ..Default::default()
    };
    seen += &client(port)
        .await
        .say_hello(request)
        .await
        .unwrap_err()
        .to_string();
    let mut with_token = client(port).await;
    let binding = layotto_proto::runtime::v1::InvokeBindingRequest {
        name: "b".into(),
        operation: "get".into(),
        ..Default::default()
    };
    let mut request = tonic::Request::new(binding);
    request
        .metadata_mut()
        .insert("layotto-api-token", CANARY.parse().unwrap());
    seen += &with_token.invoke_binding(request).await.unwrap_err().to_string();
    for path in [
        "/actuator/health/readiness",
        "/actuator/info",
        "/actuator/components",
    ] {
        seen += &http::try_get(actuator, path).await.unwrap().to_string();
    }
    process.signal(Signal::TERM);
    process.wait_for_end();
    let all = process.output() + &seen;
    assert!(all.contains("state.redis"), "the log says nothing: {all}");
    let leak = all.lines().find(|line| line.contains(CANARY));
    assert_eq!(leak, None);
}

#[tokio::test]
async fn a_damaged_store_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join(".layotto");
    fs::create_dir(&data).unwrap();
    let junk = vec![b'j'; 8192];
    fs::write(data.join("layotto.db"), &junk).unwrap();
    let state = json!({"state": {"s": {"type": "embedded", "metadata": {}}}});
    let mut process = Sidecar::with_config(folder.path(), &config(free_port(), free_port(), &state), &[]);
    assert_eq!(process.wait_for_end().code(), Some(1));
    assert!(process.output().contains("layotto.db"), "{}", process.output());
    assert_eq!(fs::read(data.join("layotto.db")).unwrap(), junk);
}

// deviation: D032
#[tokio::test]
async fn log_levels_change_at_run_time_and_unknown_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (port, actuator) = (free_port(), free_port());
    let mut process = Sidecar::with_config(folder.path(), &config(port, actuator, &json!({})), &[]);
    assert!(process.wait_for_port(actuator));
    let change = |component: &str, level: &str| json!({"method": "POST", "path": "/actuator/logger", "body": json!({"component": component, "level": level}).to_string()});
    assert_eq!(
        http::request(actuator, &change("mesh", "debug")).await["status"],
        200
    );
    let refused = http::request(actuator, &change("mehs", "debug")).await;
    assert_eq!(refused["status"], 400);
    assert!(
        refused["body"].as_str().unwrap().contains("state/embedded"),
        "{refused}"
    );
    let refused = http::request(actuator, &change("mesh", "loud")).await;
    assert!(
        refused["body"].as_str().unwrap().contains("trace, debug, info"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_component_is_reloaded_through_the_actuator() {
    let folder = tempfile::tempdir().unwrap();
    let (port, actuator) = (free_port(), free_port());
    let state = json!({"state": {"s": {"type": "embedded", "metadata": {}}}});
    let mut process = Sidecar::with_config(folder.path(), &config(port, actuator, &state), &[]);
    assert!(process.wait_for_port(actuator));
    let reload =
        |name: &str| json!({"method": "POST", "path": format!("/actuator/components/state/{name}/reload")});
    let done = http::request(actuator, &reload("s")).await;
    assert_eq!(
        (&done["status"], &done["body"]),
        (&json!(200), &json!("{\"status\":\"UP\"}"))
    );
    assert_eq!(http::request(actuator, &reload("other")).await["status"], 404);
}
