//! State and locks in Redis.

use std::{net::SocketAddr, process::Command, time::Instant};

use anyhow::{Context, Result};
use layotto_peers::load::{grpc, percentile};
use layotto_proto::runtime::v1::GetStateRequest;
use layotto_testkit::{
    programs,
    server::{self, Server as Product},
};
use prost::Message;
use redis::aio::MultiplexedConnection;
use serde_json::json;

use super::{Sidecar, cpu, medians, p50};
use crate::{
    cases::{Options, Row, median},
    load::{self, Call},
    process::{Server, pin_current},
};

const STORE: &str = "state_redis";
const LOCKS: &str = "lock_redis";
/// Connections and calls under way on each, at the most.
const WIDE: (usize, usize) = (16, 8);
const GET: &str = "/spec.proto.runtime.v1.Runtime/GetState";
/// What a lock costs Redis at least: a script that sets one key with a time limit.
const LOCK_SCRIPT: &str =
    "return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', 30) and 1 or redis.call('DEL', KEYS[1])";

/// All rows about Redis but those about events.
pub async fn run(options: &Options) -> Result<Vec<Row>> {
    let redis = server::redis::start(&[]).await?;
    let host = redis.address().to_string();
    let components = json!({
        "state": {STORE: {"type": "redis", "metadata": {"redisHost": host, "keyPrefix": "none"}}},
        "lock": {LOCKS: {"type": "redis", "metadata": {"redisHost": host}}},
    });
    let sidecar = Sidecar::start(&options.binary, components).await?;
    let mut floor = Command::new(std::env::current_exe()?);
    let floor = Server::start_printing(floor.args(["redis-floor", &host]))?;
    let mut rows = Vec::new();
    for (size, key, shown) in [(100, "bench100", "100 B"), (10_000, "bench10k", "10 KB")] {
        load::save(&sidecar.server.address, STORE, key, size).await?;
        for (verb, call) in [
            ("GetState", Call::Get { store: STORE, key }),
            (
                "SaveState",
                Call::Save {
                    store: STORE,
                    key,
                    size,
                },
            ),
        ] {
            for shape in [(1, 1), WIDE] {
                let name = format!("{verb} Redis, {shown}, {} × {}", shape.0, shape.1);
                if options.wants(&name) {
                    eprintln!("{name} …");
                    rows.push(processor(options, name, (&sidecar.server, &floor), call, shape).await?);
                }
            }
            let name = format!("{verb} Redis, {shown}: p50");
            if options.wants(&name) {
                eprintln!("{name} …");
                rows.push(waiting(options, name, (&sidecar.server, &floor), &redis, call).await?);
            }
        }
    }
    if options.wants("GetState Redis: peak") {
        rows.push(peak(options, &sidecar, &floor, &redis).await?);
    }
    if options.wants("TryLock + Unlock Redis: p50") {
        rows.push(lock(options, &sidecar, &redis).await?);
    }
    Ok(rows)
}

async fn processor(
    options: &Options,
    name: String,
    (sidecar, floor): (&Server, &Server),
    call: Call,
    shape: (usize, usize),
) -> Result<Row> {
    let mut pairs = Vec::new();
    for _ in 0..options.rounds {
        let floor = cpu(floor, call, shape, options).await?;
        pairs.push((cpu(sidecar, call, shape, options).await?, floor));
    }
    let (ours, floor, ratio) = medians(&pairs);
    Ok(Row {
        name,
        value: format!("{ours:.2} µs CPU"),
        floor: format!("{floor:.2} µs CPU"),
        judged: ratio,
        target: 1.3,
        at_least: false,
        unit: "× floor",
    })
}

/// One call at a time, beside a greeting and a bare round trip to Redis together. What the bare service
/// takes is shown with it.
async fn waiting(
    options: &Options,
    name: String,
    (sidecar, floor): (&Server, &Server),
    redis: &Product,
    call: Call,
) -> Result<Row> {
    let (mut pairs, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let hello = p50(&sidecar.address, Call::Hello(100), options).await?;
        let bare = round_trip(redis, on_redis(call), options).await?;
        floors.push(p50(&floor.address, call, options).await?);
        pairs.push((p50(&sidecar.address, call, options).await?, hello + bare));
    }
    let mut row = row_of_waiting(name, &pairs, 1.0);
    row.floor += &format!("; {:.1} µs, the bare service", median(floors));
    Ok(row)
}

