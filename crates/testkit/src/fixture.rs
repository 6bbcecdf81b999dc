//! What each component type needs to be opened in a test, and what is known of it beforehand.

use std::{collections::HashMap, path::PathBuf};

use layotto_core::{Metadata, Settings};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    HttpService, programs,
    server::{self, Server, apollo::StandIn, kafka, postgres, redis, zookeeper},
};

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
    /// The product behind it, with its version.
    pub product: Option<String>,
    /// Why passing says less than it seems to.
    pub unproven: Option<&'static str>,
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
            product: None,
            unproven: None,
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
    /// The servers that it talks to, for types that need some.
    pub servers: Vec<Server>,
    /// The stand-in for Apollo that it talks to.
    pub apollo: Option<StandIn>,
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
            servers: Vec::new(),
            apollo: None,
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
        ("config_store", "apollo") => apollo(&mut fixture).await,
        ("config_store", "etcd") => etcd(&mut fixture, "address").await?,
        (_, "etcd") => etcd(&mut fixture, "endpoints").await?,
        (_, "postgresql") => postgresql(&mut fixture).await?,
        (_, "redis") => redis_server(&mut fixture).await?,
        ("lock", "redis_cluster") => redis_servers(&mut fixture).await?,
        (_, "zookeeper") => zookeeper(&mut fixture, section).await?,
        ("pub_subs", "kafka") => kafka_broker(&mut fixture).await?,
        _ => return Err(format!("no fixture for {section} of type {type_name}")),
    }
    Ok(fixture)
}

/// A product with its version, as its program tells it.
fn product(name: &str, program: &str, arguments: &[&str]) -> Option<String> {
    let version = server::version(program, arguments).expect("a program tells its version");
    Some(format!("{name} {version}"))
}

async fn postgresql(fixture: &mut Fixture) -> Result<(), String> {
    programs::find(postgres::PROGRAM)?;
    let server = postgres::start(&[]).await.expect("PostgreSQL starts");
    fixture.settings.set("connectionString", postgres::url(&server));
    fixture.servers.push(server);
    fixture.facts.durable = true;
    fixture.facts.product = product("PostgreSQL", postgres::PROGRAM, &["--version"]);
    let reason = "a text of PostgreSQL holds no U+0000";
    fixture.facts.quirks = vec![("a_nul_in_a_key_is_kept", reason)];
    Ok(())
}

async fn zookeeper(fixture: &mut Fixture, section: &str) -> Result<(), String> {
    programs::find(zookeeper::PROGRAM)?;
    let server = zookeeper::start().await.expect("ZooKeeper starts");
    let address = server.address().to_string();
    if section == "state" {
        fixture.settings.set("servers", address);
        fixture.settings.set("sessionTimeout", "5s");
        fixture.settings.set("keyPrefixPath", "/a/b");
        fixture.settings.set("maxConnBufferSize", zookeeper::MAX_REQUEST);
    } else {
        fixture.settings.set("zookeeperHosts", address);
    }
    fixture.servers.push(server);
    fixture.facts.durable = true;
    fixture.facts.product = product("ZooKeeper", zookeeper::PROGRAM, &[zookeeper::VERSION]);
    Ok(())
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

async fn etcd(fixture: &mut Fixture, nodes: &str) -> Result<(), String> {
    programs::find(server::etcd::PROGRAM)?;
    let server = server::etcd::start(&[]).await.expect("etcd starts");
    fixture.settings.set(nodes, server.address().to_string());
    fixture.servers.push(server);
    fixture.facts.durable = true;
    fixture.facts.product = product("etcd", server::etcd::PROGRAM, &["--version"]);
    Ok(())
}

async fn apollo(fixture: &mut Fixture) {
    let stand_in = StandIn::start().await;
    for (key, value) in [
        ("address", stand_in.url()),
        ("app_id", "app1".to_owned()),
        ("open_api_address", stand_in.url()),
        ("open_api_token", stand_in.token().to_owned()),
        ("open_api_user", "apollo".to_owned()),
    ] {
        fixture.settings.set(key, value);
    }
    fixture.apollo = Some(stand_in);
    fixture.facts.durable = true;
    fixture.facts.product = Some("Apollo".to_owned());
    fixture.facts.unproven = Some("passes against a stand-in, unproven against the product");
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

async fn redis_server(fixture: &mut Fixture) -> Result<(), String> {
    programs::find(redis::PROGRAM)?;
    let server = redis::start(&[]).await.expect("redis-server starts");
    fixture.settings.set("redisHost", server.address().to_string());
    fixture.servers.push(server);
    fixture.facts.durable = true;
    fixture.facts.product = product("Redis", redis::PROGRAM, &["--version"]);
    Ok(())
}

async fn redis_servers(fixture: &mut Fixture) -> Result<(), String> {
    programs::find(redis::PROGRAM)?;
    for _ in 0..3 {
        let server = redis::start(&[]).await.expect("redis-server starts");
        fixture.servers.push(server);
    }
    let addresses = fixture.servers.iter().map(|server| server.address().to_string());
    let addresses = addresses.collect::<Vec<_>>().join(",");
    fixture.settings.set("redisHosts", addresses);
    fixture.facts.durable = true;
    fixture.facts.product = product("Redis", redis::PROGRAM, &["--version"]);
    Ok(())
}

async fn kafka_broker(fixture: &mut Fixture) -> Result<(), String> {
    programs::find(kafka::PROGRAM)?;
    let server = kafka::start(4).await.expect("Kafka starts");
    fixture.settings.set("brokers", server.address().to_string());
    fixture.servers.push(server);
    fixture.facts.durable = true;
    fixture.facts.product = product("Kafka", kafka::PROGRAM, &kafka::VERSION);
    fixture.facts.quirks = vec![(
        "a_message_that_waits_holds_up_no_other",
        "a partition waits for its first message: that is how its order is kept",
    )];
    Ok(())
}
