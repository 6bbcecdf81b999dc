use layotto_core::{
    Open,
    health::{Health, Status},
    hello::Hello,
};

use super::*;

/// Never opens.
struct Hanging;

/// Is wrongly configured.
struct Wrong;

#[async_trait]
impl Component for Hanging {}

#[async_trait]
impl Component for Wrong {}

#[async_trait]
impl Hello for Hanging {
    async fn hello(&self, _: &str) -> Result<String> {
        Ok(String::new())
    }
}

#[async_trait]
impl Hello for Wrong {
    async fn hello(&self, _: &str) -> Result<String> {
        Ok(String::new())
    }
}

impl Open for Hanging {
    const TYPE: &'static str = "hanging";
    type Config = BTreeMap<String, String>;

    async fn open(_: Self::Config, _: Context) -> Result<Self> {
        std::future::pending().await
    }
}

impl Open for Wrong {
    const TYPE: &'static str = "wrong";
    type Config = BTreeMap<String, String>;

    async fn open(_: Self::Config, _: Context) -> Result<Self> {
        Err(Error::invalid("no such thing").with_source("no such file"))
    }
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    layotto_components::register(&mut registry);
    registry.hello.add::<Hanging>(|hello| Arc::new(hello));
    registry.hello.add::<Wrong>(|hello| Arc::new(hello));
    registry
}

/// The components of a configuration with these sections.
async fn open(sections: &str, folder: &std::path::Path, parts: &Parts) -> Result<Opened> {
    let text = format!(
        r#"{{"servers": [{{"listeners": [{{"name": "l", "address": "127.0.0.1:0", "bind_port": true,
            "filter_chains": [{{"filters": [{{"type": "grpc", "config": {{"grpc_config": {{{sections}}}}}}}]}}]}}]}}]}}"#
    );
    let file = folder.join("config.json");
    std::fs::write(&file, text).unwrap();
    let loaded = crate::config::load(&file, &registry(), &|_| None).unwrap();
    let listener = loaded.config.server.listeners.into_iter().next().unwrap();
    let crate::config::Terminal::Grpc(grpc) = listener.terminal else {
        panic!("{:?}", listener.terminal)
    };
    let opening = Opening {
        config: &grpc.runtime,
        registry: Arc::new(registry()),
        parts,
        context: Context::standalone("", folder),
    };
    opening.open().await
}

#[tokio::test(start_paused = true)]
async fn a_component_that_hangs_hides_no_wrong_one() {
    let folder = tempfile::tempdir().unwrap();
    let parts = Parts::new(Health::default());
    let sections = r#""hellos": {"a": {"type": "hanging"}, "b": {"type": "wrong"}}"#;
    let error = open(sections, folder.path(), &parts)
        .await
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.to_string(), "hellos.b: no such thing: no such file");
}

#[tokio::test(start_paused = true)]
async fn a_component_that_hangs_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let parts = Parts::new(Health::default());
    let sections = r#""hellos": {"a": {"type": "hanging"}, "b": {"type": "helloworld", "hello": "hi"}}"#;
    let opened = open(sections, folder.path(), &parts).await.unwrap();
    assert!(opened.components.hello.get("b").unwrap().get().is_ok());
    assert!(opened.components.hello.get("a").unwrap().get().is_err());
}

#[tokio::test]
async fn a_secret_store_takes_a_secret_from_another() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner.json");
    std::fs::write(&inner, r#"{"k": "deep"}"#).unwrap();
    std::fs::write(
        folder.path().join("outer.json"),
        serde_json::json!({"path": inner}).to_string(),
    )
    .unwrap();
    let parts = Parts::new(Health::default());
    // In the order of names the one that needs the other comes first.
    let sections = format!(
        r#""secret_store": {{
            "a": {{"type": "local.file", "secret_ref": [
                {{"store_name": "b", "key": "path", "sub_key": "path", "inject_as": "secretsFile"}}]}},
            "b": {{"type": "local.file", "metadata": {{"secretsFile": {:?}}}}}}}"#,
        folder.path().join("outer.json")
    );
    let opened = open(&sections, folder.path(), &parts).await.unwrap();
    let store = opened.components.secret.get("a").unwrap().get().unwrap();
    let secret = store.get("k", &layotto_core::Metadata::new()).await.unwrap();
    assert_eq!(secret["k"], "deep");
}

#[tokio::test]
async fn components_over_one_connection_are_one_part_with_the_strictest_wish() {
    let folder = tempfile::tempdir().unwrap();
    let health = Health::default();
    let parts = Parts::new(health.clone());
    let sections = r#"
        "connections": {"c": {"type": "embedded", "metadata": {}}},
        "lock": {"l": {"metadata": {"useConnection": "c"}, "required": "no"}},
        "state": {"s": {"metadata": {"useConnection": "c"}, "required": "always"}}"#;
    let opened = open(sections, folder.path(), &parts).await.unwrap();
    let names: Vec<_> = health.readings().into_iter().map(|part| part.name).collect();
    assert_eq!(names, ["connections.c"]);
    opened.components.lock.get("l").unwrap().indicator.down("lost");
    assert_eq!(health.overall(), Status::Down);
}
