//! Many functions in one process: what the others wait for beside one that never ends, one that is asked
//! without pause and one that traps.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use layotto_peers::load::{
    http1::{Client, request},
    percentile,
};
use rustix::process::setpriority_process;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    modules::{self, Module},
    sidecar::{Sidecar, done, header},
    table::{Line, Outcome},
};
use crate::cases::{Options, median};

/// All functions, the three bad ones too.
const COUNT: usize = 1000;
/// Connections to the others, each with one request under way and a pause after it: from half to one and
/// a half of this, so that they do not come in step.
const ASKERS: usize = 8;
const PAUSE: Duration = Duration::from_millis(2);
/// Connections to the function that is asked without pause.
const HAMMERS: usize = 16;
/// The pause between requests to the one that traps; after some traps it rests.
const TRAPS: Duration = Duration::from_millis(5);
/// Longest run of the one that never ends, in milliseconds: longer than a round.
const BUDGET: u64 = 600_000;
/// How long the trouble takes to end.
const PAUSE_AFTER: Duration = Duration::from_millis(200);
/// How many times as long as others a round is: the slowest of a hundred answers must be some.
const LONGER: u32 = 3;
/// How many times as long the slowest of a hundred answers may take beside the bad ones.
const MOST: f64 = 2.0;

/// The 99th percentile of the others, beside the bad ones and without them.
pub async fn others(options: &Options) -> Result<Line> {
    let module = modules::alone();
    let crowd = Crowd::start(options, &module).await?;
    let time = options.counted() * LONGER;
    crowd.ask_others(time / 2).await?;
    let mut pairs = Vec::new();
    for _ in 0..options.rounds {
        let without = crowd.ask_others(time).await?;
        let trouble = crowd.trouble().await?;
        let beside = crowd.ask_others(time).await?;
        ensure!(trouble.is_there(), "a bad function was no longer asked");
        drop(trouble);
        tokio::time::sleep(PAUSE_AFTER).await;
        pairs.push((beside, without));
    }
    let of = |figure: fn(&(f64, f64)) -> f64| median(pairs.iter().map(figure).collect());
    Ok(Line {
        name: format!(
            "Rust: {COUNT} functions, of which one never ends, one is asked without pause and one traps: \
             p99 of the others"
        ),
        outcome: Ok(Outcome {
            value: format!("{:.0} µs", of(|pair| pair.0)),
            beside: format!("{:.0} µs, without these", of(|pair| pair.1)),
            judged: of(|pair| pair.0 / pair.1),
            unit: "×",
        }),
        target: Some(MOST),
    })
}

/// A sidecar with all functions.
struct Crowd {
    sidecar: Sidecar,
    /// Requests to the others.
    others: Arc<[Vec<u8>]>,
    answer: &'static str,
}

impl Crowd {
    async fn start(options: &Options, module: &Module) -> Result<Self> {
        let sidecar = Sidecar::start(options, json!({}), &module.ask).await?;
        let mut admin = Client::connect(sidecar.admin).await?;
        let mut install = async |id: &str, more: Value| {
            let mut plugin = json!({"name": id, "vm_config": {"path": module.file, "cpu": BUDGET}});
            if let (Some(plugin), Value::Object(more)) = (plugin.as_object_mut(), more) {
                plugin.extend(more);
            }
            done(&mut admin, &sidecar.administer("install", &plugin)).await
        };
        // One place, as in upstream's demo: whoever asks too much waits for himself.
        install("hammered", json!({"instance_num": 1})).await?;
        install("endless", json!({})).await?;
        install("traps", json!({})).await?;
        let ids: Vec<_> = (3..COUNT).map(|number| format!("other{number}")).collect();
        for id in &ids {
            install(id, json!({})).await?;
        }
        let others = ids.iter().map(|id| sidecar.request(id, &module.ask)).collect();
        Ok(Self {
            others,
            answer: module.ask.answer,
            sidecar,
        })
    }

    /// Asks one of the others after another, over several connections, for so long. Returns the
    /// microseconds that 99 of 100 answers keep.
    async fn ask_others(&self, time: Duration) -> Result<f64> {
        let begun = Instant::now();
        let mut askers = JoinSet::new();
        for asker in 0..ASKERS {
            let (others, answer) = (Arc::clone(&self.others), self.answer);
            let mut client = Client::connect(self.sidecar.functions).await?;
            askers.spawn(async move {
                let mut latencies = Vec::new();
                // From places of their own on, so that no two ask for the same at a time.
                let from = asker * others.len() / ASKERS;
                let pause = PAUSE.mul_f64(0.5 + asker as f64 / ASKERS as f64);
                for request in others.iter().cycle().skip(from) {
                    if begun.elapsed() >= time {
                        break;
                    }
                    let asked = Instant::now();
                    let reply = client.ask(request).await?;
                    latencies.push(asked.elapsed());
                    ensure!(
                        reply.status == 200 && reply.body == answer.as_bytes(),
                        "one of the others answered {}",
                        reply.status
                    );
                    tokio::time::sleep(pause).await;
                }
                Ok(latencies)
            });
        }
        let mut latencies = Vec::new();
        while let Some(some) = askers.join_next().await {
            latencies.extend(some??);
        }
        latencies.sort_unstable();
        Ok(percentile(&latencies, 0.99).as_secs_f64() * 1e6)
    }

    /// The bad ones are asked for as long as what is returned lives; the endless one runs by then.
    async fn trouble(&self) -> Result<Trouble> {
        let ask = |id: &str, path: &str| request("GET", path, self.sidecar.functions, &header(id), "");
        let (endless, traps) = (ask("endless", "/?loop"), ask("traps", "/?trap"));
        let address = self.sidecar.functions;
        let trouble = Trouble {
            askers: [
                tokio::spawn(again_and_again(address, endless, Duration::ZERO)),
                tokio::spawn(again_and_again(address, traps, TRAPS)),
            ],
            hammer: Hammer::start(address, ask("hammered", "/?none")),
        };
        tokio::time::sleep(Duration::from_millis(200)).await;
        ensure!(trouble.is_there(), "a bad function is no longer asked");
        Ok(trouble)
    }
}

/// Those who ask the bad ones.
struct Trouble {
    askers: [tokio::task::JoinHandle<Result<()>>; 2],
    hammer: Hammer,
}

impl Trouble {
    fn is_there(&self) -> bool {
        !self.askers.iter().any(|asker| asker.is_finished()) && !self.hammer.thread.is_finished()
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        self.askers.iter().for_each(|asker| asker.abort());
        self.hammer.stop.cancel();
    }
}

/// Asks without pause, from a thread of the lowest priority: what it does takes no time from those whose
/// answers are timed.
struct Hammer {
    stop: CancellationToken,
    thread: std::thread::JoinHandle<Result<()>>,
}

impl Hammer {
    fn start(address: SocketAddr, request: Vec<u8>) -> Self {
        let stop = CancellationToken::new();
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                // Of this thread alone, as always with Linux.
                setpriority_process(None, 19)?;
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let hammers = (0..HAMMERS).map(|_| again_and_again(address, request.clone(), Duration::ZERO));
                let hammering = stop.run_until_cancelled(futures::future::try_join_all(hammers));
                runtime.block_on(hammering).transpose()?;
                Ok(())
            }
        });
        Self { stop, thread }
    }
}

async fn again_and_again(address: SocketAddr, request: Vec<u8>, pause: Duration) -> Result<()> {
    let mut client = Client::connect(address).await?;
    loop {
        client.ask(&request).await?;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}
