//! Back ends behind the runtime API: what the sidecar adds to the product and its client.
//!
//! The sidecar is on the first processor; product, load and whatever it is compared with are on
//! the second.

mod events;
pub mod floor;
mod redis;

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use layotto_peers::process::free_address;
use layotto_testkit::server;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cases::{Options, Row, median},
    load,
    process::Server,
};

/// Runs every case that `options` wants.
pub async fn run(options: &Options) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if let Err(reason) = layotto_testkit::programs::find(server::redis::PROGRAM) {
        eprintln!("Redis: not run: {reason}");
    } else {
        rows.extend(redis::run(options).await?);
        rows.extend(events::redis(options).await?);
    }
    if let Err(reason) = layotto_testkit::programs::find(server::kafka::PROGRAM) {
        eprintln!("Kafka: not run: {reason}");
    } else {
        rows.extend(events::kafka(options).await?);
    }
    Ok(rows)
}

/// A sidecar on the first processor.
struct Sidecar {
    server: Server,
    _folder: TempDir,
}

impl Sidecar {
    /// Starts the binary with these components, beside a greeter.
    async fn start(binary: &Path, components: Value) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = free_address();
        let mut runtime = json!({
            "app": {"app_id": "bench"},
            "hellos": {"helloworld": {"type": "helloworld", "hello": "greeting"}},
        });
        let all = runtime.as_object_mut().context("an object")?;
        all.extend(
            components
                .as_object()
                .context("components are an object")?
                .clone(),
        );
        let config = json!({"servers": [{
            "default_log_path": "stdout", "default_log_level": "ERROR", "processor": 1,
            "listeners": [{
                "name": "grpc", "address": address.to_string(), "bind_port": true,
                "filter_chains": [{"filters": [{"type": "grpc", "config": {
                    "server_name": "runtime", "grpc_config": runtime}}]}]
            }]
        }]});
        let file = folder.path().join("config.json");
        std::fs::write(&file, config.to_string())?;
        let mut command = Command::new(binary);
        command.args(["start", "-c"]).arg(&file);
        command.arg("--data-dir").arg(folder.path().join("data"));
        let mut server = Server::start(&mut command, address.to_string())?;
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            ensure!(server.is_alive(), "the sidecar ended instead of listening");
            ensure!(
                begun.elapsed() < Duration::from_secs(10),
                "the sidecar does not listen"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Self {
            server,
            _folder: folder,
        })
    }
}

/// Processor microseconds of `server` for each call, over one round.
async fn cpu(
    server: &Server,
    call: load::Call,
    (connections, streams): (usize, usize),
    options: &Options,
) -> Result<f64> {
    let address = &server.address;
    let warm_up = options.counted().mul_f64(0.25);
    load::closed_loop(address, call, connections, streams, warm_up).await?;
    let before = server.processor_time()?;
    let round = load::closed_loop(address, call, connections, streams, options.counted()).await?;
    let used = server.processor_time()? - before;
    Ok(used.as_secs_f64() * 1e6 / round.calls as f64)
}

/// Median latency in microseconds of one call at a time.
async fn p50(address: &str, call: load::Call, options: &Options) -> Result<f64> {
    let round = load::closed_loop(address, call, 1, 1, options.counted().mul_f64(0.5)).await?;
    Ok(round.percentile(0.5).as_secs_f64() * 1e6)
}

/// Medians of pairs, and of their ratio.
fn medians(pairs: &[(f64, f64)]) -> (f64, f64, f64) {
    let of = |figure: fn(&(f64, f64)) -> f64| median(pairs.iter().map(figure).collect());
    (of(|pair| pair.0), of(|pair| pair.1), of(|pair| pair.0 / pair.1))
}
