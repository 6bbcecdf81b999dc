//! What is measured, and how: floor and case alternate within one round.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::json;

use crate::{
    engine,
    load::{self, Call, Round},
    process::Server,
};

/// Connections and calls under way on each, for CPU per call.
const CONNECTIONS: usize = 8;
const STREAMS: usize = 16;

/// How to run.
pub struct Options {
    /// The binary to measure.
    pub binary: PathBuf,
    /// Rounds of each case.
    pub rounds: usize,
    /// Seconds counted in each round.
    pub seconds: f64,
    /// Only cases whose name holds this.
    pub only: String,
}

impl Options {
    /// Time counted in each round.
    pub fn counted(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Whether a case is asked for.
    pub fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }
}

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// The figure.
    pub value: String,
    /// The floor in the same run; empty where there is none.
    pub floor: String,
    /// The ratio, or the figure again, that the target is about.
    pub judged: f64,
    /// What it must not exceed (or, where `at_least`, fall below).
    pub target: f64,
    /// Whether more is better.
    pub at_least: bool,
    /// Unit of `judged` and `target`.
    pub unit: &'static str,
}

impl Row {
    /// A figure without a floor; less is better.
    fn alone(name: impl Into<String>, judged: f64, target: f64, unit: &'static str) -> Self {
        let (value, floor) = (format!("{judged:.1} {unit}"), String::new());
        Self {
            name: name.into(),
            value,
            floor,
            judged,
            target,
            at_least: false,
            unit,
        }
    }

    /// Whether the target was met.
    pub fn met(&self) -> bool {
        if self.at_least {
            self.judged >= self.target
        } else {
            self.judged <= self.target
        }
    }
}

/// Runs every case that `options` wants.
pub async fn run(options: &Options) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, call, target) in [
        ("SayHello, 100 B", Call::Hello(100), 1.15),
        ("GetState in-memory, 100 B", Call::State("state_memory"), 1.3),
        ("GetState embedded, 100 B", Call::State("state_embedded"), 1.6),
        ("GetNextId weak, in-memory", Call::Id, 1.2),
    ] {
        if options.wants(name) {
            eprintln!("{name} …");
            rows.push(beside_floor(options, name, call, target).await?);
        }
    }
    if options.wants("weak-id engine") {
        rows.push(weak_ids().await?);
    }
    if options.wants("start") {
        rows.extend(start_and_idle(options).await?);
    }
    if options.wants("seed") {
        rows.extend(seed(options).await?);
    }
    Ok(rows)
}

struct Sidecar {
    server: Server,
    _data: tempfile::TempDir,
}

impl Sidecar {
    /// Starts the binary with ten components and waits for its first answer.
    async fn start(binary: &Path, upstream: &str) -> anyhow::Result<(Self, Duration)> {
        let data = tempfile::tempdir()?;
        let address = free_address()?;
        let config = data.path().join("config.json");
        std::fs::write(&config, configuration(&address, upstream).to_string())?;
        let begun = Instant::now();
        let mut command = Command::new(binary);
        command
            .arg("start")
            .arg("-c")
            .arg(&config)
            .arg("--data-dir")
            .arg(data.path().join("data"));
        let server = Server::start(&mut command, address)?;
        let took = first_answer(&server.address, begun).await?;
        Ok((Self { server, _data: data }, took))
    }
}

async fn first_answer(address: &str, begun: Instant) -> anyhow::Result<Duration> {
    loop {
        anyhow::ensure!(
            begun.elapsed() < Duration::from_secs(10),
            "no answer from {address}"
        );
        // Spins on purpose: a pause between tries would be part of the figure.
        if std::net::TcpStream::connect(address).is_err() {
            std::thread::yield_now();
            continue;
        }
        load::closed_loop(address, Call::Hello(1), 1, 1, Duration::ZERO).await?;
        let mut client = load::connect(address).await?;
        let request = layotto_proto::runtime::v1::SayHelloRequest {
            service_name: "helloworld".into(),
            ..Default::default()
        };
        client.say_hello(request).await?;
        return Ok(begun.elapsed());
    }
}

fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Ten components, as a small application would have.
fn configuration(address: &str, upstream: &str) -> serde_json::Value {
    json!({"servers": [{
        "default_log_path": "stdout", "default_log_level": "ERROR",
        "listeners": [{
            "name": "grpc", "address": address, "bind_port": true,
            "filter_chains": [{"filters": [{"type": "grpc", "config": {
                "server_name": "runtime",
                "grpc_config": {
                    "app": {"app_id": "bench"},
                    "hellos": {"helloworld": {"type": "helloworld", "hello": "greeting"}},
                    "state": {
                        "state_memory": {"type": "in-memory", "metadata": {}},
                        "state_embedded": {"type": "embedded", "metadata": {}}},
                    "lock": {"lock_demo": {"type": "embedded", "metadata": {}}},
                    "sequencer": {"sequencer_memory": {"type": "in-memory", "metadata": {}}},
                    "pub_subs": {"pub_subs_demo": {"type": "embedded", "metadata": {}}},
                    "config_store": {"config_demo": {"type": "embedded", "metadata": {}}},
                    "file": {"file_demo": {"type": "local", "metadata": {}}},
                    "secret_store": {"secret_demo": {"type": "local.env", "metadata": {}}},
                    "rpcs": {"mosn": {"config": {
                        "channel": [{"size": 16, "protocol": "http", "listener": upstream}]}}}
                }
            }}]}]
        }]
    }]})
}

