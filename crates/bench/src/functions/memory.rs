//! What a function holds while nobody asks for it.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use layotto_peers::load::http1::Client;
use serde_json::json;

use super::{
    modules::{self, Module},
    sidecar::{Sidecar, done},
    table::{Line, Outcome},
};
use crate::{cases::Options, process::Private};

/// How many functions.
const COUNT: u32 = 200;
/// How long nothing is asked before memory is read: a function that is not called for five seconds
/// rests, and threads that compiled end.
const REST: Duration = Duration::from_secs(8);
/// The most, in KB of 1,000 bytes.
const MOST: f64 = 200.0;

/// Functions of modules that all differ, compiled by this process and by one before it, and functions
/// of one module.
pub async fn idle(options: &Options) -> Result<Vec<Line>> {
    let module = modules::alone();
    let bytes = std::fs::read(&module.file)?;
    let start = || Sidecar::start(options, json!({}), &module.ask);
    let different = |number| modules::distinct(&bytes, number);
    let mut sidecar = start().await?;
    let compiled = added(&sidecar, &module, different).await?;
    sidecar = sidecar.again(options, json!({}), &module.ask).await?;
    let cached = added(&sidecar, &module, different).await?;
    sidecar = start().await?;
    let same = added(&sidecar, &module, |_| modules::distinct(&bytes, 0)).await?;
    Ok(vec![
        line("of different modules, compiled by the process", compiled),
        line("of different modules, compiled before", cached),
        line("of one module", same),
    ])
}

/// Private memory before and after so many functions came.
async fn added(
    sidecar: &Sidecar,
    module: &Module,
    bytes: impl Fn(u32) -> Vec<u8>,
) -> Result<(Private, Private)> {
    let file = |number: u32| -> Result<PathBuf> {
        let file = sidecar.folder.path().join(format!("{number}.wasm"));
        std::fs::write(&file, bytes(number))?;
        Ok(file)
    };
    // The engine, its pool and all that serves functions is there before.
    add(sidecar, module, "first", file(0)?).await?;
    let before = rested(sidecar).await?;
    for number in 1..=COUNT {
        add(sidecar, module, &format!("f{number}"), file(number)?).await?;
    }
    Ok((before, rested(sidecar).await?))
}

/// Installs a function, and lets it answer once.
async fn add(sidecar: &Sidecar, module: &Module, id: &str, file: PathBuf) -> Result<()> {
    let plugin = json!({"name": id, "vm_config": {"path": file}});
    let mut admin = Client::connect(sidecar.admin).await?;
    done(&mut admin, &sidecar.administer("install", &plugin)).await?;
    sidecar.answers(id, &module.ask).await
}

async fn rested(sidecar: &Sidecar) -> Result<Private> {
    tokio::time::sleep(REST).await;
    sidecar.server.private()
}

fn line(what: &str, (before, after): (Private, Private)) -> Line {
    let each = |after: u64, before: u64| (after as f64 - before as f64) / f64::from(COUNT) / 1000.0;
    let (dirty, clean) = (each(after.dirty, before.dirty), each(after.clean, before.clean));
    Line {
        name: format!("Rust: private memory of an idle function, {COUNT} {what}"),
        outcome: Ok(Outcome {
            value: format!("{dirty:.1} KB written, {clean:.1} KB of files"),
            beside: String::new(),
            judged: dirty + clean,
            unit: "KB",
        }),
        target: Some(MOST),
    }
}
