//! Virtual hosts that are files of a folder.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
};

use layotto_core::Settings;
use serde_json::Value;

use super::{RouterConfig, VirtualHost};
use crate::{ConfigError, paths};

/// Virtual hosts, each with its path for errors.
pub(crate) type Named<'a> = Vec<(String, Cow<'a, VirtualHost>)>;

impl RouterConfig {
    /// The folder of virtual hosts, if there is one, which is looked up in `folders` too.
    pub fn folder(&self, folders: &[PathBuf]) -> Option<PathBuf> {
        (!self.router_configs.is_empty()).then(|| paths::find(&self.router_configs, folders))
    }

    /// The virtual hosts of the configuration itself or of the files of its folder, which are read
    /// now.
    pub(crate) fn hosts(&self, folders: &[PathBuf]) -> Result<Named<'_>, ConfigError> {
        let Some(folder) = self.folder(folders) else {
            let hosts = self.virtual_hosts.iter().enumerate();
            return Ok(hosts
                .map(|(i, host)| (format!("virtual_hosts[{i}]"), Cow::Borrowed(host)))
                .collect());
        };
        if !self.virtual_hosts.is_empty() {
            let message = "stands beside \"virtual_hosts\"; only one of them is accepted";
            return Err(ConfigError::new("router_configs", message));
        }
        read(&folder)
    }
}

fn read(folder: &Path) -> Result<Named<'static>, ConfigError> {
    let refuse = |error| ConfigError::new("router_configs", format!("{}: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(refuse)? {
        let path = entry.map_err(refuse)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    files.iter().map(|file| read_host(file)).collect()
}

fn read_host(file: &Path) -> Result<(String, Cow<'static, VirtualHost>), ConfigError> {
    let at = format!("router_configs({})", file.display());
    let text = fs::read(file).map_err(|error| ConfigError::new(&at, error.to_string()))?;
    let value = serde_json::from_slice(&text).map_err(|error| ConfigError::new(&at, error.to_string()))?;
    let Value::Object(map) = value else {
        return Err(ConfigError::new(at, "is no JSON object, the virtual host"));
    };
    let parsed = Settings::verbatim(map)
        .parse::<VirtualHost>()
        .map_err(|error| ConfigError::new(&at, error.to_string()))?;
    if !parsed.unknown.is_empty() {
        tracing::warn!(file = %file.display(), keys = ?parsed.unknown, "keys of a virtual host that nothing reads");
    }
    Ok((at, Cow::Owned(parsed.config)))
}