fn floor() -> anyhow::Result<Server> {
    Server::start_printing(Command::new(std::env::current_exe()?).arg("floor"))
}

fn upstream() -> anyhow::Result<Server> {
    Server::start_printing(Command::new(std::env::current_exe()?).arg("upstream"))
}

/// Processor microseconds of `server` for each call, over one round.
async fn cpu_per_call(server: &Server, call: Call, options: &Options) -> anyhow::Result<f64> {
    let address = &server.address;
    let warm_up = options.counted().mul_f64(0.25);
    load::closed_loop(address, call, CONNECTIONS, STREAMS, warm_up).await?;
    let before = server.processor_time()?;
    let round = load::closed_loop(address, call, CONNECTIONS, STREAMS, options.counted()).await?;
    let used = server.processor_time()? - before;
    Ok(used.as_secs_f64() * 1e6 / round.calls as f64)
}

async fn beside_floor(options: &Options, name: &str, call: Call, target: f64) -> anyhow::Result<Row> {
    let (sidecar, _) = Sidecar::start(&options.binary, "127.0.0.1:1").await?;
    let floor = floor()?;
    if let Call::State(store) = call {
        load::prepare(&sidecar.server.address, store).await?;
    }
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        floors.push(cpu_per_call(&floor, call, options).await?);
        ours.push(cpu_per_call(&sidecar.server, call, options).await?);
    }
    let ratio = median(
        ours.iter()
            .zip(&floors)
            .map(|(ours, floor)| ours / floor)
            .collect(),
    );
    Ok(Row {
        name: name.to_owned(),
        value: format!("{:.2} µs CPU", median(ours)),
        floor: format!("{:.2} µs CPU", median(floors)),
        judged: ratio,
        target,
        at_least: false,
        unit: "× floor",
    })
}

/// The middle one; not a number where there is none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn weak_ids() -> anyhow::Result<Row> {
    let rate = engine::weak_ids_per_second().await?;
    Ok(Row {
        name: "weak-id engine, no gRPC, one thread".to_owned(),
        value: format!("{:.2} M ids/s", rate / 1e6),
        floor: String::new(),
        judged: rate / 1e6,
        target: 1.0,
        at_least: true,
        unit: "M ids/s",
    })
}

async fn start_and_idle(options: &Options) -> anyhow::Result<Vec<Row>> {
    let (mut starts, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(5) {
        let (sidecar, took) = Sidecar::start(&options.binary, "127.0.0.1:1").await?;
        starts.push(took.as_secs_f64() * 1e3);
        idle.push(sidecar.server.resident()? as f64 / 1e6);
    }
    Ok(vec![
        Row::alone("start to first answer, 10 components", median(starts), 10.0, "ms"),
        Row::alone("idle resident memory, 10 components", median(idle), 10.0, "MB"),
    ])
}

/// The figure that a sidecar is chosen by: what it adds to a call between services.
async fn seed(options: &Options) -> anyhow::Result<Vec<Row>> {
    const RATE: u32 = 1000;
    const SIZE: usize = 1024;
    let upstream = upstream()?;
    let (sidecar, _) = Sidecar::start(&options.binary, &upstream.address).await?;
    let (mut pairs, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let direct = direct(&upstream.address, RATE, SIZE, options.counted()).await?;
        let before = sidecar.server.processor_time()?;
        let through = load::open_loop(
            &sidecar.server.address,
            Call::Invoke(SIZE),
            RATE,
            options.counted(),
        )
        .await?;
        let used = sidecar.server.processor_time()? - before;
        cpu.push(used.as_secs_f64() / through.took.as_secs_f64() * 100.0);
        pairs.push((direct, through));
    }
    let resident = sidecar.server.resident()? as f64 / 1e6;
    let name = |name: &str| format!("InvokeService, {RATE} calls/s of {SIZE} B: {name}");
    let added = |figure: &str, share: f64| {
        let millis = |round: &Round| round.percentile(share).as_secs_f64() * 1e3;
        let of = |figure: fn(f64, f64) -> f64| {
            median(
                pairs
                    .iter()
                    .map(|(direct, through)| figure(millis(direct), millis(through)))
                    .collect(),
            )
        };
        let judged = of(|direct, through| through - direct);
        Row {
            value: format!("{:.3} ms", of(|_, through| through)),
            floor: format!("{:.3} ms, direct", of(|direct, _| direct)),
            ..Row::alone(name(figure), judged, 0.2, "ms")
        }
    };
    Ok(vec![
        added("added p50", 0.5),
        added("added p99", 0.99),
        Row::alone(name("processor"), median(cpu), 100.0, "% of one"),
        Row::alone(name("resident memory"), resident, 15.0, "MB"),
    ])
}

/// The same calls straight to the service.
async fn direct(address: &str, rate: u32, size: usize, counted: Duration) -> anyhow::Result<Round> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let uri: hyper::Uri = format!("http://{address}/echo").parse()?;
    let body = Bytes::from(vec![b'x'; size]);
    load::open_loop_of(rate, counted, move || {
        let request = hyper::Request::post(uri.clone()).body(Full::new(body.clone()));
        let client = client.clone();
        async move {
            let response = client.request(request?).await.context("direct call")?;
            response.into_body().collect().await?;
            Ok(())
        }
    })
    .await
}
