//! From the call that installs a function to its first answer.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use layotto_peers::load::http1::Client;
use serde_json::{Value, json};

use super::{
    modules::Module,
    sidecar::{Sidecar, done},
    table::Line,
};
use crate::cases::Options;

/// Installs that are not counted: the first starts the engine, compiles the module and keeps it.
const WARM_UP: usize = 5;
/// Fewer say nothing about the slowest of a hundred.
const FEWEST: usize = 100;
/// How long the function may be unknown after its installation was confirmed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Installs, asks until it answers, uninstalls, again and again. The time begins when the call is
/// sent, and ends when the first answer of the function was read.
pub async fn to_first_answer(options: &Options, module: &Module, target: Option<f64>) -> Result<Line> {
    let sidecar = Sidecar::start(options, json!({}), &module.ask).await?;
    let mut cycle = Cycle::of(&sidecar, module).await?;
    for _ in 0..WARM_UP {
        cycle.turn().await?;
    }
    sidecar.answers_nothing(module).await?;
    let (begun, time) = (Instant::now(), options.counted() * options.rounds as u32);
    let mut times = Vec::new();
    while begun.elapsed() < time || times.len() < FEWEST {
        times.push(cycle.turn().await?);
    }
    times.sort_unstable();
    let name = format!(
        "{}: install call to first answer, p99 of {} installs, compiled cache warm",
        module.language,
        times.len()
    );
    Ok(Line::times(name, &times, 0.99, target))
}

/// What is sent over and over.
struct Cycle {
    admin: Client,
    web: Client,
    install: Vec<u8>,
    ask: Vec<u8>,
    uninstall: Vec<u8>,
    answer: &'static str,
}

impl Cycle {
    async fn of(sidecar: &Sidecar, module: &Module) -> Result<Self> {
        Ok(Self {
            admin: Client::connect(sidecar.admin).await?,
            web: Client::connect(sidecar.functions).await?,
            install: sidecar.administer("install", &plugin(module)),
            ask: sidecar.request(module.id, &module.ask),
            uninstall: sidecar.administer("uninstall", &json!({"name": module.id})),
            answer: module.ask.answer,
        })
    }

    async fn turn(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        done(&mut self.admin, &self.install).await?;
        loop {
            let answer = self.web.ask(&self.ask).await?;
            if answer.status == 200 && answer.body == self.answer.as_bytes() {
                break;
            }
            ensure!(
                answer.status == 404 && begun.elapsed() < PATIENCE,
                "it answers {}: {}",
                answer.status,
                String::from_utf8_lossy(answer.body)
            );
        }
        let took = begun.elapsed();
        done(&mut self.admin, &self.uninstall).await?;
        Ok(took)
    }
}

impl Sidecar {
    /// Fails if the function is there: then its first answer is not the first.
    async fn answers_nothing(&self, module: &Module) -> Result<()> {
        let mut client = Client::connect(self.functions).await?;
        let answer = client.ask(&self.request(module.id, &module.ask)).await?;
        ensure!(
            answer.status == 404,
            "uninstalled, it still answers {}",
            answer.status
        );
        Ok(())
    }
}

/// As the administration API takes it.
pub fn plugin(module: &Module) -> Value {
    json!({"name": module.id, "vm_config": {"engine": "wasmtime", "path": module.file}})
}
