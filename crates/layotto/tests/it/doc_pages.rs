//! The pages of back ends are true: the configuration of each, with the addresses of servers that
//! run, starts a sidecar that gets ready and serves the building block.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use layotto_proto::runtime::v1::{
    GetConfigurationRequest, GetNextIdRequest, GetStateRequest, PublishEventRequest, SaveStateRequest,
    StateItem, TryLockRequest, UnlockRequest,
};
use layotto_testkit::{
    programs,
    server::{Server, apollo::StandIn, etcd, kafka, postgres, redis, zookeeper},
};
use serde_json::{Value, json};

use crate::{
    golden::http,
    lifecycle::client,
    sidecar::{PATIENCE, Sidecar, config, free_port, say, skipped},
};

/// The ports of the standalone configuration, which the pages use: the API, the actuator, metrics
/// and administration.
const OURS: [&str; 4] = ["34904", "34999", "34903", "34901"];

/// One page.
struct Page {
    section: String,
    type_name: String,
    text: String,
}

fn pages() -> Result<Vec<Page>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/components");
    let mut pages = Vec::new();
    for folder in entries(&root)?.into_iter().filter(|path| path.is_dir()) {
        for file in entries(&folder)? {
            if file.extension().is_some_and(|extension| extension == "md") {
                pages.push(Page {
                    section: name(&folder),
                    type_name: name(&file),
                    text: fs::read_to_string(&file)?,
                });
            }
        }
    }
    Ok(pages)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<_> = read.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The first block of JSON.
fn configuration(page: &str) -> Result<&str> {
    let (_, rest) = page.split_once("```json\n").context("no ```json block")?;
    let (block, _) = rest.split_once("\n```").context("the block has no end")?;
    Ok(block)
}

/// The program that a type needs.
fn program(type_name: &str) -> Option<&'static str> {
    Some(match type_name {
        "redis" | "redis_cluster" => redis::PROGRAM,
        "etcd" => etcd::PROGRAM,
        "zookeeper" => zookeeper::PROGRAM,
        "postgresql" => postgres::PROGRAM,
        "kafka" => kafka::PROGRAM,
        _ => return None,
    })
}

/// What runs while a page is tried.
#[derive(Default)]
struct Running {
    servers: Vec<Server>,
    apollo: Option<StandIn>,
}

impl Running {
    async fn start(type_name: &str) -> Result<Self> {
        let servers = match type_name {
            "redis" => vec![redis::start_durable().await?],
            "redis_cluster" => vec![
                redis::start(&[]).await?,
                redis::start(&[]).await?,
                redis::start(&[]).await?,
            ],
            "etcd" => vec![etcd::start(&[]).await?],
            "zookeeper" => vec![zookeeper::start().await?],
            "postgresql" => vec![postgres::start(&[]).await?],
            "kafka" => vec![kafka::start(1).await?],
            "apollo" | "embedded" | "in-memory" => Vec::new(),
            other => bail!("no server for the type {other}"),
        };
        let apollo = match type_name {
            "apollo" => Some(StandIn::start().await),
            _ => None,
        };
        Ok(Self { servers, apollo })
    }

    fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let stand_in = self.apollo.iter();
        let stand_in = stand_in.map(|apollo| Ok(apollo.url().trim_start_matches("http://").parse()?));
        let servers = self.servers.iter().map(|server| Ok(server.address()));
        servers.chain(stand_in).collect()
    }
}

/// `text` with ports of our own that are free, and with the addresses of the product replaced in
/// the order of their first use; also the ports of API and actuator.
fn localized(text: &str, servers: &[SocketAddr]) -> Result<(String, u16, u16)> {
    let mut text = text.to_owned();
    let mut ports = Vec::new();
    for port in OURS {
        let free = free_port();
        text = text.replace(port, &free.to_string());
        ports.push(free);
    }
    let own: Vec<_> = ports.iter().map(u16::to_string).collect();
    let mut known: Vec<String> = Vec::new();
    for host in ["127.0.0.1:", "localhost:"] {
        for (_, rest) in text
            .match_indices(host)
            .map(|(at, _)| text.split_at(at + host.len()))
        {
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            let address = format!("{host}{port}");
            if !own.contains(&port) && !known.contains(&address) {
                known.push(address);
            }
        }
    }
    ensure!(
        servers.is_empty() == known.is_empty(),
        "addresses of the product: {known:?}, servers: {servers:?}"
    );
    for (number, address) in known.iter().enumerate() {
        let server = servers.get(number % servers.len()).context("no server")?;
        text = text.replace(address.as_str(), &server.to_string());
    }
    Ok((text, ports[0], ports[1]))
}

/// `block` with the listener that says whether the sidecar is ready, where it has none.
fn with_actuator(block: &str) -> Result<String> {
    if block.contains("actuator_filter") {
        return Ok(block.to_owned());
    }
    let mut block: Value = serde_json::from_str(block)?;
    let listeners = block["servers"][0]["listeners"].as_array_mut();
    let usual = config(34904, 34999, &json!({}));
    listeners
        .context("no listeners")?
        .push(usual["servers"][0]["listeners"][1].clone());
    Ok(block.to_string())
}

