use std::fs;

use layotto_core::Registry;
use layotto_mesh::access_log::Roller;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};

use super::*;
use crate::config;

/// A configuration with these listeners, and the cluster `held`.
fn config(folder: &TempDir, listeners: Value, held: &str) -> Config {
    let file = folder.path().join("config.json");
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster_name": "held"}}]);
    let text = json!({
        "servers": [{
            "listeners": listeners,
            "routers": [{
                "router_config_name": "routes",
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routers": routes}],
            }],
        }],
        "cluster_manager": {"clusters": [{"name": "held", "type": "SIMPLE", "hosts": [{"address": held}]}]},
    });
    fs::write(&file, text.to_string()).unwrap();
    match config::load(&file, &Registry::default(), &|_| None) {
        Ok(loaded) => loaded.config,
        Err(report) => panic!("{report}"),
    }
}

fn web(name: &str, address: &str) -> Value {
    let filter = json!({"type": "proxy", "config": {
        "downstream_protocol": "Http1", "upstream_protocol": "Http1", "router_config_name": "routes",
    }});
    listener(name, address, filter)
}

fn tcp(name: &str, address: &str) -> Value {
    listener(
        name,
        address,
        json!({"type": "tcp_proxy", "config": {"cluster": "held"}}),
    )
}

fn listener(name: &str, address: &str, filter: Value) -> Value {
    let network = if address.starts_with('/') { "unix" } else { "tcp" };
    json!({
        "name": name, "address": address, "network": network, "bind_port": true,
        "filter_chains": [{"filters": [filter]}],
    })
}

async fn start(folder: &TempDir, config: &Config) -> Plane {
    let metrics = Metrics::default();
    let parts = Parts {
        runtimes: HashMap::new(),
        own_filters: Box::new(|_| None),
        metrics,
        files: Files::new(Roller::default()),
        dumps: Arc::new(Dumps::new(folder.path(), Arc::new(String::new))),
        tracer: None,
        folder: folder.path().to_owned(),
        directory: Directory::default(),
    };
    Plane::start(parts, config, bind(config).await.unwrap(), async {})
        .await
        .unwrap()
}

fn address(plane: &Plane, name: &str) -> String {
    let bound = plane.parts.directory.bound();
    let found = bound.into_iter().find(|(bound, _)| bound == name);
    found.unwrap().1.address
}

/// A host that accepts and never answers.
async fn silent() -> (TcpListener, String) {
    let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = host.local_addr().unwrap().to_string();
    (host, address)
}

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn what_ends_takes_no_other_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder, json!([web("a", "127.0.0.1:0")]), "127.0.0.1:1");
    let plane = start(&folder, &config).await;
    assert!(plane.drain(Duration::from_secs(5), false).await);
    let error = plane.apply(&config).await.unwrap_err();
    assert!(error.to_string().contains("ending"), "{error}");
}

#[tokio::test]
async fn the_drain_waits_for_what_a_removed_listener_began() {
    let folder = tempfile::tempdir().unwrap();
    let (host, held) = silent().await;
    let before = config(&folder, json!([web("a", "127.0.0.1:0")]), &held);
    let plane = start(&folder, &before).await;
    let mut client = TcpStream::connect(address(&plane, "a")).await.unwrap();
    let mut asked = passed(&mut client, &host).await;
    let changes = plane.apply(&config(&folder, json!([]), &held)).await.unwrap();
    assert_eq!(changes.removed, ["a"]);
    let mut drain = std::pin::pin!(plane.drain(Duration::from_secs(20), false));
    let ended = tokio::time::timeout(Duration::from_millis(50), &mut drain).await;
    assert!(ended.is_err(), "it did not wait");
    let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate";
    asked.write_all(reply).await.unwrap();
    assert!(drain.await);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("late"), "{answer}");
}

/// Sends a request through `stream` to the host that never answers, which gets it.
async fn passed(stream: &mut (impl AsyncWriteExt + Unpin), host: &TcpListener) -> TcpStream {
    stream.write_all(ASK).await.unwrap();
    let (mut asked, _) = host.accept().await.unwrap();
    let _read = asked.read(&mut [0; 1024]).await.unwrap();
    asked
}

