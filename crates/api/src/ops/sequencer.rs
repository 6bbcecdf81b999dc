//! Unique ids: STRONG ones from the component, WEAK ones from segments kept in the process.

mod cache;
mod segments;

use std::sync::Arc;

use layotto_core::{Error, ErrorKind, Metadata, Result, key_prefix::PrefixedKey, sequencer::Sequencer};

pub(crate) use self::cache::SegmentCaches;
use self::segments::Source;
use crate::{
    Slot,
    runtime::{Runtime, component_error, look_up},
    status::REASON,
};

/// How ids grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Increment {
    /// Growing within this process, from segments: fast.
    #[default]
    Weak,
    /// Growing everywhere: one call of the component for each id.
    Strong,
}

/// The next id of `key`. No `increment` stands for one that does not exist.
pub async fn next_id(
    runtime: &Runtime,
    store: &str,
    key: &str,
    increment: Option<Increment>,
    metadata: &Metadata,
) -> Result<i64> {
    // A cached key has passed every check below.
    if increment == Some(Increment::Weak)
        && let Some(id) = runtime.sequences.hit(store, key)
    {
        return Ok(id);
    }
    let (slot, prefixed, increment) = validated(runtime, store, key, increment)?;
    let id = async {
        let component = slot.get()?;
        if increment == Increment::Weak && component.features().segments {
            let (tasks, shutdown) = (runtime.tasks.clone(), runtime.shutdown.clone());
            let source = Source {
                slot: Arc::clone(slot),
                key: prefixed,
                tasks,
                shutdown,
            };
            return runtime.sequences.segments(store, key, source).next().await;
        }
        component.next_id(&prefixed, metadata).await
    };
    id.await
        .map_err(|error| component_error("sequencer", store, error.message().to_owned(), error))
}

type Validated<'a> = (&'a Arc<Slot<dyn Sequencer>>, PrefixedKey, Increment);

/// Upstream's order: the key is prefixed before the store is looked up. Whether a key is legal does
/// not depend on the prefix, so an unknown store does for the check.
fn validated<'a>(
    runtime: &'a Runtime,
    store: &str,
    key: &str,
    increment: Option<Increment>,
) -> Result<Validated<'a>> {
    let none = || "Sequencer store is not configured".to_owned();
    let sequencers = &runtime.components.sequencer;
    let Some(any) = sequencers.iter().next() else {
        return Err(Error::new(ErrorKind::FailedPrecondition, none()).with_detail(REASON, "NOT_CONFIGURED"));
    };
    if key.is_empty() {
        return Err(Error::invalid(format!("Key is empty in sequencer store {store}")));
    }
    let increment = increment.ok_or_else(|| Error::invalid("options.Increment is illegal"))?;
    let prefix = sequencers.get(store).unwrap_or(any).prefix();
    let key = prefix.apply(key)?;
    let unknown = || format!("Sequencer store {store} not found");
    Ok((look_up(sequencers, store, none, unknown)?, key, increment))
}

#[cfg(test)]
mod tests;
