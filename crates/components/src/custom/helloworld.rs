//! Two components of the custom kind `helloworld`.

use async_trait::async_trait;
use layotto_core::{Component, Context, Open, Result, custom::Custom};
use schemars::JsonSchema;
use serde::Deserialize;

/// What every component of the kind can do besides being a component.
pub trait HelloWorld: Custom {
    /// Says something to `name`.
    fn say(&self, name: &str) -> String;
}

/// Says hello. A model for custom components of one's own.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InMemoryConfig {}

/// The component `in-memory`.
#[derive(Debug)]
pub struct InMemory;

impl Open for InMemory {
    const TYPE: &'static str = "in-memory";
    type Config = InMemoryConfig;

    async fn open(_: InMemoryConfig, _: Context) -> Result<Self> {
        Ok(Self)
    }
}

#[async_trait]
impl Component for InMemory {}

impl Custom for InMemory {}

impl HelloWorld for InMemory {
    fn say(&self, name: &str) -> String {
        format!("Hello, {name}")
    }
}

/// Says goodbye. A second type of the same custom kind.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GoodbyeConfig {}

/// The component `goodbye`.
#[derive(Debug)]
pub struct Goodbye;

impl Open for Goodbye {
    const TYPE: &'static str = "goodbye";
    type Config = GoodbyeConfig;

    async fn open(_: GoodbyeConfig, _: Context) -> Result<Self> {
        Ok(Self)
    }
}

#[async_trait]
impl Component for Goodbye {}

impl Custom for Goodbye {}

impl HelloWorld for Goodbye {
    fn say(&self, name: &str) -> String {
        format!("Goodbye, {name}")
    }
}

#[cfg(test)]
mod tests {
    use layotto_core::{Registry, Settings};

    use super::*;

    #[tokio::test]
    async fn both_types_open_through_the_registry() {
        let mut registry = Registry::default();
        crate::register(&mut registry);
        let kind = registry.custom.get("helloworld").unwrap();
        assert_eq!(kind.names(), ["goodbye", "in-memory"]);
        for name in kind.names() {
            let cx = Context::standalone(name, ".");
            let component = kind
                .get(name)
                .unwrap()
                .open(&Settings::default(), cx)
                .await
                .unwrap();
            assert!(component.ping().await.is_ok());
        }
    }

    #[test]
    fn each_says_its_own() {
        assert_eq!(InMemory.say("x"), "Hello, x");
        assert_eq!(Goodbye.say("x"), "Goodbye, x");
    }
}