async fn is_true(page: &Page) -> Result<()> {
    let block = configuration(&page.text)?;
    let running = Running::start(&page.type_name).await?;
    let (config, port, actuator) = localized(&with_actuator(block)?, &running.addresses()?)?;
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("config.json"), &config)?;
    let mut process = Sidecar::start(folder.path(), ["start", "-c", "config.json"], &[]);
    ensure!(process.wait_for_port(port), "{}", process.output());
    let ready = async {
        loop {
            let readiness = http::try_get(actuator, "/actuator/health/readiness").await?;
            if readiness["status"] == 200 {
                return anyhow::Ok(());
            }
            tokio::task::yield_now().await;
        }
    };
    let ready = tokio::time::timeout(PATIENCE, ready).await;
    ready.with_context(|| format!("does not get ready: {}", process.output()))??;
    let info = http::try_get(actuator, "/actuator/info").await?;
    let store = component(&info["body_json"], page)?;
    let called = tokio::time::timeout(PATIENCE, call(port, &page.section, store)).await;
    called.with_context(|| format!("no answer: {}", process.output()))?
}

/// The name of the component that the page is about.
fn component(info: &Value, page: &Page) -> Result<String> {
    let listed = info["components"].as_array().context("no components")?;
    let found = listed
        .iter()
        .find(|one| one["kind"] == page.section && one["type"] == page.type_name);
    let found = found.with_context(|| format!("not configured: {listed:?}"))?;
    Ok(found["name"].as_str().context("no name")?.to_owned())
}

/// One real use of a building block.
async fn call(port: u16, section: &str, store: String) -> Result<()> {
    let mut client = client(port).await;
    let store_name = store.clone();
    match section {
        "state" => {
            let item = StateItem {
                key: "page".into(),
                value: "true".into(),
                ..Default::default()
            };
            client
                .save_state(SaveStateRequest {
                    store_name,
                    states: vec![item],
                })
                .await?;
            let request = GetStateRequest {
                store_name: store,
                key: "page".into(),
                ..Default::default()
            };
            let found = client.get_state(request).await?.into_inner();
            ensure!(found.data == "true", "{found:?}");
        }
        "lock" => {
            let (resource_id, lock_owner) = ("page".to_owned(), "reader".to_owned());
            let request = TryLockRequest {
                store_name,
                resource_id: resource_id.clone(),
                lock_owner: lock_owner.clone(),
                expire: 10,
            };
            ensure!(
                client.try_lock(request).await?.into_inner().success,
                "not granted"
            );
            let request = UnlockRequest {
                store_name: store,
                resource_id,
                lock_owner,
            };
            let status = client.unlock(request).await?.into_inner().status;
            ensure!(status == 0, "unlock: {status}");
        }
        "sequencer" => {
            let request = GetNextIdRequest {
                store_name,
                key: "page".into(),
                ..Default::default()
            };
            let id = client.get_next_id(request).await?.into_inner().next_id;
            ensure!(id > 0, "{id}");
        }
        "pub_subs" => {
            let request = PublishEventRequest {
                pubsub_name: store,
                topic: "page".into(),
                data: "true".into(),
                ..Default::default()
            };
            client.publish_event(request).await?;
        }
        "config_store" => {
            let request = GetConfigurationRequest {
                store_name,
                app_id: "page".into(),
                keys: vec!["page".into()],
                ..Default::default()
            };
            client.get_configuration(request).await?;
        }
        other => bail!("no call for the section {other}"),
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_of_every_page_works() {
    let pages = pages().unwrap();
    assert!(!pages.is_empty());
    let mut wrong = Vec::new();
    for page in &pages {
        let shown = format!("docs/components/{}/{}.md", page.section, page.type_name);
        // Also where the program is missing, the page must have a block.
        if let Err(error) = configuration(&page.text) {
            wrong.push(format!("{shown}: {error:#}"));
            continue;
        }
        if let Some(Err(reason)) = program(&page.type_name).map(programs::find) {
            skipped(format!("doc_pages::{shown}"), &reason);
            continue;
        }
        match is_true(page).await {
            Ok(()) => say(format_args!("{shown} is true")),
            Err(error) => wrong.push(format!("{shown}: {error:#}")),
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn addresses_are_replaced_in_the_order_of_their_use() {
    let text = r#"{"a": "127.0.0.1:34904", "b": "127.0.0.1:7001,127.0.0.1:7000", "c": "localhost:7001", "d": 34999}"#;
    let servers = [
        SocketAddr::from(([127, 0, 0, 1], 1)),
        SocketAddr::from(([127, 0, 0, 1], 2)),
    ];
    let (text, port, actuator) = localized(text, &servers).unwrap();
    let wanted = format!(
        r#"{{"a": "127.0.0.1:{port}", "b": "127.0.0.1:1,127.0.0.1:2", "c": "127.0.0.1:1", "d": {actuator}}}"#
    );
    assert_eq!(text, wanted);
    assert!(localized(&text, &[]).is_err());
}

#[test]
fn a_page_without_a_block_is_found() {
    assert!(configuration("# Redis\n```sh\nx\n```\n").is_err());
    assert_eq!(configuration("a\n```json\n{}\n```\nb").unwrap(), "{}");
}
