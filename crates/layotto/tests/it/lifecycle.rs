//! Start and end of the process: ports, sockets, directories, signals, drain.

use std::{fs, os::unix::fs::MetadataExt, os::unix::net::UnixListener, path::Path, time::Duration};

use layotto_proto::runtime::v1::{
    CommonInvokeRequest, InvokeServiceRequest, SaveStateRequest, SayHelloRequest, StateItem,
    runtime_client::RuntimeClient,
};
use layotto_testkit::HttpService;
use rustix::process::Signal;
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};

use crate::sidecar::{PATIENCE, Sidecar, config, free_port};

pub async fn client(port: u16) -> RuntimeClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    RuntimeClient::new(endpoint.connect().await.unwrap())
}

/// Saves a value in the store `state_demo` of the runtime whose API is at `port`.
pub async fn save(port: u16, key: &str, value: &str) {
    let item = StateItem {
        key: key.to_owned(),
        value: value.to_owned().into(),
        ..StateItem::default()
    };
    let request = SaveStateRequest {
        store_name: "state_demo".to_owned(),
        states: vec![item],
    };
    client(port).await.save_state(request).await.unwrap();
}

fn hello() -> SayHelloRequest {
    SayHelloRequest {
        service_name: "helloworld".into(),
        name: "x".into(),
        data: None,
    }
}

fn greeter() -> Value {
    json!({"hellos": {"helloworld": {"type": "helloworld", "hello": "greeting"}}})
}

fn invoker(target: &str) -> Value {
    json!({"rpcs": {"mosn": {"config": {"channel": [{"protocol": "http", "listener": target, "size": 4}]}}}})
}

fn invocation(path: &str) -> InvokeServiceRequest {
    let message = CommonInvokeRequest {
        method: path.into(),
        ..CommonInvokeRequest::default()
    };
    InvokeServiceRequest {
        id: "svc".into(),
        message: Some(message),
    }
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut process = Sidecar::with_config(folder.path(), &config(port, free_port(), &greeter()), &[]);
    assert_eq!(process.wait_for_end().code(), Some(1));
    let output = process.output();
    assert!(
        output.contains(&format!("127.0.0.1:{port}")) && output.contains("grpc"),
        "{output}"
    );
}

#[tokio::test]
async fn a_second_process_on_the_same_data_is_told_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut first = Sidecar::with_config(folder.path(), &config(port, free_port(), &greeter()), &[]);
    assert!(first.wait_for_port(port));
    let mut second = Sidecar::with_config(folder.path(), &config(free_port(), free_port(), &greeter()), &[]);
    assert_eq!(second.wait_for_end().code(), Some(1));
    let output = second.output();
    assert!(output.contains(&first.pid().to_string()), "{output}");
}

#[tokio::test]
async fn a_pid_file_that_another_process_took_over_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let start = |port: u16, data: &str| {
        let mut config = config(port, free_port(), &greeter());
        config["pid"] = json!(folder.path().join("l.pid"));
        let file = folder.path().join(format!("{data}.json"));
        fs::write(&file, config.to_string()).unwrap();
        let arguments = ["start", "-c", file.to_str().unwrap(), "--data-dir", data];
        Sidecar::start(folder.path(), arguments, &[])
    };
    let wait_for_pid = |process: &mut Sidecar| {
        let begun = std::time::Instant::now();
        let pid = process.pid().to_string();
        while fs::read_to_string(folder.path().join("l.pid"))
            .unwrap_or_default()
            .trim()
            != pid
        {
            assert!(
                !process.is_gone() && begun.elapsed() < PATIENCE,
                "{}",
                process.output()
            );
        }
    };
    let mut first = start(free_port(), "one");
    wait_for_pid(&mut first);
    let mut second = start(free_port(), "two");
    wait_for_pid(&mut second);
    first.signal(Signal::TERM);
    assert_eq!(first.wait_for_end().code(), Some(0));
    wait_for_pid(&mut second);
}

