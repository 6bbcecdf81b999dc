//! Secrets from a JSON file.

use std::{collections::HashMap, path::Path};

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Error, ErrorKind, Metadata, Open, Result, Secret, secret::SecretStore,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Serves secrets from a JSON file, for development and tests. The file is read once, at start.
/// Nested values are found under the path of their names: `{"db": {"user": "u"}}` holds `db:user`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["secretsFile"]))]
pub struct LocalFileConfig {
    /// The JSON file; a relative path is looked up in the working directory, then beside the
    /// configuration file.
    pub secrets_file: String,
    /// What stands between the names of nested values. Default `:`.
    pub nested_separator: String,
    /// Whether an object at the top of the file is one secret with several entries, rather than
    /// several secrets. Default false.
    pub multi_valued: bool,
}

impl Default for LocalFileConfig {
    fn default() -> Self {
        Self {
            secrets_file: String::new(),
            nested_separator: ":".to_owned(),
            multi_valued: false,
        }
    }
}

type Entries = HashMap<String, Secret>;

/// The component `local.file`.
#[derive(Debug)]
pub struct LocalFile {
    secrets: HashMap<String, Entries>,
}

impl Open for LocalFile {
    const TYPE: &'static str = "local.file";
    type Config = LocalFileConfig;

    async fn open(config: LocalFileConfig, cx: Context) -> Result<Self> {
        if config.secrets_file.is_empty() {
            return Err(Error::invalid("missing local secrets file in metadata"));
        }
        let path = cx.resolve(&config.secrets_file);
        let text = tokio::fs::read(&path).await.map_err(|error| {
            let shown = path.display();
            Error::invalid(format!("secrets file {shown} cannot be read: {error}"))
        })?;
        let secrets = parse(&text, &config).map_err(|problem| refuse(&path, &problem))?;
        Ok(Self { secrets })
    }
}

fn refuse(path: &Path, problem: &str) -> Error {
    Error::invalid(format!("secrets file {}: {problem}", path.display()))
}

fn parse(text: &[u8], config: &LocalFileConfig) -> Result<HashMap<String, Entries>, String> {
    // Read untyped: a type error of serde would repeat a value.
    let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let Value::Object(top) = value else {
        return Err("must hold a JSON object".to_owned());
    };
    let separator = &config.nested_separator;
    let (grouped, single) = if config.multi_valued {
        top.into_iter().partition(|(_, value)| value.is_object())
    } else {
        (Map::new(), top)
    };
    let mut secrets = HashMap::new();
    for (name, secret) in flatten(Value::Object(single), separator)? {
        secrets.insert(name.clone(), HashMap::from([(name, secret)]));
    }
    for (name, group) in grouped {
        let entries = flatten(group, separator)?;
        if secrets.insert(name.clone(), entries).is_some() {
            return Err(format!("two values are called {name:?}"));
        }
    }
    Ok(secrets)
}

fn flatten(value: Value, separator: &str) -> Result<Entries, String> {
    let mut found = HashMap::new();
    visit(None, value, separator, &mut found)?;
    Ok(found)
}

fn visit(path: Option<&str>, value: Value, separator: &str, found: &mut Entries) -> Result<(), String> {
    let below = |name: &str| match path {
        Some(path) => format!("{path}{separator}{name}"),
        None => name.to_owned(),
    };
    let text = match value {
        Value::Object(map) => {
            return map
                .into_iter()
                .try_for_each(|(name, value)| visit(Some(&below(&name)), value, separator, found));
        }
        Value::Array(items) => {
            let mut items = items.into_iter().enumerate();
            return items.try_for_each(|(index, item)| {
                visit(Some(&below(&index.to_string())), item, separator, found)
            });
        }
        Value::String(text) => text,
        other => other.to_string(),
    };
    let name = path.unwrap_or_default().to_owned();
    match found.insert(name.clone(), Secret::new(text)) {
        Some(_) => Err(format!("two values are called {name:?}")),
        None => Ok(()),
    }
}

fn expose(entries: &Entries) -> HashMap<String, String> {
    entries
        .iter()
        .map(|(name, secret)| (name.clone(), secret.expose().clone()))
        .collect()
}

#[async_trait]
impl Component for LocalFile {}

#[async_trait]
impl SecretStore for LocalFile {
    async fn get(&self, name: &str, _: &Metadata) -> Result<HashMap<String, String>> {
        match self.secrets.get(name) {
            Some(entries) => Ok(expose(entries)),
            None => Err(Error::new(
                ErrorKind::NotFound,
                format!("secret {name} not found"),
            )),
        }
    }

    async fn bulk_get(&self, _: &Metadata) -> Result<HashMap<String, HashMap<String, String>>> {
        let secrets = self.secrets.iter();
        Ok(secrets
            .map(|(name, entries)| (name.clone(), expose(entries)))
            .collect())
    }
}

#[cfg(test)]
mod tests;
