//! `wasm_global_plugins`: modules that plug-ins name in the place of one of their own.

use layotto_mesh::config::ConfigError;
use schemars::JsonSchema;
use serde::Deserialize;

use super::config::{Plugin, Vm};

/// One of them. Nothing is loaded before a plug-in of a filter, or one that is installed, names it by
/// `from_wasm_plugin`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Global {
    /// What plug-ins name it by. Required.
    pub plugin_name: String,
    /// How many requests a plug-in of it serves at a time; 0 and less: 64.
    pub instance_num: i64,
    /// The module and its limits, with the keys of [the filter's](filters/Layotto.md#options). Required.
    pub vm_config: Vm,
}

impl Global {
    /// Says what is wrong with it, beside the ones before it.
    pub fn check(&self, before: &[Self]) -> Result<(), ConfigError> {
        let name = &self.plugin_name;
        if name.is_empty() {
            return Err(ConfigError::new(
                "plugin_name",
                "is missing; expected the name of the plug-in",
            ));
        }
        if before.iter().any(|other| other.plugin_name == *name) {
            return Err(ConfigError::new(
                "plugin_name",
                format!("{name:?} is there twice"),
            ));
        }
        self.vm_config.check()
    }
}

impl Plugin {
    /// Gives it the module that it names by `from_wasm_plugin`, if it does.
    pub fn resolve(&mut self, globals: &[Global]) -> Result<(), ConfigError> {
        if self.from_wasm_plugin.is_empty() {
            return Ok(());
        }
        let named = globals
            .iter()
            .find(|global| global.plugin_name == self.from_wasm_plugin);
        let Some(named) = named else {
            return Err(ConfigError::new("from_wasm_plugin", "plugin not found"));
        };
        self.vm_config = named.vm_config.clone();
        self.instance_num = named.instance_num;
        Ok(())
    }
}
