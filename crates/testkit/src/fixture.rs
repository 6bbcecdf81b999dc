//! What each component type needs to be opened in a test, and what is known of it beforehand.

use std::{collections::HashMap, path::PathBuf};

use layotto_core::{Metadata, Settings};
use serde_json::json;
use tempfile::TempDir;

use crate::HttpService;

/// What no trait tells of a component type.
#[derive(Debug, Clone)]
pub struct Facts {
    /// It keeps its data over a restart of the process.
    pub durable: bool,
    /// Its locks come with fencing tokens.
    pub fenced: bool,
    /// Its ids of a key have no gaps of their own, and a new key starts near its lower bound.
    pub counts: bool,
    /// What its secrets are, or some of them.
    pub secrets: HashMap<String, HashMap<String, String>>,
    /// A secret that does not exist is an error; else its value is an empty text.
    pub knows_missing_secrets: bool,
    /// The folder that names of files are relative to, where directories must be made beforehand.
    pub files_root: Option<PathBuf>,
    /// The metadata with which files are put.
    pub put_metadata: Metadata,
    /// What it greets with.
    pub greeting: String,
    /// Assertions that the product behind it cannot meet, with the reason.
    pub quirks: Vec<(&'static str, &'static str)>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            durable: false,
            fenced: true,
            counts: true,
            secrets: HashMap::new(),
            knows_missing_secrets: true,
            files_root: None,
            put_metadata: Metadata::new(),
            greeting: String::new(),
            quirks: Vec::new(),
        }
    }
}

/// What a component is opened with.
#[derive(Debug)]
pub struct Fixture {
    /// Its settings.
    pub settings: Settings,
    /// Where it keeps its data; gone with the fixture.
    pub dir: TempDir,
    /// The HTTP service that it talks to, for types that need one.
    pub http: Option<HttpService>,
    /// What is known of it.
    pub facts: Facts,
}

impl Fixture {
    /// A fixture without settings.
    pub fn plain() -> Result<Self, String> {
        let dir = TempDir::new().map_err(|error| format!("no temporary directory: {error}"))?;
        Ok(Self {
            settings: Settings::default(),
            dir,
            http: None,
            facts: Facts::default(),
        })
    }
}

/// The fixture of a type: `section` is the kind's section of the configuration file. The error is
/// the reason why the type cannot be tested here.
pub async fn of(section: &str, type_name: &str) -> Result<Fixture, String> {
    let mut fixture = Fixture::plain()?;
    match (section, type_name) {
        (_, "in-memory") | ("helloworld", "goodbye") => {}
        (_, "embedded") => fixture.facts.durable = true,
        ("hellos", "helloworld") => {
            fixture.facts.greeting = "greeting".to_owned();
            fixture.settings.set("hello", "greeting");
        }
        ("file", "local") => local_files(&mut fixture),
        ("secret_store", "local.file") => secrets_file(&mut fixture)?,
        ("secret_store", "local.env") => environment(&mut fixture),
        ("bindings", "http") => http_binding(&mut fixture).await,
        ("rpcs", "mosn") => http_invoker(&mut fixture).await,
        _ => return Err(format!("no fixture for {section} of type {type_name}")),
    }
    Ok(fixture)
}

fn local_files(fixture: &mut Fixture) {
    let root = fixture.dir.path().join("files");
    fixture.settings.set("root", root.to_string_lossy().into_owned());
    fixture.facts.files_root = Some(root);
    fixture.facts.durable = true;
    // Mode 0644; O_RDWR, O_CREAT and O_TRUNC, as Linux numbers them.
    let metadata = [("FileMode", "420"), ("FileFlag", "578")];
    fixture.facts.put_metadata = metadata
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
}

fn secrets_file(fixture: &mut Fixture) -> Result<(), String> {
    let path = fixture.dir.path().join("secrets.json");
    let content = json!({"plain": "p4ss-v", "nested": {"user": "us3r-v", "deep": {"key": "k3y-v"}}, "empty": "", "ünï": "✓"});
    std::fs::write(&path, content.to_string()).map_err(|error| format!("writing the secrets: {error}"))?;
    fixture
        .settings
        .set("secretsFile", path.to_string_lossy().into_owned());
    let known = [
        ("plain", "p4ss-v"),
        ("nested:user", "us3r-v"),
        ("nested:deep:key", "k3y-v"),
        ("empty", ""),
        ("ünï", "✓"),
    ];
    fixture.facts.secrets = known.map(|(name, value)| single(name, value)).into();
    Ok(())
}

fn environment(fixture: &mut Fixture) {
    let known = ["PATH", "CARGO_MANIFEST_DIR", "HOME"].into_iter();
    let known = known.filter_map(|name| Some(single(name, &std::env::var(name).ok()?)));
    fixture.facts.secrets = known.collect();
    fixture.facts.knows_missing_secrets = false;
}

fn single(name: &str, value: &str) -> (String, HashMap<String, String>) {
    let name = name.to_owned();
    (name.clone(), HashMap::from([(name, value.to_owned())]))
}

async fn http_binding(fixture: &mut Fixture) {
    let service = HttpService::start().await;
    fixture.settings.set("url", service.url());
    fixture.http = Some(service);
}

async fn http_invoker(fixture: &mut Fixture) {
    let service = HttpService::start().await;
    let channel = json!([{"protocol": "http", "listener": service.addr.to_string(), "size": 8}]);
    fixture.settings.set("channel", channel);
    fixture.http = Some(service);
}
