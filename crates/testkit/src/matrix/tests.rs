use layotto_core::{Context, Error, Open, hello::Hello};

use super::*;
use crate::conformance::{Verified, always, assertions, hello};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Config {
    hello: Option<String>,
}

struct Greeter(String);

impl Component for Greeter {}

#[async_trait::async_trait]
impl Hello for Greeter {
    async fn hello(&self, name: &str) -> layotto_core::Result<String> {
        if name == "refused" {
            return Err(Error::invalid("refused"));
        }
        let separator = if name.is_empty() { "" } else { ", " };
        Ok([&self.0, separator, name].concat())
    }
}

impl Open for Greeter {
    const TYPE: &'static str = "helloworld";
    type Config = Config;

    async fn open(config: Config, _: Context) -> layotto_core::Result<Self> {
        Ok(Self(config.hello.unwrap_or_default()))
    }
}

/// A type without a fixture.
struct Other(Greeter);

impl Component for Other {}

#[async_trait::async_trait]
impl Hello for Other {
    async fn hello(&self, name: &str) -> layotto_core::Result<String> {
        self.0.hello(name).await
    }
}

impl Open for Other {
    const TYPE: &'static str = "other";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> layotto_core::Result<Self> {
        Greeter::open(config, cx).await.map(Self)
    }
}

fn registry() -> Arc<Registry> {
    let mut registry = Registry::default();
    registry.hello.add(|greeter: Greeter| Arc::new(greeter));
    registry.hello.add(|other: Other| Arc::new(other));
    Arc::new(registry)
}

async fn fails(greeter: Subject<dyn Hello>) -> Verified {
    greeter
        .hello("refused")
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

async fn panics(_: Subject<dyn Hello>) -> Verified {
    panic!("on purpose");
}

#[tokio::test]
async fn passes_and_ignored_types_show() {
    let matrix = run(&registry(), |registry| &registry.hello, &hello::assertions()).await;
    let text = matrix.to_string();
    assert_eq!(matrix.failures(), [], "{text}");
    let passes: Vec<_> = matrix
        .columns
        .iter()
        .map(|column| (column.type_name, column.ran, column.passes()))
        .collect();
    let applicable = hello::assertions().len() - 1;
    assert_eq!(
        passes,
        [("helloworld", true, applicable), ("other", false, 0)],
        "{text}"
    );
    assert!(text.contains("no fixture for hellos of type other"), "{text}");
    assert!(
        text.contains("cannot change its settings while it runs"),
        "{text}"
    );
}

#[tokio::test]
async fn failures_and_panics_show() {
    let broken = assertions! { always => [fails, panics] };
    let matrix = run(&registry(), |registry| &registry.hello, &broken).await;
    let failures = matrix.failures();
    assert_eq!(failures[0], ("helloworld", "fails", "refused"));
    assert_eq!((failures[1].1, failures.len()), ("panics", 2));
    assert!(matrix.to_string().contains("FAIL helloworld fails: refused"));
}
