//! The segment cache alone: weak ids a second on one thread, without gRPC.

use std::{sync::Arc, time::Instant};

use anyhow::Context as _;
use layotto_api::{
    Components, Runtime, Slot,
    metrics::Metrics,
    ops::sequencer::{Increment, next_id},
};
use layotto_core::{
    Context, Metadata, Registry, Settings,
    health::{Health, Required},
    key_prefix::{KeyPrefix, Scope},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const IDS: u32 = 3_000_000;

/// Draws ids one after another.
pub async fn weak_ids_per_second() -> anyhow::Result<f64> {
    let runtime = runtime().await?;
    let metadata = Metadata::new();
    let begun = Instant::now();
    let mut last = 0;
    for _ in 0..IDS {
        let id = next_id(&runtime, "ids", "bench", Some(Increment::Weak), &metadata).await?;
        anyhow::ensure!(id > last, "id {id} after {last}");
        last = id;
    }
    Ok(f64::from(IDS) / begun.elapsed().as_secs_f64())
}

async fn runtime() -> anyhow::Result<Runtime> {
    let mut registry = Registry::default();
    layotto_components::register(&mut registry);
    let folder = std::env::temp_dir();
    let info = registry
        .sequencer
        .get("in-memory")
        .context("no in-memory sequencer")?;
    let sequencer = info
        .open(&Settings::default(), Context::standalone("ids", folder))
        .await?;
    let prefix = KeyPrefix::new(Scope::Sequencer, None, "bench", "ids")?;
    let indicator = Health::default().indicator("ids", Required::No);
    let slot = Slot::new("ids", "in-memory", prefix, indicator);
    slot.fill(sequencer);
    let mut components = Components::default();
    components.sequencer.insert(Arc::new(slot));
    let metrics = Arc::new(Metrics::default());
    Ok(Runtime::new(
        "bench",
        components,
        metrics,
        CancellationToken::new(),
        TaskTracker::new(),
    ))
}
