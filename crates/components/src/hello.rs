//! Greetings.

use std::sync::{PoisonError, RwLock};

use async_trait::async_trait;
use layotto_core::{Component, Context, Open, Result, Settings, hello::Hello};
use schemars::JsonSchema;
use serde::Deserialize;

/// Greets. Use it to see that an installation works, and to try changing settings at run time.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HelloWorldConfig {
    /// The greeting, put before the name. Empty by default. Can be changed at run time.
    pub hello: String,
}

/// The component `helloworld`.
#[derive(Debug)]
pub struct HelloWorld {
    greeting: RwLock<String>,
}

impl Open for HelloWorld {
    const TYPE: &'static str = "helloworld";
    type Config = HelloWorldConfig;

    async fn open(config: HelloWorldConfig, _: Context) -> Result<Self> {
        Ok(Self {
            greeting: RwLock::new(config.hello),
        })
    }
}

#[async_trait]
impl Component for HelloWorld {
    fn is_dynamic(&self) -> bool {
        true
    }

    /// Replaces the greeting when the settings name one, be it empty.
    async fn apply(&self, settings: Settings) -> Result<()> {
        if let Some(greeting) = settings.text("hello") {
            greeting.clone_into(&mut self.greeting.write().unwrap_or_else(PoisonError::into_inner));
        }
        Ok(())
    }
}

#[async_trait]
impl Hello for HelloWorld {
    async fn hello(&self, name: &str) -> Result<String> {
        let greeting = self.greeting.read().unwrap_or_else(PoisonError::into_inner);
        if name.is_empty() {
            return Ok(greeting.clone());
        }
        Ok(format!("{greeting}, {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(hello: &str) -> HelloWorld {
        let config = HelloWorldConfig { hello: hello.into() };
        HelloWorld::open(config, Context::standalone("demo", "."))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn the_name_follows_the_greeting_unless_it_is_empty() {
        let component = open("greeting").await;
        assert_eq!(component.hello("layotto").await.unwrap(), "greeting, layotto");
        assert_eq!(component.hello("").await.unwrap(), "greeting");
        assert_eq!(open("").await.hello("x").await.unwrap(), ", x");
    }

    #[tokio::test]
    async fn applied_settings_replace_the_greeting() {
        let component = open("greeting").await;
        assert!(component.is_dynamic());
        for (key, value, expected) in [
            ("hello", "goodbye", "goodbye, x"),
            ("other", "ignored", "goodbye, x"),
            ("hello", "", ", x"),
        ] {
            let settings = serde_json::Map::from_iter([(key.to_owned(), value.into())]);
            component.apply(Settings::verbatim(settings)).await.unwrap();
            assert_eq!(component.hello("x").await.unwrap(), expected);
        }
    }
}
