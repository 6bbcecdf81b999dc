//! The floor: wasmtime's own instantiation from the pool, with the settings that functions have and
//! no host around it.

use std::time::Instant;

use anyhow::Result;
use layotto_wasm::{Engine, Settings};
use wasmtime::{InstancePre, Linker, Store};

use super::{
    modules,
    table::{Line, Outcome},
};
use crate::cases::{Options, median};

/// Instances in a row between looks at the clock.
const BATCH: u32 = 100;

/// Makes and drops instances of the module, as functions are made (on a stack of their own) and on
/// the stack of the caller.
pub async fn instantiate(options: &Options) -> Result<Line> {
    let engine = Engine::new(&Settings::default())?;
    let module = engine.load(&std::fs::read(modules::alone().file)?)?;
    let mut linker = Linker::<()>::new(module.engine());
    plain(linker.define_unknown_imports_as_traps(&module))?;
    let module = plain(linker.instantiate_pre(&module))?;
    let (mut own, mut callers) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        own.push(
            micros(options, async || {
                let mut store = store(&module);
                module.instantiate_async(&mut store).await.map(drop)
            })
            .await?,
        );
        callers.push(
            micros(options, async || {
                module.instantiate(&mut store(&module)).map(drop)
            })
            .await?,
        );
    }
    Ok(Line {
        name: "Rust: floor: wasmtime makes an instance from the pool and drops it".to_owned(),
        outcome: Ok(Outcome {
            value: format!("{:.2} µs, on a stack of its own", median(own.clone())),
            beside: format!("{:.2} µs, on the caller's", median(callers)),
            judged: median(own),
            unit: "µs",
        }),
        target: None,
    })
}

/// With an error that others know.
fn plain<T>(made: wasmtime::Result<T>) -> Result<T> {
    made.map_err(|error| anyhow::Error::from_boxed(error.into_boxed_dyn_error()))
}

fn store(module: &InstancePre<()>) -> Store<()> {
    let mut store = Store::new(module.module().engine(), ());
    store.set_epoch_deadline(1);
    store
}

/// Mean microseconds over a round.
async fn micros(options: &Options, make: impl AsyncFn() -> wasmtime::Result<()>) -> Result<f64> {
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < options.counted() {
        for _ in 0..BATCH {
            plain(make().await)?;
        }
        count += BATCH;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(count))
}
