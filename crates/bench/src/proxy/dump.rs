//! What the traffic dump costs a listener, beside a listener without it in the same process.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use layotto_peers::{load::Round, process::free_address, proxy::Kind};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    cost::{CONNECTIONS, KEPT, Load, STREAMS},
    greeter, listens, origin,
    table::{Bound, Figure, Line},
};
use crate::{
    cases::{Options, median},
    process::Server,
};

/// The shortest time between windows, and the longest window in it.
const INTERVAL: u64 = 30;
const DURATION: u64 = 29;
/// Longest time in which both kinds of rounds must have come together.
const PATIENCE: Duration = Duration::from_secs(600);
/// The share of what was sent that the dump must have seen, for its window to count as open.
const SEEN: f64 = 0.9;
/// The most that the dump may add, in percent.
const MOST: f64 = 5.0;

/// A load, and what the dump sees of each of its requests at least.
struct Case {
    name: &'static str,
    load: Load,
    bytes: u64,
    upstream: &'static str,
    /// `max_bytes_per_second`, where the default is not what is measured.
    limit: Option<u64>,
}

/// What rounds with the dump came to, in percent of those without, beside them.
#[derive(Default)]
struct Added {
    cpu: Vec<f64>,
    /// Without the threads that write.
    path: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// Of what was read in the window, how much found no room.
    lost: Vec<f64>,
}

/// What the listener with the dump adds to the one without, its window open and closed.
pub async fn costs(options: &Options) -> Result<Vec<Line>> {
    let (_greeter, greeter) = greeter()?;
    let (_origin, origin) = origin()?;
    let grpc = |name, limit| Case {
        name,
        load: Load::Grpc {
            size: 1000,
            connections: CONNECTIONS,
            streams: STREAMS,
        },
        bytes: 1000,
        upstream: "Http2",
        limit,
    };
    let http1 = Case {
        name: "HTTP/1.1, 100 B",
        load: Load::Http1("/bytes/100".into(), KEPT),
        bytes: 60,
        upstream: "Http1",
        limit: None,
    };
    let cases = [
        (greeter, grpc("gRPC, 1 KB", None)),
        (origin, http1),
        (greeter, grpc("gRPC, 1 KB, all of it", Some(u64::MAX >> 1))),
    ];
    let mut lines = Vec::new();
    for (back, case) in cases {
        eprintln!("traffic dump, {} …", case.name);
        // Who dumps everything has chosen to pay for it.
        let most = case.limit.is_none().then_some(MOST);
        match measure(options, &case, back).await {
            Ok((closed, open)) => {
                lines.extend(closed.lines(case.name, "closed", Some(MOST)));
                lines.extend(open.lines(case.name, "open", most));
                let lost = format!("{}: lost in the window", title(case.name, "open"));
                lines.push(line(lost, Ok(median(open.lost)), None));
            }
            Err(error) => lines.push(line(title(case.name, "open"), Err(format!("{error:#}")), most)),
        }
    }
    Ok(lines)
}

fn title(case: &str, window: &str) -> String {
    format!("traffic dump, {case}, window {window}")
}

fn line(name: String, figure: Figure, most: Option<f64>) -> Line {
    Line {
        name,
        unit: "%",
        figures: vec![(Kind::Layotto, figure)],
        bounds: most.map(Bound::most).into_iter().collect(),
    }
}

impl Added {
    fn lines(&self, case: &str, window: &str, most: Option<f64>) -> Vec<Line> {
        let figure = |what: &str, values: &[f64], most| {
            line(
                format!("{}: added {what}", title(case, window)),
                Ok(median(values.to_vec())),
                most,
            )
        };
        vec![
            figure("processor time", &self.cpu, most),
            figure("processor time on the way of a read", &self.path, None),
            figure("p50", &self.p50, most),
            figure("p99", &self.p99, most.map(|most| 2.0 * most)),
        ]
    }

    fn note(&mut self, without: &Measured, with: &Measured) {
        let added = |value: fn(&Measured) -> f64| (value(with) / value(without) - 1.0) * 100.0;
        self.cpu.push(added(|round| round.cpu));
        self.path.push(added(|round| round.path));
        self.p50.push(added(|round| round.p50));
        self.p99.push(added(|round| round.p99));
    }
}

/// Rounds with the window closed, and with it open.
async fn measure(options: &Options, case: &Case, back: SocketAddr) -> Result<(Added, Added)> {
    let sidecar = Sidecar::start(options, case, back).await?;
    let (mut closed, mut open) = (Added::default(), Added::default());
    let begun = Instant::now();
    while closed.cpu.len().min(open.cpu.len()) < options.rounds {
        ensure!(
            begun.elapsed() < PATIENCE,
            "there were {} rounds with an open window",
            open.cpu.len()
        );
        let without = sidecar.round(options, case, sidecar.plain).await?;
        let before = sidecar.dump().await?;
        let with = sidecar.round(options, case, sidecar.dumped).await?;
        let after = sidecar.dump().await?;
        let seen = after.seen() - before.seen();
        // The warm-up is seen too: the share is one of at least the calls that were counted.
        if before.open && after.open && seen as f64 > SEEN * (with.calls * case.bytes) as f64 {
            open.note(&without, &with);
            open.lost
                .push((after.lost - before.lost) as f64 / seen as f64 * 100.0);
        } else if seen == 0 {
            closed.note(&without, &with);
        }
    }
    Ok((closed, open))
}

