use layotto_core::Settings;

use super::*;

const FILE: &str = r#"{
  "db-user-pass": {"username": "devuser", "password": "redis123"},
  "redisPassword": "redis123",
  "n": 12, "f": 1.5, "b": true, "nil": null, "arr": ["x", {"y": "z"}],
  "deep": {"a": {"b": "c"}}, "empty": "", "eo": {}
}"#;

async fn open(content: &str, settings: &[(&str, &str)]) -> Result<LocalFile> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secrets.json");
    std::fs::write(&path, content).unwrap();
    let mut all: Settings = settings.iter().copied().collect();
    all.set("secretsFile", path.to_str().unwrap());
    let config = all.parse::<LocalFileConfig>().unwrap().config;
    LocalFile::open(config, Context::standalone("demo", dir.path())).await
}

async fn one(store: &LocalFile, name: &str) -> Result<String> {
    let mut entries = store.get(name, &Metadata::new()).await?;
    assert_eq!(entries.len(), 1);
    Ok(entries.remove(name).unwrap())
}

#[tokio::test]
async fn nested_values_are_found_by_path() {
    let store = open(FILE, &[]).await.unwrap();
    for (name, value) in [
        ("redisPassword", "redis123"),
        ("db-user-pass:username", "devuser"),
        ("deep:a:b", "c"),
        ("arr:0", "x"),
        ("arr:1:y", "z"),
        ("empty", ""),
    ] {
        assert_eq!(one(&store, name).await.unwrap(), value, "{name}");
    }
    assert_eq!(store.bulk_get(&Metadata::new()).await.unwrap().len(), 11);
}

#[tokio::test]
async fn values_that_are_no_texts_are_written_as_json() {
    let store = open(FILE, &[]).await.unwrap();
    for (name, value) in [("n", "12"), ("f", "1.5"), ("b", "true"), ("nil", "null")] {
        assert_eq!(one(&store, name).await.unwrap(), value);
    }
}

#[tokio::test]
async fn an_object_alone_is_no_secret() {
    let store = open(FILE, &[]).await.unwrap();
    for name in ["db-user-pass", "deep:a", "eo", ""] {
        let error = one(&store, name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.message(), format!("secret {name} not found"));
    }
}

#[tokio::test]
async fn the_separator_can_be_chosen() {
    let store = open(FILE, &[("nestedSeparator", ".")]).await.unwrap();
    assert_eq!(one(&store, "deep.a.b").await.unwrap(), "c");
    assert!(one(&store, "deep:a:b").await.is_err());
}

#[tokio::test]
async fn with_several_values_an_object_at_the_top_is_one_secret() {
    let store = open(FILE, &[("multiValued", "true")]).await.unwrap();
    let pair = store.get("db-user-pass", &Metadata::new()).await.unwrap();
    assert_eq!(pair["username"], "devuser");
    assert_eq!(pair["password"], "redis123");
    let deep = store.get("deep", &Metadata::new()).await.unwrap();
    assert_eq!(deep, HashMap::from([("a:b".to_owned(), "c".to_owned())]));
    assert_eq!(one(&store, "redisPassword").await.unwrap(), "redis123");
}

#[tokio::test]
async fn a_file_that_cannot_serve_is_refused_and_named() {
    for content in [
        "",
        "[]",
        "\"canary\"",
        r#"{"a": "canary""#,
        r#"{"a": {"b": "canary"}, "a:b": "canary"}"#,
    ] {
        let error = open(content, &[]).await.unwrap_err().to_string();
        assert!(
            error.contains("secrets.json") && !error.contains("canary"),
            "{error}"
        );
    }
    let cx = Context::standalone("demo", ".");
    let config = LocalFileConfig {
        secrets_file: "/no/such.json".into(),
        ..LocalFileConfig::default()
    };
    let error = LocalFile::open(config, cx.clone()).await.unwrap_err();
    assert!(error.message().contains("/no/such.json"), "{error}");
    let error = LocalFile::open(LocalFileConfig::default(), cx).await.unwrap_err();
    assert_eq!(error.message(), "missing local secrets file in metadata");
}

#[tokio::test]
async fn no_secret_is_printed() {
    let store = open(FILE, &[]).await.unwrap();
    assert!(!format!("{store:?}").contains("redis123"));
}
