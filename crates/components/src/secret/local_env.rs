//! Secrets from the environment of the process.

use std::{collections::HashMap, env};

use async_trait::async_trait;
use layotto_core::{Component, Context, Metadata, Open, Result, secret::SecretStore};
use schemars::JsonSchema;
use serde::Deserialize;

/// Variables that protect the process itself; an application must not read them through it.
const OWN: [&str; 2] = ["LAYOTTO_ADMIN_TOKEN", "LAYOTTO_API_TOKEN"];

/// Serves the environment variables of the process as secrets. For development, and for platforms
/// that hand secrets to a process that way: every application served can read every variable.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LocalEnvConfig {}

/// The component `local.env`; it reads the environment anew at every call.
#[derive(Debug)]
pub struct LocalEnv;

impl Open for LocalEnv {
    const TYPE: &'static str = "local.env";
    type Config = LocalEnvConfig;

    async fn open(_: LocalEnvConfig, _: Context) -> Result<Self> {
        Ok(Self)
    }
}

#[async_trait]
impl Component for LocalEnv {}

#[async_trait]
impl SecretStore for LocalEnv {
    /// The variable `name`, empty where there is none.
    async fn get(&self, name: &str, _: &Metadata) -> Result<HashMap<String, String>> {
        // `var_os` panics on such names.
        let readable = !name.is_empty() && !name.contains(['=', '\0']) && !OWN.contains(&name);
        let value = readable.then(|| env::var_os(name)).flatten().unwrap_or_default();
        Ok(HashMap::from([(
            name.to_owned(),
            value.to_string_lossy().into_owned(),
        )]))
    }

    async fn bulk_get(&self, _: &Metadata) -> Result<HashMap<String, HashMap<String, String>>> {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Ok(env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .filter(|(name, _)| !OWN.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), HashMap::from([(name, value)])))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Variables that cargo sets for every test, since a test must not change the environment.
    const SET: &str = "CARGO_PKG_NAME";

    #[tokio::test]
    async fn a_variable_is_one_secret_with_one_entry_of_its_name() {
        let expected = HashMap::from([(SET.to_owned(), env!("CARGO_PKG_NAME").to_owned())]);
        assert_eq!(LocalEnv.get(SET, &Metadata::new()).await.unwrap(), expected);
        let all = LocalEnv.bulk_get(&Metadata::new()).await.unwrap();
        assert_eq!(all[SET], expected);
        assert_eq!(
            all.len(),
            env::vars_os()
                .filter(|(name, _)| !OWN.iter().any(|own| name == own))
                .count()
        );
    }

    #[tokio::test]
    async fn an_unset_or_impossible_name_is_empty() {
        for name in ["LAYOTTO_NO_SUCH_VARIABLE", "", "a=b", "a\0b", OWN[0], OWN[1]] {
            let found = LocalEnv.get(name, &Metadata::new()).await.unwrap();
            assert_eq!(found, HashMap::from([(name.to_owned(), String::new())]));
        }
    }
}
