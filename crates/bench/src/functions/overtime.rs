//! How much later than its time a function that never ends is answered for, while others are asked.

use std::{
    net::SocketAddr,
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use layotto_peers::load::http1::{Client, request};
use serde_json::json;

use super::{
    modules,
    sidecar::{Sidecar, done, header},
    table::Line,
};
use crate::{cases::Options, process::BOTH};

/// The time of the function that never ends.
const BUDGET: Duration = Duration::from_millis(100);
/// Each a function of its own: one that fails again and again rests.
const TRIES: usize = 50;
/// Calls of another function meanwhile, one after another.
const OTHERS: u32 = 100;
/// From one of these to the next.
const PAUSE: Duration = Duration::from_micros(500);
/// Milliseconds that the answer may be later than the time.
const MOST: f64 = 10.0;

/// With a thread for each processor, as users have it, and with one, on which others have their turn in
/// the time of the function.
pub async fn later(options: &Options) -> Result<[Line; 2]> {
    let both = tries(options, BOTH).await?;
    let one = tries(options, 0..1).await?;
    Ok([
        line(&both, "two processors", Some(MOST)),
        line(&one, "one processor", None),
    ])
}

/// How much later each try was, sorted.
async fn tries(options: &Options, processors: Range<usize>) -> Result<Vec<Duration>> {
    let module = modules::alone();
    let sidecar = Sidecar::start_on(processors, options, &module.ask).await?;
    let mut admin = Client::connect(sidecar.admin).await?;
    let mut install = async |id: &str| {
        let file = json!({"path": module.file, "cpu": BUDGET.as_millis()});
        let plugin = json!({"name": id, "vm_config": file});
        done(&mut admin, &sidecar.administer("install", &plugin)).await
    };
    install("other").await?;
    let other = sidecar.request("other", &module.ask);
    let mut late = Vec::new();
    for number in 0..TRIES {
        let id = format!("endless{number}");
        install(&id).await?;
        let endless = request("GET", "/?loop", sidecar.functions, &header(&id), "");
        let (took, ()) = futures::try_join!(
            answered(sidecar.functions, &endless),
            others(sidecar.functions, &other, module.ask.answer),
        )?;
        ensure!(took >= BUDGET, "ended after {took:?}, before its time");
        late.push(took - BUDGET);
    }
    late.sort_unstable();
    Ok(late)
}

fn line(late: &[Duration], processors: &str, target: Option<f64>) -> Line {
    let name = format!(
        "Rust: a function that never ends, beside {OTHERS} calls of another, {processors}: 504 later than its \
         {} ms, the latest of {}",
        BUDGET.as_millis(),
        late.len()
    );
    Line::times(name, late, 1.0, target)
}

/// How long it takes until the function is answered for.
async fn answered(address: SocketAddr, endless: &[u8]) -> Result<Duration> {
    let mut client = Client::connect(address).await?;
    let begun = Instant::now();
    let status = client.ask(endless).await?.status;
    ensure!(status == 504, "a function that never ends answers {status}");
    Ok(begun.elapsed())
}

async fn others(address: SocketAddr, other: &[u8], answer: &str) -> Result<()> {
    let mut client = Client::connect(address).await?;
    for _ in 0..OTHERS {
        let reply = client.ask(other).await?;
        ensure!(
            reply.status == 200 && reply.body == answer.as_bytes(),
            "another function answers {}",
            reply.status
        );
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
