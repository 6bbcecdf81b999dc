//! What a request to a function costs beyond one that a route of the same process answers.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use layotto_peers::load::{Round, http1};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{
    install::plugin,
    modules::{self, Ask, Pair},
    sidecar::{Sidecar, header},
    table::{Line, Outcome},
};
use crate::cases::{Options, median};

/// Connections, each with one request under way, for processor time.
const CONNECTIONS: usize = 16;

/// A function that answers by itself, with a fresh instance for each request and with one that serves
/// many.
pub async fn instances(options: &Options) -> Result<Vec<Line>> {
    let module = modules::alone();
    let named = |id: &str, reuse: bool| {
        let mut plugin = plugin(&module);
        plugin["name"] = id.into();
        plugin["reuse"] = reuse.into();
        plugin
    };
    let plugins = json!({"fresh": named("fresh", false), "reused": named("reused", true)});
    let beside = Beside::start(options, plugins, module.ask, &["fresh", "reused"]).await?;
    let [fresh, reused] = beside.added_cpu(options, ["fresh", "reused"]).await?;
    let line = |what: &str, added: &Added, target| {
        added.line(
            format!("Rust: {what}: added processor time"),
            "µs CPU",
            Some(target),
        )
    };
    Ok(vec![
        line("a fresh instance for each request", &fresh, 25.0),
        line("an instance for many requests (`reuse`)", &reused, 5.0),
    ])
}

/// A function that asks another, which asks the store in memory. The target is about processor time.
pub async fn chain(options: &Options, pair: &Pair, target: Option<f64>) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (reuse, how) in [(false, "fresh instances"), (true, "`reuse`")] {
        let target = target.filter(|_| !reuse);
        let beside = Beside::start(options, chained(pair, reuse), pair.ask(), &["id_1"]).await?;
        let [cpu] = beside.added_cpu(options, ["id_1"]).await?;
        let waited = beside.added_p50(options, "id_1").await?;
        let name = |figure: &str| {
            format!(
                "{}: chain of function, function and state, {how}: added {figure}",
                pair.language
            )
        };
        lines.push(cpu.line(name("processor time"), "µs CPU", target));
        lines.push(waited.line(name("p50, one request at a time"), "µs", None));
    }
    Ok(lines)
}

fn chained(pair: &Pair, reuse: bool) -> Value {
    let named = |id: &str, at: usize| {
        let vm = json!({"engine": "wasmtime", "path": pair.files[at]});
        json!({"name": id, "reuse": reuse, "vm_config": vm})
    };
    json!({"id_1": named("id_1", 0), "id_2": named("id_2", 1)})
}

/// A sidecar, and the requests that go to its functions and to its route.
struct Beside {
    sidecar: Sidecar,
    ask: Ask,
}

impl Beside {
    async fn start(options: &Options, plugins: Value, ask: Ask, ids: &[&str]) -> Result<Self> {
        let sidecar = Sidecar::start(options, plugins, &ask).await?;
        for id in ids {
            sidecar.answers(id, &ask).await?;
        }
        Ok(Self { sidecar, ask })
    }

    /// The same request with the same headers, wherever it goes.
    fn load(&self, address: SocketAddr, id: &str, connections: usize) -> http1::Load {
        http1::Load {
            headers: header(id),
            connections,
            ..http1::Load::new(address, self.ask.path)
        }
    }

    /// Processor time of each function beyond the route's, the route measured in each round.
    async fn added_cpu<const N: usize>(&self, options: &Options, ids: [&str; N]) -> Result<[Added; N]> {
        let mut added = [const { Added(Vec::new()) }; N];
        let native = self.load(self.sidecar.native, "none", CONNECTIONS);
        for _ in 0..options.rounds {
            let direct = self.cpu(&native, options).await?;
            for (id, added) in ids.iter().zip(&mut added) {
                let load = self.load(self.sidecar.functions, id, CONNECTIONS);
                added.0.push((self.cpu(&load, options).await?, direct));
            }
        }
        Ok(added)
    }

    /// Processor microseconds for each request, over one round. The load never sleeps: to wake it costs
    /// the process that answers, and the more often the slower that is.
    async fn cpu(&self, load: &http1::Load, options: &Options) -> Result<f64> {
        let _awake = Awake::start();
        run(load, options.counted().mul_f64(0.25)).await?;
        let before = self.sidecar.server.usage()?;
        let round = run(load, options.counted()).await?;
        let used = self.sidecar.server.usage()?.since(&before);
        Ok(used.as_secs_f64() * 1e6 / round.calls as f64)
    }

    /// How much longer a request to the function takes than one to the route, each alone.
    async fn added_p50(&self, options: &Options, id: &str) -> Result<Added> {
        let mut added = Added(Vec::new());
        for _ in 0..options.rounds {
            let direct = self.p50(self.sidecar.native, id, options).await?;
            let through = self.p50(self.sidecar.functions, id, options).await?;
            added.0.push((through, direct));
        }
        Ok(added)
    }

    async fn p50(&self, address: SocketAddr, id: &str, options: &Options) -> Result<f64> {
        let load = self.load(address, id, 1);
        run(&load, options.counted().mul_f64(0.25)).await?;
        let round = run(&load, options.counted()).await?;
        Ok(round.percentile(0.5).as_secs_f64() * 1e6)
    }
}

/// Keeps the thread from sleeping while it lives.
struct Awake(JoinHandle<()>);

impl Awake {
    fn start() -> Self {
        Self(tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        }))
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a load; a failed request is an error.
async fn run(load: &http1::Load, time: Duration) -> Result<Round> {
    let round = http1::run(&http1::Load { time, ..load.clone() }).await;
    round.ensure_no_failure()?;
    Ok(round)
}

/// What the function and the route came to, round by round.
struct Added(Vec<(f64, f64)>);

impl Added {
    fn line(&self, name: String, unit: &'static str, target: Option<f64>) -> Line {
        let of = |figure: fn(&(f64, f64)) -> f64| median(self.0.iter().map(figure).collect());
        Line {
            name,
            outcome: Ok(Outcome {
                value: format!("{:.2} {unit}", of(|pair| pair.0)),
                beside: format!("{:.2} {unit}, route", of(|pair| pair.1)),
                judged: of(|pair| pair.0 - pair.1),
                unit,
            }),
            target,
        }
    }
}
