//! Functions that come and go while the process runs, beside those of the configuration file.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, MutexGuard, PoisonError},
};

use layotto_mesh::config::ConfigError;
use layotto_wasm::{InstallError, Source, Status};
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::{ENGINE, Guests, NOTED, config};

/// Why a function was not installed.
#[derive(Debug, Error)]
pub enum Refused {
    /// Its configuration is wrong.
    #[error("{}: {}", .0.path, .0.message)]
    Config(ConfigError),
    /// It cannot be loaded.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// Its file is not there.
    #[error("{0}")]
    Missing(String),
    /// It would answer under another id than it was installed by.
    #[error("the function says that its id is {says:?}, and not {named:?}")]
    OtherId {
        /// What it was installed by.
        named: String,
        /// What the guest says.
        says: String,
    },
}

impl Guests {
    /// Installs the function called `id` with the keys of a plug-in of the filter. It answers when this
    /// returns; where it fails, nothing is left of it.
    pub async fn install(&self, id: &str, item: Map<String, Value>) -> Result<(), Refused> {
        if !self.plugins_of(id).is_empty() {
            return Err(InstallError::Registered(id.to_owned()).into());
        }
        let mut plugin = config::plugin(&Value::Object(item)).map_err(Refused::Config)?;
        plugin.resolve(&self.0.globals.load()).map_err(Refused::Config)?;
        let config = plugin.config(&self.0.folder);
        let mut new = New::of(self, id, config.source.clone())?;
        self.note_engine(&plugin.vm_config.engine);
        self.0.functions.install(id, config).await?;
        let status = self.0.functions.status();
        match status.into_iter().find(|status| status.name == id) {
            Some(Status {
                version: None,
                problem,
                ..
            }) => Err(Refused::Missing(problem.unwrap_or_default())),
            Some(status) if status.id != id => Err(Refused::OtherId {
                named: id.to_owned(),
                says: status.id,
            }),
            _ => {
                new.stays = true;
                Ok(())
            }
        }
    }

    /// Changes how many requests at a time the function called `id` serves.
    pub fn update(&self, id: &str, places: i64) -> Result<(), InstallError> {
        if places <= 0 {
            return Err(InstallError::NoPlaces);
        }
        for plugin in self.known(id)? {
            self.0.functions.update(&plugin, places)?;
        }
        Ok(())
    }

    /// Removes the function called `id`: every plug-in that has it, whoever installed it.
    pub async fn uninstall(&self, id: &str) -> Result<(), InstallError> {
        for plugin in self.known(id)? {
            if let Some(there) = self.0.installed.lock().await.get_mut(&plugin) {
                there.fetching = None;
            }
            self.0.functions.uninstall(&plugin)?;
            self.added().remove(&plugin);
        }
        Ok(())
    }

    /// Every plug-in as JSON.
    pub fn status(&self) -> Value {
        let added = self.added().clone();
        let functions: Vec<_> = self
            .0
            .functions
            .status()
            .into_iter()
            .map(|status| {
                json!({
                    "plugin": status.name,
                    "id": status.id,
                    "installed_by": if added.contains_key(&status.name) { "api" } else { "file" },
                    "status": if status.up { "UP" } else { "DOWN" },
                    "version": status.version.map(|version| json!({
                        "number": version.number, "sha256": version.sha256, "abi": version.abi.to_string(),
                    })),
                    "problem": status.problem,
                    "instance_num": status.places,
                    "running": status.running,
                    "calls": status.calls,
                    "errors": status.errors,
                    "last_trap": status.last_trap,
                    "memory_bytes": status.memory,
                })
            })
            .collect();
        json!({ "functions": functions })
    }

    /// The plug-ins whose function is called `id`.
    fn plugins_of(&self, id: &str) -> Vec<String> {
        let all = self.0.functions.status().into_iter();
        all.filter(|status| status.id == id && !status.is_filter)
            .map(|status| status.name)
            .collect()
    }

    fn known(&self, id: &str) -> Result<Vec<String>, InstallError> {
        let plugins = self.plugins_of(id);
        match plugins.is_empty() {
            true => Err(InstallError::NotRegistered(id.to_owned())),
            false => Ok(plugins),
        }
    }

    /// Says once that there is no engine of this name.
    pub(super) fn note_engine(&self, engine: &str) {
        let mut noted = self.0.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ours = engine.is_empty() || engine == ENGINE;
        if !is_ours && noted.len() < NOTED && noted.insert(engine.to_owned()) {
            tracing::info!(engine, "functions for this engine run on {ENGINE}");
        }
    }

    /// The plug-ins that were not installed by the file.
    pub(super) fn added(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Source>>> {
        self.0.added.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A plug-in that is being installed. It is removed again unless it stays, also where whoever asks for
/// it waits no longer.
struct New<'a> {
    guests: &'a Guests,
    name: &'a str,
    source: Arc<Source>,
    stays: bool,
}

impl<'a> New<'a> {
    fn of(guests: &'a Guests, name: &'a str, source: Arc<Source>) -> Result<Self, InstallError> {
        match guests.added().entry(name.to_owned()) {
            Entry::Vacant(free) => drop(free.insert(source.clone())),
            Entry::Occupied(_) => return Err(InstallError::Registered(name.to_owned())),
        }
        Ok(Self {
            guests,
            name,
            source,
            stays: false,
        })
    }
}

impl Drop for New<'_> {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        // What is there now, and the note of it, may be somebody else's.
        self.guests.0.functions.withdraw(self.name, &self.source);
        let mut added = self.guests.added();
        let is_own = |source: &Arc<Source>| Arc::ptr_eq(source, &self.source);
        if added.get(self.name).is_some_and(is_own) {
            added.remove(self.name);
        }
    }
}