#[tokio::test]
async fn the_metrics_name_each_measure_once_whatever_the_number_of_listeners() {
    let folder = tempfile::tempdir().unwrap();
    let (port, metrics) = (free_port(), free_port());
    let mut config = config(port, free_port(), &greeter());
    let mut other = config["servers"][0]["listeners"][0].clone();
    other["name"] = json!("other");
    other["address"] = json!(format!("127.0.0.1:{}", free_port()));
    let listeners = config["servers"][0]["listeners"].as_array_mut().unwrap();
    listeners.push(other);
    let sink = json!({"port": metrics, "disable_collect_process": true});
    config["metrics"] = json!({"sinks": [{"type": "prometheus", "config": sink}]});
    let mut process = Sidecar::with_config(folder.path(), &config, &[]);
    assert!(process.wait_for_port(metrics));
    let page = crate::golden::http::try_get(metrics, "/metrics").await.unwrap();
    let page = page["body"].as_str().unwrap();
    let mut types: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
    types.sort_unstable();
    let all = types.len();
    types.dedup();
    assert_eq!(types.len(), all, "{page}");
    for listener in ["grpc", "other", "actuator"] {
        let line = format!("layotto_connections{{listener=\"{listener}\"}}");
        assert!(page.contains(&line), "{line}: {page}");
    }
    assert!(!page.lines().any(|line| line.starts_with("process_")), "{page}");
}

async fn ends_cleanly_at_once(signal: Signal) {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut process = Sidecar::with_config(folder.path(), &config(port, free_port(), &greeter()), &[]);
    assert!(process.wait_for_port(port));
    // An idle connection must not hold the end up.
    let mut idle = client(port).await;
    idle.say_hello(hello()).await.unwrap();
    let begun = std::time::Instant::now();
    process.signal(signal);
    assert_eq!(process.wait_for_end().code(), Some(0), "{}", process.output());
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "took {:?}",
        begun.elapsed()
    );
    assert!(!folder.path().join(".layotto/layotto.pid").exists());
}

// The client must hear of the drain while the test waits for the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_with_nothing_in_flight_ends_at_once() {
    ends_cleanly_at_once(Signal::TERM).await;
}

// The client must hear of the drain while the test waits for the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_with_nothing_in_flight_ends_at_once() {
    ends_cleanly_at_once(Signal::INT).await;
}

#[tokio::test]
async fn sigterm_ends_a_start_that_waits_for_a_function() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"(module
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "it begins")
        (func (export "_initialize")
            (drop (call $log (i32.const 2) (i32.const 0) (i32.const 9)))
            (loop (br 0))))"#;
    fs::write(folder.path().join("f.wasm"), wat::parse_str(text).unwrap()).unwrap();
    let mut config = config(free_port(), free_port(), &greeter());
    let plugin = json!({"name": "f", "vm_config": {"path": "f.wasm", "cpu": 600_000}});
    let filters = &mut config["servers"][0]["listeners"][1]["stream_filters"];
    let filters = filters.as_array_mut().unwrap();
    filters.push(json!({"type": "Layotto", "config": {"f": plugin}}));
    let mut process = Sidecar::with_config(folder.path(), &config, &[]);
    assert!(process.wait_for_output("it begins"), "{}", process.output());
    process.signal(Signal::TERM);
    assert_eq!(process.wait_for_end().code(), Some(0), "{}", process.output());
}

// The client must hear of the drain while the test waits for the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_flight_ends_well_and_then_the_process_does() {
    let folder = tempfile::tempdir().unwrap();
    let service = HttpService::start().await;
    let (port, actuator) = (free_port(), free_port());
    let config = config(port, actuator, &invoker(&service.addr.to_string()));
    let mut process = Sidecar::with_config(folder.path(), &config, &[]);
    assert!(process.wait_for_port(port));
    let mut caller = client(port).await;
    let call = tokio::spawn(async move { caller.invoke_service(invocation("/slow1")).await });
    service
        .request_to("/slow1", PATIENCE)
        .await
        .expect("the call reached the service");
    process.signal(Signal::TERM);
    let readiness = wait_until_not_ready(actuator).await;
    assert_eq!(readiness["body_json"]["status"], "DOWN", "{readiness}");
    let answer = call.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.data.unwrap().value, b"echo:");
    assert_eq!(process.wait_for_end().code(), Some(0));
}