async fn lock(options: &Options, sidecar: &Sidecar, redis: &Product) -> Result<Row> {
    let mut script = redis::cmd("EVAL");
    script.arg(LOCK_SCRIPT).arg(1).arg("bench-script").arg("owner");
    let mut pairs = Vec::new();
    for _ in 0..options.rounds {
        let hello = p50(&sidecar.server.address, Call::Hello(100), options).await?;
        let bare = round_trip(redis, script.clone(), options).await?;
        let pair = p50(&sidecar.server.address, Call::Lock(LOCKS), options).await?;
        pairs.push((pair, 2.0 * (hello + 1.2 * bare)));
    }
    Ok(row_of_waiting(
        "TryLock + Unlock Redis: p50".to_owned(),
        &pairs,
        1.0,
    ))
}

fn row_of_waiting(name: String, pairs: &[(f64, f64)], target: f64) -> Row {
    let (ours, floor, ratio) = medians(pairs);
    Row {
        name,
        value: format!("{ours:.1} µs"),
        floor: format!("{floor:.1} µs"),
        judged: ratio,
        target,
        at_least: false,
        unit: "× floor",
    }
}

/// Most GetState a second, beside what `redis-benchmark` reaches with as many connections and
/// without pipelining. What the bare service reaches is shown with it.
async fn peak(options: &Options, sidecar: &Sidecar, floor: &Server, redis: &Product) -> Result<Row> {
    eprintln!("GetState Redis: peak …");
    let (mut pairs, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        floors.push(rate(options, &floor.address).await?);
        let ours = rate(options, &sidecar.server.address).await?;
        pairs.push((ours, bare_rate(redis, options)?));
    }
    let (ours, bare, ratio) = medians(&pairs);
    Ok(Row {
        name: format!("GetState Redis: peak, {} × {}", WIDE.0, WIDE.1),
        value: format!("{:.1} k/s", ours / 1e3),
        floor: format!(
            "{:.1} k/s, redis-benchmark; {:.1} k/s, the bare service",
            bare / 1e3,
            median(floors) / 1e3
        ),
        judged: ratio,
        target: 1.5,
        at_least: true,
        unit: "× redis-benchmark",
    })
}

async fn rate(options: &Options, address: &str) -> Result<f64> {
    let request = GetStateRequest {
        store_name: STORE.to_owned(),
        key: "bench100".to_owned(),
        ..GetStateRequest::default()
    };
    let load = grpc::Load {
        connections: WIDE.0,
        streams: WIDE.1,
        time: options.counted(),
        ..grpc::Load::new(address.parse()?, GET, grpc::message(&request.encode_to_vec()))
    };
    let round = grpc::run(&load).await;
    round.ensure_no_failure()?;
    Ok(round.rate())
}

fn bare_rate(redis: &Product, options: &Options) -> Result<f64> {
    let mut benchmark = Command::new(programs::find("redis-benchmark").map_err(anyhow::Error::msg)?);
    let port = redis.address().port().to_string();
    // About as long as the round beside it.
    let requests = (options.counted().as_secs_f64() * 60_000.0).round().to_string();
    let connections = WIDE.0.to_string();
    benchmark.args(["-p", &port, "-c", &connections, "-n", &requests, "--csv"]);
    benchmark.args(["HMGET", "bench100", "data", "version"]);
    let output = benchmark.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().context("redis-benchmark printed nothing")?;
    let rate = line.rsplit(',').nth(6).map(|field| field.trim_matches('"'));
    let rate = rate.with_context(|| format!("redis-benchmark: {line}"))?;
    rate.parse().with_context(|| format!("redis-benchmark: {line}"))
}

/// Median microseconds of one command at a time, sent from the sidecar's processor: a message to
/// another processor takes longer than one that stays.
async fn round_trip(redis: &Product, command: redis::Cmd, options: &Options) -> Result<f64> {
    let (address, time) = (redis.address(), options.counted().mul_f64(0.5));
    let measured = std::thread::spawn(move || {
        pin_current(0);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut connection = connect(address).await?;
            let (begun, mut latencies) = (Instant::now(), Vec::new());
            while begun.elapsed() < time {
                let start = Instant::now();
                let _: redis::Value = command.query_async(&mut connection).await?;
                latencies.push(start.elapsed());
            }
            latencies.sort_unstable();
            Ok(percentile(&latencies, 0.5).as_secs_f64() * 1e6)
        })
    });
    let joined = tokio::task::spawn_blocking(|| measured.join()).await?;
    joined.map_err(|_| anyhow::anyhow!("the bare client panicked"))?
}

async fn connect(address: SocketAddr) -> Result<MultiplexedConnection> {
    let client = redis::Client::open(format!("redis://{address}/"))?;
    Ok(client.get_multiplexed_async_connection().await?)
}

/// What a call comes to in Redis.
fn on_redis(call: Call) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    match call {
        Call::Save { key, size, .. } => command.arg("HSET").arg(key).arg("data").arg("x".repeat(size)),
        Call::Get { key, .. } => command.arg("HMGET").arg(key).arg("data").arg("version"),
        _ => command.arg("PING"),
    };
    command
}
