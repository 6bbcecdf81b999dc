//! Plug-ins as those hold them who begin requests with them: such requests end on what they began
//! with, also when it is replaced or removed meanwhile.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use arc_swap::ArcSwapOption;

use crate::{
    Exchange,
    plugin::{CallError, Plugin},
    stream::{Reply, Request},
};

/// The version of a plug-in that runs, if one does.
pub(super) type Slot = ArcSwapOption<Plugin>;

/// A function, found.
pub struct Function(pub(super) Arc<Plugin>);

impl Function {
    /// Lets it answer. `depth` is how many functions called each other to get here; the caller waits
    /// until `deadline`.
    pub async fn call(
        &self,
        request: Request,
        depth: u32,
        deadline: Option<tokio::time::Instant>,
    ) -> Result<Reply, CallError> {
        self.0.call(request, depth, deadline).await
    }

    /// Whether its callers get upstream's empty replies in the place of errors.
    pub fn forgives(&self) -> bool {
        self.0.serving().forgive
    }
}

/// A filter of proxied traffic. It is there, in its last version, for those who hold this, even when
/// it is removed.
#[derive(Debug, Clone)]
pub struct Filter {
    pub(super) name: Arc<str>,
    pub(super) slot: Arc<Slot>,
}

impl Filter {
    /// The name of its plug-in.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Lets a request and its reply pass; `ends`: the request has no body.
    pub async fn exchange(&self, request: Request, ends: bool) -> Result<Exchange, CallError> {
        let plugin = self.slot.load_full();
        let plugin = plugin.ok_or_else(|| CallError::Missing(self.name.to_string()))?;
        plugin.exchange(request, ends).await
    }
}

/// The slots that somebody holds, by the name of the plug-in.
#[derive(Default)]
pub(super) struct Slots(Mutex<BTreeMap<String, Weak<Slot>>>);

impl Slots {
    /// That of the plug-in called `name`, which need not be there yet.
    pub(super) fn of(&self, name: &str) -> Arc<Slot> {
        let mut slots = self.all();
        if let Some(slot) = slots.get(name).and_then(Weak::upgrade) {
            return slot;
        }
        slots.retain(|_, slot| slot.strong_count() > 0);
        let slot = Arc::default();
        slots.insert(name.to_owned(), Arc::downgrade(&slot));
        slot
    }

    /// Leaves it to those who hold it: the next plug-in of that name has another one.
    pub(super) fn leave(&self, name: &str) {
        self.all().remove(name);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Weak<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
