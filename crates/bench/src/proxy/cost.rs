//! What a request costs: processor time, and waiting.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use layotto_peers::{
    load::{Round, grpc, http1},
    proxy::{Kind, Plan, Protocol},
};

use super::{
    METHOD, Running, greeter, greeting, origin, start,
    table::{Bound, Figure, Line},
};
use crate::cases::{Options, median};

/// Connections, for gRPC.
pub const CONNECTIONS: usize = 8;
/// Calls under way on each of them.
pub const STREAMS: usize = 16;
/// Connections for HTTP/1.1.
pub const KEPT: usize = 16;
const FEW_ROUTES: usize = 10;
const MANY_ROUTES: usize = 10_000;
/// Those that know what a route is.
const ROUTERS: [Kind; 4] = [Kind::HaProxy, Kind::Nginx, Kind::Envoy, Kind::Layotto];

/// A load, by where it goes and for how long.
pub enum Load {
    /// gRPC calls with a name of so many bytes.
    Grpc {
        /// Bytes of the name.
        size: usize,
        /// Connections.
        connections: usize,
        /// Calls under way on each.
        streams: usize,
    },
    /// GET of this path over so many connections.
    Http1(String, usize),
}

impl Load {
    /// Runs it; a failed request is an error.
    pub async fn run(&self, address: SocketAddr, time: Duration) -> Result<Round> {
        let round = match self {
            Self::Grpc {
                size,
                connections,
                streams,
            } => {
                let load = grpc::Load {
                    connections: *connections,
                    streams: *streams,
                    time,
                    ..grpc::Load::new(address, METHOD, greeting(*size))
                };
                grpc::run(&load).await
            }
            Self::Http1(path, connections) => {
                let load = http1::Load {
                    connections: *connections,
                    time,
                    ..http1::Load::new(address, path.as_str())
                };
                http1::run(&load).await
            }
        };
        round.ensure_no_failure()?;
        Ok(round)
    }
}

/// A proxy, and what the rounds measured of it so far.
struct Contender {
    kind: Kind,
    running: Result<Running, String>,
    values: Vec<f64>,
}

impl Contender {
    async fn start(options: &Options, kind: Kind, plan: &Plan) -> Result<Self> {
        Ok(Self {
            kind,
            running: start(options, kind, plan).await?,
            values: Vec::new(),
        })
    }

    /// Notes a value, unless the proxy fails: then it is out.
    fn note(&mut self, value: Result<f64>) {
        match value {
            Ok(value) => self.values.push(value),
            Err(error) => self.running = Err(format!("{error:#}")),
        }
    }

    fn figure(self) -> (Kind, Figure) {
        (self.kind, self.running.map(|_| median(self.values)))
    }
}

async fn contenders(options: &Options, kinds: &[Kind], plan: &Plan) -> Result<Vec<Contender>> {
    let mut all = Vec::new();
    for kind in kinds {
        all.push(Contender::start(options, *kind, plan).await?);
    }
    Ok(all)
}

/// Processor microseconds for each request, over one round.
pub async fn cpu(running: &super::Running, load: &Load, options: &Options) -> Result<f64> {
    load.run(running.address, options.counted().mul_f64(0.25)).await?;
    let before = running.server.processor_time()?;
    let round = load.run(running.address, options.counted()).await?;
    let used = running.server.processor_time()? - before;
    Ok(used.as_secs_f64() * 1e6 / round.calls as f64)
}

/// Median latency in microseconds, over one round.
pub async fn p50(address: SocketAddr, load: &Load, options: &Options) -> Result<f64> {
    load.run(address, options.counted().mul_f64(0.25)).await?;
    let round = load.run(address, options.counted()).await?;
    Ok(round.percentile(0.5).as_secs_f64() * 1e6)
}

/// Unary calls with a name of `size` bytes.
pub async fn grpc(options: &Options, name: &str, size: usize) -> Result<Line> {
    let (_back, address) = greeter()?;
    let load = Load::Grpc {
        size,
        connections: CONNECTIONS,
        streams: STREAMS,
    };
    Ok(Line {
        name: format!("{name}, {CONNECTIONS} × {STREAMS}"),
        unit: "µs CPU a call",
        figures: costs(options, &Plan::of(Protocol::Http2, address), &load).await?,
        bounds: vec![
            Bound::times(Kind::HaProxy, 1.2, 1.0),
            Bound::times(Kind::Envoy, 0.5, 0.4),
        ],
    })
}

/// GET of 100 bytes.
pub async fn http1(options: &Options, name: &str) -> Result<Line> {
    let (_back, address) = origin()?;
    let load = Load::Http1("/bytes/100".into(), KEPT);
    Ok(Line {
        name: format!("{name}, {KEPT} connections"),
        unit: "µs CPU a request",
        figures: costs(options, &Plan::of(Protocol::Http1, address), &load).await?,
        bounds: vec![
            Bound::times(Kind::Nginx, 1.1, 0.9),
            Bound::times(Kind::Envoy, 0.5, 0.4),
        ],
    })
}

async fn costs(options: &Options, plan: &Plan, load: &Load) -> Result<Vec<(Kind, Figure)>> {
    let mut all = contenders(options, &Kind::ALL, plan).await?;
    for round in 0..options.rounds {
        eprintln!("round {} …", round + 1);
        for contender in &mut all {
            if let Ok(running) = &contender.running {
                let value = cpu(running, load, options).await;
                contender.note(value);
            }
        }
    }
    Ok(all.into_iter().map(Contender::figure).collect())
}

/// What each adds to a call that is alone.
pub async fn added_latency(options: &Options, name: &str) -> Result<Line> {
    let (_back, address) = greeter()?;
    let load = Load::Grpc {
        size: 100,
        connections: 1,
        streams: 1,
    };
    let mut all = contenders(options, &Kind::ALL, &Plan::of(Protocol::Http2, address)).await?;
    for _ in 0..options.rounds {
        let direct = p50(address, &load, options).await?;
        for contender in &mut all {
            if let Ok(running) = &contender.running {
                let through = p50(running.address, &load, options).await;
                contender.note(through.map(|through| through - direct));
            }
        }
    }
    Ok(Line {
        name: name.to_owned(),
        unit: "µs",
        figures: all.into_iter().map(Contender::figure).collect(),
        bounds: vec![Bound {
            goal: None,
            ..Bound::times(Kind::HaProxy, 1.0, 1.0)
        }],
    })
}

/// How the latency of the last of many routes stands to that of the last of few.
pub async fn routes(options: &Options, name: &str) -> Result<Line> {
    let (_back, address) = origin()?;
    let plan = |routes| Plan {
        routes,
        ..Plan::of(Protocol::Http1, address)
    };
    let mut few = contenders(options, &ROUTERS, &plan(FEW_ROUTES)).await?;
    let many = contenders(options, &ROUTERS, &plan(MANY_ROUTES)).await?;
    let last = |routes: usize| Load::Http1(format!("/route/{}", routes - 1), 1);
    for _ in 0..options.rounds {
        for (few, many) in few.iter_mut().zip(&many) {
            if let (Ok(with_few), Ok(with_many)) = (&few.running, &many.running) {
                let base = p50(with_few.address, &last(FEW_ROUTES), options).await;
                let grown = p50(with_many.address, &last(MANY_ROUTES), options).await;
                few.note(grown.and_then(|grown| Ok(grown / base?)));
            }
        }
    }
    Ok(Line {
        name: name.to_owned(),
        unit: "times",
        figures: few.into_iter().map(Contender::figure).collect(),
        bounds: vec![Bound::most(1.2)],
    })
}
