//! What InvokeService adds to the data plane that it goes through.

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use layotto_peers::{
    load::{Round, grpc, percentile},
    process::free_address,
    proxy::Kind,
};
use layotto_proto::runtime::v1::{CommonInvokeRequest, HttpExtension, InvokeServiceRequest};
use prost::Message;
use serde_json::{Value, json};

use super::{
    Running,
    cost::{Load, cpu},
    listens, origin,
    table::{Bound, Figure, Line},
};
use crate::{
    cases::{Options, median},
    process::Server,
};

const METHOD: &str = "/spec.proto.runtime.v1.Runtime/InvokeService";
const PATH: &str = "/bytes/100";
const CONNECTIONS: usize = 16;
/// GET, as the contract numbers it.
const GET: i32 = 1;

/// Median of what it adds, in processor time and in waiting.
pub async fn in_process(options: &Options) -> Result<Vec<Line>> {
    let measured = measure(options).await.map_err(|error| format!("{error:#}"));
    let line = |name: &str, unit, figure: Figure| Line {
        name: format!("InvokeService through an in-process listener, {name} over the plain proxy"),
        unit,
        figures: vec![(Kind::Layotto, figure)],
        bounds: vec![Bound::most(15.0)],
    };
    let pick = |pick: fn(&(f64, f64)) -> f64| measured.as_ref().map(pick).map_err(Clone::clone);
    Ok(vec![
        line("processor", "µs CPU a call", pick(|(cpu, _)| *cpu)),
        line("p50", "µs", pick(|(_, waiting)| *waiting)),
    ])
}

async fn measure(options: &Options) -> Result<(f64, f64)> {
    let (_back, back) = origin()?;
    let sidecar = Sidecar::start(options, back).await?;
    let (mut costs, mut waits) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let plain = cpu(&sidecar.plain, &Load::Http1(PATH.into(), CONNECTIONS), options).await?;
        costs.push(sidecar.cost(options).await? - plain);
        let plain = sidecar.plain_p50(options.counted()).await?;
        let through = sidecar.invoke(1, options.counted()).await?;
        waits.push(through.percentile(0.5).as_secs_f64() * 1e6 - plain);
    }
    Ok((median(costs), median(waits)))
}

/// One process with the runtime API, a listener without a port, and the same routes on a port.
struct Sidecar {
    plain: Running,
    api: SocketAddr,
}

impl Sidecar {
    async fn start(options: &Options, back: SocketAddr) -> Result<Self> {
        let (api, plain) = (free_address(), free_address());
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("config.json");
        std::fs::write(&config, configuration(api, plain, back).to_string())?;
        let mut command = Command::new(&options.binary);
        command.arg("start").arg("-c").arg(&config);
        command.arg("--data-dir").arg(folder.path().join("data"));
        let mut server = Server::start(&mut command, plain.to_string())?;
        listens(&mut server, plain).await?;
        listens(&mut server, api).await?;
        let plain = Running {
            server,
            address: plain,
            _folder: folder,
        };
        Ok(Self { plain, api })
    }

    async fn invoke(&self, at_once: usize, time: Duration) -> Result<Round> {
        let load = grpc::Load {
            streams: at_once,
            time,
            ..grpc::Load::new(self.api, METHOD, invocation())
        };
        let round = grpc::run(&load).await;
        ensure!(
            round.failed == 0 && round.calls > 0,
            "InvokeService: {:?}",
            round.first_failure
        );
        Ok(round)
    }

    /// Median microseconds of a request that is alone, over HTTP/2 like the calls.
    async fn plain_p50(&self, time: Duration) -> Result<f64> {
        let mut client = grpc::Client::connect(self.plain.address).await?;
        let (begun, mut latencies) = (Instant::now(), Vec::new());
        while begun.elapsed() < time {
            let start = Instant::now();
            client.get(PATH).await?;
            latencies.push(start.elapsed());
        }
        latencies.sort_unstable();
        Ok(percentile(&latencies, 0.5).as_secs_f64() * 1e6)
    }

    /// Processor microseconds for each call.
    async fn cost(&self, options: &Options) -> Result<f64> {
        self.invoke(CONNECTIONS, options.counted().mul_f64(0.25)).await?;
        let before = self.plain.server.processor_time()?;
        let round = self.invoke(CONNECTIONS, options.counted()).await?;
        let used = self.plain.server.processor_time()? - before;
        Ok(used.as_secs_f64() * 1e6 / round.calls as f64)
    }
}

fn invocation() -> Bytes {
    let extension = HttpExtension {
        verb: GET,
        querystring: String::new(),
    };
    let message = CommonInvokeRequest {
        method: PATH.into(),
        data: None,
        content_type: String::new(),
        http_extension: Some(extension),
    };
    let request = InvokeServiceRequest {
        id: "origin".into(),
        message: Some(message),
    };
    grpc::message(&request.encode_to_vec())
}

fn configuration(api: SocketAddr, plain: SocketAddr, back: SocketAddr) -> Value {
    let proxy = json!([{"filters": [{"type": "proxy", "config": {
        "downstream_protocol": "Auto", "upstream_protocol": "Http1",
        "router_config_name": "router"}}]}]);
    json!({
        "servers": [{
            "default_log_path": "stdout", "default_log_level": "ERROR", "processor": 1,
            "listeners": [
                {"name": "grpc", "address": api, "bind_port": true,
                 "filter_chains": [{"filters": [{"type": "grpc", "config": {
                    "server_name": "runtime",
                    "grpc_config": {"app": {"app_id": "bench"}, "rpcs": {"mosn": {"config": {
                        "channel": [{"size": 16, "protocol": "http", "listener": "egress"}]}}}}}}]}]},
                {"name": "egress", "address": "127.0.0.1:1", "bind_port": false, "filter_chains": proxy},
                {"name": "plain", "address": plain, "bind_port": true, "filter_chains": proxy}],
            "routers": [{"router_config_name": "router", "virtual_hosts": [{
                "name": "all", "domains": ["*"],
                "routers": [{"match": {"prefix": "/"}, "route": {"cluster_name": "back"}}]}]}]
        }],
        "cluster_manager": {"clusters": [{
            "name": "back", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": back}]}]}
    })
}
