//! The traffic dumps of a process: what listeners have one, and how they are switched at run time.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Config, ConfigDump, Strategy, Switch, Tcpcopy,
    files::Directories,
    usage::{self, Probe},
};
use crate::{address::Address, config::ConfigError};

/// The traffic dumps of a process. Listeners that dump to one directory share its files.
pub struct Dumps {
    directories: Arc<Directories>,
    config_dump: ConfigDump,
    probe: Probe,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    global: Option<Strategy>,
    listeners: Vec<Weak<Tcpcopy>>,
}

/// A change of strategies.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// Which listener's own strategy; all of them where it is absent.
    listener: Option<String>,
    #[serde(default)]
    layer: Layer,
    switch: Option<Switch>,
    interval: Option<u64>,
    duration: Option<u64>,
    cpu_max_rate: Option<f64>,
    mem_max_rate: Option<f64>,
}

/// Whose strategy is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Layer {
    #[default]
    Own,
    Global,
}

impl Dumps {
    /// No dumps yet. Where upstream's directory cannot be written, `data_dir` takes the files.
    pub fn new(data_dir: &Path, config_dump: ConfigDump) -> Self {
        Self::with(
            Directories::new(data_dir),
            config_dump,
            Arc::new(usage::of_system),
        )
    }

    pub(super) fn with(directories: Directories, config_dump: ConfigDump, probe: Probe) -> Self {
        Self {
            directories: Arc::new(directories),
            config_dump,
            probe,
            state: Mutex::default(),
        }
    }

    /// Begins the dump of a listener. `None` with a warning on a Unix socket, which is not dumped.
    /// Must be called in a tokio runtime.
    pub fn add(
        &self,
        listener: &str,
        address: &Address,
        config: &Config,
    ) -> Result<Option<Arc<Tcpcopy>>, ConfigError> {
        config.validate()?;
        let Address::Tcp { port, .. } = address else {
            let advice = Config::advice(address).unwrap_or_default();
            tracing::warn!(listener, "{advice}");
            return Ok(None);
        };
        let (directories, config_dump) = (self.directories.clone(), self.config_dump.clone());
        let dump = Tcpcopy::begin(
            listener,
            *port,
            config,
            directories,
            config_dump,
            self.probe.clone(),
        );
        let mut state = self.state();
        dump.prepare(config.strategy, state.global)
            .map_err(|error| ConfigError::new("dump_dir", error))?;
        dump.set(config.strategy, state.global);
        let dump = Arc::new(dump);
        state.listeners.retain(|other| other.strong_count() > 0);
        state.listeners.push(Arc::downgrade(&dump));
        Ok(Some(dump))
    }

    /// What dumps there are, and what they do.
    pub fn status(&self) -> Value {
        let state = self.state();
        let listeners: Vec<Value> = state
            .live()
            .iter()
            .map(|dump| dump.status(state.global))
            .collect();
        json!({"global": state.global, "listeners": listeners})
    }

    /// Changes strategies: any of `switch`, `interval`, `duration`, `cpu_max_rate` and
    /// `mem_max_rate`; of all listeners, of the one that `listener` names, or the global one with
    /// `"layer": "global"`. `FORCE_OFF` is always global. All or nothing is changed; an error says
    /// why nothing was.
    pub fn update(&self, change: Value) -> Result<(), String> {
        let change: Change = serde_json::from_value(change).map_err(|error| error.to_string())?;
        let mut state = self.state();
        match change.is_global() {
            true => change.apply_globally(&mut state),
            false => change.apply(&state),
        }
    }

    /// Waits until everything that was copied is written.
    pub async fn flush(&self) {
        let live = self.state().live();
        for dump in live {
            dump.flush().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Dumps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dumps").finish_non_exhaustive()
    }
}

impl State {
    fn live(&self) -> Vec<Arc<Tcpcopy>> {
        self.listeners.iter().filter_map(Weak::upgrade).collect()
    }

    fn is_forced_off(&self) -> bool {
        self.global
            .is_some_and(|global| global.switch == Switch::ForceOff)
    }
}

impl Change {
    fn is_global(&self) -> bool {
        self.layer == Layer::Global || self.switch == Some(Switch::ForceOff)
    }

    fn of(&self, strategy: Strategy) -> Result<Strategy, String> {
        let changed = Strategy {
            switch: self.switch.unwrap_or(strategy.switch),
            interval: self.interval.unwrap_or(strategy.interval),
            duration: self.duration.unwrap_or(strategy.duration),
            cpu_max_rate: self.cpu_max_rate.unwrap_or(strategy.cpu_max_rate),
            mem_max_rate: self.mem_max_rate.unwrap_or(strategy.mem_max_rate),
        };
        changed.validate().map_err(|error| error.to_string())?;
        Ok(changed)
    }

    fn apply_globally(&self, state: &mut State) -> Result<(), String> {
        if self.listener.is_some() {
            return Err("the global strategy, which FORCE_OFF belongs to, takes no listener".into());
        }
        let global = Some(self.of(state.global.unwrap_or_default())?);
        let live = state.live();
        for dump in &live {
            dump.prepare(*dump.own(), global)?;
        }
        state.global = global;
        for dump in &live {
            let own = *dump.own();
            dump.set(own, global);
        }
        Ok(())
    }

    fn apply(&self, state: &State) -> Result<(), String> {
        if state.is_forced_off() && self.switch == Some(Switch::On) {
            return Err(
                "the dump is FORCE_OFF; {\"layer\": \"global\", \"switch\": \"OFF\"} lifts that".into(),
            );
        }
        let mut changed = Vec::new();
        for dump in self.chosen(state)? {
            let under = |error| format!("listener {}: {error}", dump.listener());
            let own = self.of(*dump.own()).map_err(under)?;
            dump.prepare(own, state.global).map_err(under)?;
            changed.push((dump, own));
        }
        for (dump, own) in changed {
            dump.set(own, state.global);
        }
        Ok(())
    }

    fn chosen(&self, state: &State) -> Result<Vec<Arc<Tcpcopy>>, String> {
        let live = state.live();
        let names: Vec<&str> = live.iter().map(|dump| dump.listener()).collect();
        let names = names.join(", ");
        let is_chosen = |dump: &Arc<Tcpcopy>| {
            self.listener
                .as_deref()
                .is_none_or(|name| name == dump.listener())
        };
        let chosen: Vec<_> = live.iter().filter(|dump| is_chosen(dump)).cloned().collect();
        match (chosen.is_empty(), &self.listener) {
            (false, _) => Ok(chosen),
            (true, Some(name)) if !names.is_empty() => Err(format!(
                "no listener {name:?} has the filter tcpcopy; accepted: {names}"
            )),
            (true, _) => Err("no listener has the filter tcpcopy".into()),
        }
    }
}