/// One round of a load.
struct Measured {
    calls: u64,
    /// Processor time for each call, of the process and of its busiest thread.
    cpu: f64,
    path: f64,
    p50: f64,
    p99: f64,
}

/// What the dump did so far.
struct Dump {
    open: bool,
    written: u64,
    lost: u64,
    withheld: u64,
}

impl Dump {
    fn seen(&self) -> u64 {
        self.written + self.lost + self.withheld
    }
}

/// One process with a listener that has the dump, and one that does not.
struct Sidecar {
    server: Server,
    plain: SocketAddr,
    dumped: SocketAddr,
    actuator: SocketAddr,
    _folder: TempDir,
}

impl Sidecar {
    async fn start(options: &Options, case: &Case, back: SocketAddr) -> Result<Self> {
        let (plain, dumped, actuator) = (free_address(), free_address(), free_address());
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("config.json");
        let text = configuration([plain, dumped, actuator, back], case, folder.path());
        std::fs::write(&config, text.to_string())?;
        let mut command = Command::new(&options.binary);
        command.arg("start").arg("-c").arg(&config);
        command.arg("--data-dir").arg(folder.path().join("data"));
        let mut server = Server::start(&mut command, plain.to_string())?;
        for address in [plain, dumped, actuator] {
            listens(&mut server, address).await?;
        }
        Ok(Self {
            server,
            plain,
            dumped,
            actuator,
            _folder: folder,
        })
    }

    async fn round(&self, options: &Options, case: &Case, address: SocketAddr) -> Result<Measured> {
        case.load.run(address, options.counted().mul_f64(0.25)).await?;
        let (all, path) = (self.server.processor_time()?, self.server.busiest_thread()?);
        let round: Round = case.load.run(address, options.counted()).await?;
        let calls = round.calls as f64;
        Ok(Measured {
            calls: round.calls,
            cpu: (self.server.processor_time()? - all).as_secs_f64() / calls,
            path: (self.server.busiest_thread()? - path).as_secs_f64() / calls,
            p50: round.percentile(0.5).as_secs_f64(),
            p99: round.percentile(0.99).as_secs_f64(),
        })
    }

    async fn dump(&self) -> Result<Dump> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let url = format!("http://{}/actuator/tcpcopy", self.actuator);
        let body = client.get(url.parse()?).await?.into_body().collect().await?;
        let status: Value = serde_json::from_slice(&body.to_bytes())?;
        let dump = &status["listeners"][0];
        let count = |key: &str| {
            dump[key]
                .as_u64()
                .with_context(|| format!("no {key} in {status}"))
        };
        Ok(Dump {
            open: dump["open"] == true,
            written: count("written_bytes")?,
            lost: count("overflowed_bytes")?,
            withheld: count("withheld_bytes")?,
        })
    }
}

fn configuration([plain, dumped, actuator, back]: [SocketAddr; 4], case: &Case, folder: &Path) -> Value {
    let proxy = json!({"type": "proxy", "config": {
        "downstream_protocol": "Auto", "upstream_protocol": case.upstream, "router_config_name": "router"}});
    // A load takes all that the processors have: only without a limit does the window stay open.
    let mut dump = json!({"type": "tcpcopy", "config": {
        "dump_dir": folder.join("dump"), "max_files": 1,
        "strategy": {"switch": "ON", "interval": INTERVAL, "duration": DURATION,
            "cpu_max_rate": 100, "mem_max_rate": 100}}});
    if let Some(limit) = case.limit {
        dump["config"]["max_bytes_per_second"] = limit.into();
    }
    let listener = |name: &str, address: SocketAddr, filters: Value| {
        json!({"name": name, "address": address, "bind_port": true,
            "filter_chains": [{"filters": filters}]})
    };
    let mut shows = listener("actuator", actuator, json!([proxy]));
    shows["stream_filters"] = json!([{"type": "actuator_filter"}]);
    json!({
        "servers": [{
            "default_log_path": "stdout", "default_log_level": "ERROR", "processor": 1,
            "listeners": [
                listener("plain", plain, json!([proxy])),
                listener("dumped", dumped, json!([dump, proxy])),
                shows],
            "routers": [{"router_config_name": "router", "virtual_hosts": [{
                "name": "all", "domains": ["*"],
                "routers": [{"match": {"prefix": "/"}, "route": {"cluster_name": "back"}}]}]}]
        }],
        "cluster_manager": {"clusters": [{
            "name": "back", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": back}]}]}
    })
}