async fn wait_until_not_ready(actuator: u16) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let answer = crate::golden::http::try_get(actuator, "/actuator/health/readiness")
            .await
            .unwrap();
        if answer["status"] == 503 || begun.elapsed() > PATIENCE {
            return answer;
        }
    }
}

// The client must hear of the drain while the test waits for the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_process_now() {
    let folder = tempfile::tempdir().unwrap();
    let service = HttpService::start().await;
    let (port, actuator) = (free_port(), free_port());
    let config = config(port, actuator, &invoker(&service.addr.to_string()));
    let mut process = Sidecar::with_config(folder.path(), &config, &[]);
    assert!(process.wait_for_port(port));
    let mut caller = client(port).await;
    let call = tokio::spawn(async move { caller.invoke_service(invocation("/slow")).await });
    service
        .request_to("/slow", PATIENCE)
        .await
        .expect("the call reached the service");
    process.signal(Signal::TERM);
    wait_until_not_ready(actuator).await;
    let begun = std::time::Instant::now();
    process.signal(Signal::TERM);
    process.wait_for_end();
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "took {:?}",
        begun.elapsed()
    );
    assert!(call.await.unwrap().is_err());
}

fn socket_config(path: &Path) -> Value {
    let mut config = config(0, free_port(), &greeter());
    config["servers"][0]["listeners"][0]["network"] = json!("unix");
    config["servers"][0]["listeners"][0]["address"] = json!(path);
    config
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_its_rights_are_narrow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l.sock");
    drop(UnixListener::bind(&path).unwrap());
    let mut process = Sidecar::with_config(folder.path(), &socket_config(&path), &[]);
    let begun = std::time::Instant::now();
    while std::os::unix::net::UnixStream::connect(&path).is_err() {
        assert!(
            !process.is_gone() && begun.elapsed() < PATIENCE,
            "{}",
            process.output()
        );
    }
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o660);
    process.signal(Signal::TERM);
    assert_eq!(process.wait_for_end().code(), Some(0));
    assert!(!path.exists(), "the socket is left behind");
}

#[tokio::test]
async fn what_is_no_socket_is_never_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    fs::write(&path, "data").unwrap();
    let mut process = Sidecar::with_config(folder.path(), &socket_config(&path), &[]);
    assert_eq!(process.wait_for_end().code(), Some(1));
    assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    assert!(process.output().contains("precious"), "{}", process.output());
}

#[tokio::test]
async fn a_wrong_file_is_refused_before_anything_opens() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut wrong = config(
        port,
        free_port(),
        &json!({
            "state": {"s": {"type": "nope"}},
            "lock": {"l": {"type": 5}},
        }),
    );
    wrong["servers"][0]["default_log_level"] = json!(7);
    let mut process = Sidecar::with_config(folder.path(), &wrong, &[]);
    assert_eq!(process.wait_for_end().code(), Some(1));
    let output = process.output();
    for part in [
        "state.s.type",
        "lock.l.type",
        "default_log_level",
        "in-memory",
        "embedded",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
    assert!(!folder.path().join(".layotto").exists(), "something was opened");
}

#[tokio::test]
async fn a_thousand_callers_at_once_are_all_answered() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut process = Sidecar::with_config(folder.path(), &config(port, free_port(), &greeter()), &[]);
    assert!(process.wait_for_port(port));
    let calls = (0..1000).map(|_| {
        tokio::spawn(async move {
            let mut caller = client(port).await;
            caller
                .say_hello(hello())
                .await
                .map(|answer| answer.into_inner().hello)
        })
    });
    for call in futures::future::join_all(calls).await {
        assert_eq!(call.unwrap().unwrap(), "greeting, x");
    }
}
