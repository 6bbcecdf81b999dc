//! A component that is configured and not used costs next to nothing, whatever its product.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use crate::{
    golden::http,
    sidecar::{PATIENCE, Sidecar, config, free_port, say},
};

/// How many components of a type are compared with one.
const MANY: usize = 41;
/// What each of them may hold.
const MOST: i64 = 100 * 1024;

/// What a process holds: threads, and bytes that it does not share with files.
struct Held {
    threads: i64,
    bytes: i64,
}

impl Held {
    fn by(process: &Sidecar) -> Self {
        let proc = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", process.pid())).unwrap();
        let figure = |text: &str, name: &str| -> i64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        Self {
            threads: figure(&proc("status"), "Threads:"),
            bytes: figure(&proc("smaps_rollup"), "Anonymous:") * 1024,
        }
    }
}

/// The settings of the `number`th component, each with a product of its own at `port`.
fn component(type_name: &str, number: usize, port: u16) -> Value {
    let host = format!("127.0.1.{}:{port}", number + 1);
    let metadata = match type_name {
        "redis" => json!({"redisHost": host, "redisPassword": ""}),
        "etcd" => json!({"endpoints": host}),
        "zookeeper" => json!({"servers": host, "sessionTimeout": "5s"}),
        "postgresql" => json!({"connectionString": format!("postgres://postgres@{host}/postgres")}),
        "kafka" => json!({"brokers": host}),
        "apollo" => {
            let address = format!("http://{host}");
            let metadata = json!({"app_id": "app1", "open_api_address": address, "open_api_token": "t",
                                  "open_api_user": "apollo"});
            return json!({"type": type_name, "address": [address], "metadata": metadata});
        }
        other => panic!("no settings for {other}"),
    };
    json!({"type": type_name, "metadata": metadata})
}

/// Starts a process with `count` components, waits until each was probed, and looks. Threads that
/// looked up names or read files end in a moment: unless `threads` is 0, waits until no more are left.
async fn held(section: &str, type_name: &str, count: usize, port: u16, threads: i64) -> Held {
    let folder = tempfile::tempdir().unwrap();
    let (grpc, actuator) = (free_port(), free_port());
    let all: Map<_, _> = (0..count)
        .map(|number| (format!("c{number}"), component(type_name, number, port)))
        .collect();
    let mut process = Sidecar::with_config(
        folder.path(),
        &config(grpc, actuator, &json!({section: all})),
        &[],
    );
    assert!(process.wait_for_port(actuator), "{}", process.output());
    let settled = async {
        loop {
            let health = http::try_get(actuator, "/actuator/health/readiness")
                .await
                .unwrap();
            let parts: BTreeMap<String, Value> =
                serde_json::from_value(health["body_json"]["components"].clone()).unwrap();
            let known = parts.values().filter(|part| part["status"] != "INIT").count();
            if known > count {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.unwrap();
    let begun = Instant::now();
    loop {
        let held = Held::by(&process);
        if threads == 0 || held.threads <= threads || begun.elapsed() > PATIENCE {
            return held;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_component_that_nobody_uses_holds_no_thread_and_little_memory() {
    // Takes every connection and says nothing.
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let taken = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    let kinds = [
        ("state", "redis"),
        ("state", "etcd"),
        ("state", "zookeeper"),
        ("state", "postgresql"),
        ("pub_subs", "kafka"),
        ("config_store", "apollo"),
    ];
    for (section, type_name) in kinds {
        let one = held(section, type_name, 1, address.port(), 0).await;
        let many = held(section, type_name, MANY, address.port(), one.threads).await;
        let each = (many.bytes - one.bytes) / (MANY as i64 - 1);
        say(format_args!("{section}.{type_name}: {each} bytes each, unused"));
        assert!(
            many.threads <= one.threads,
            "{type_name}: {}, {} with one",
            many.threads,
            one.threads
        );
        assert!(each <= MOST, "{type_name}: {each} bytes");
    }
    taken.abort();
}