#[tokio::test]
async fn a_listener_that_is_renamed_or_serves_something_else_keeps_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let (host, held) = silent().await;
    let of = |listener| config(&folder, json!([listener]), &held);
    let plane = start(&folder, &of(web("a", "127.0.0.1:0"))).await;
    let place = address(&plane, "a");
    let mut begun = TcpStream::connect(&place).await.unwrap();
    let mut asked = passed(&mut begun, &host).await;

    let changes = plane.apply(&of(web("b", "127.0.0.1:0"))).await.unwrap();
    assert_eq!(
        (&*changes.added, &*changes.removed),
        (&["b".to_owned()][..], &["a".to_owned()][..])
    );
    assert_eq!(address(&plane, "b"), place);
    let mut client = TcpStream::connect(&place).await.unwrap();
    passed(&mut client, &host).await;
    asked
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate")
        .await
        .unwrap();
    let mut answer = String::new();
    begun.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("late"), "{answer}");

    plane.apply(&of(tcp("b", "127.0.0.1:0"))).await.unwrap();
    assert_eq!(address(&plane, "b"), place);
    let mut client = TcpStream::connect(&place).await.unwrap();
    passed(&mut client, &host).await;

    plane.apply(&config(&folder, json!([]), &held)).await.unwrap();
    closes(async || TcpStream::connect(&place).await.is_err()).await;
}

#[tokio::test]
async fn the_file_of_a_socket_stays_with_the_listener_that_takes_it_over() {
    let folder = tempfile::tempdir().unwrap();
    let (host, held) = silent().await;
    let path = folder.path().join("s");
    let text = path.to_str().unwrap();
    let of = |listeners| config(&folder, listeners, &held);
    let plane = start(&folder, &of(json!([web("a", text)]))).await;
    plane.apply(&of(json!([tcp("b", text)]))).await.unwrap();
    // The one before has ended by then.
    plane.closing.close();
    plane.closing.wait().await;
    let mut client = UnixStream::connect(&path).await.unwrap();
    passed(&mut client, &host).await;
    plane.apply(&of(json!([]))).await.unwrap();
    closes(async || !path.exists()).await;
}

#[tokio::test]
async fn an_address_that_another_listener_keeps_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let free = silent().await.1;
    let of = |listeners| config(&folder, listeners, "127.0.0.1:1");
    let plane = start(&folder, &of(json!([web("a", &free)]))).await;
    let mut listeners = of(json!([web("a", &free), web("b", "127.0.0.1:0")]));
    listeners.server.listeners[1].address = listeners.server.listeners[0].address.clone();
    plane.apply(&listeners).await.unwrap_err();
}

/// The names of listeners in the metrics.
fn counted(plane: &Plane) -> String {
    let metrics = layotto_api::metrics::Metrics::default();
    metrics.register(|registry| plane.parts.metrics.register(registry));
    metrics.encode().unwrap()
}

#[tokio::test]
async fn a_configuration_that_is_refused_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let logged = |name: &str, log: &str| {
        let mut listener = web(name, "127.0.0.1:0");
        listener["access_logs"] = json!([{"log_path": path(log)}]);
        let dump =
            json!({"type": "tcpcopy", "config": {"dump_dir": path("dump"), "strategy": {"switch": "ON"}}});
        let filters = listener["filter_chains"][0]["filters"].as_array_mut().unwrap();
        filters.insert(0, dump);
        listener
    };
    let of = |listeners| config(&folder, listeners, "127.0.0.1:1");
    let plane = start(&folder, &of(json!([web("stays", "127.0.0.1:0")]))).await;
    let grpc = listener("grpc", "127.0.0.1:0", json!({"type": "grpc", "config": {}}));
    let refused = plane.apply(&of(json!([logged("new", "log"), grpc]))).await;
    assert!(format!("{:#}", refused.unwrap_err()).contains("restart"));
    assert!(!path("log").exists() && !path("dump").exists());

    std::fs::create_dir(path("folder")).unwrap();
    let refused = plane
        .apply(&of(json!([logged("new", "log"), logged("bad", "folder")])))
        .await;
    assert!(format!("{:#}", refused.unwrap_err()).contains("log_path"));
    assert_eq!(plane.parts.dumps.status()["listeners"], json!([]));

    let counted = counted(&plane);
    assert!(
        counted.contains("\"stays\"") && !counted.contains("\"new\""),
        "{counted}"
    );
}

async fn closes(closed: impl AsyncFn() -> bool) {
    let waiting = async {
        while !closed().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap();
}
