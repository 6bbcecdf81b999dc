//! A sidecar with functions, and a listener of the same process whose routes answer themselves.

use std::{net::SocketAddr, ops::Range, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use layotto_peers::{
    load::http1::{Client, request},
    process::free_address,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::modules::{Ask, KEY};
use crate::{cases::Options, load, process::Server, proxy::listens};

/// Longest wait for functions of the configuration: their modules are compiled first.
const TO_COMPILE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(20);
const STORE: &str = "state_demo";

/// The sidecar, on the first processor if nothing else is said.
pub struct Sidecar {
    /// Its process.
    pub server: Server,
    /// Where requests reach functions.
    pub functions: SocketAddr,
    /// Where a route answers at once.
    pub native: SocketAddr,
    /// Where functions are installed.
    pub admin: SocketAddr,
    /// For modules, too.
    pub folder: TempDir,
}

impl Sidecar {
    /// Starts the binary with these plug-ins; its native listener answers with as many bytes as `ask`
    /// gets of a function.
    pub async fn start(options: &Options, plugins: Value, ask: &Ask) -> Result<Self> {
        Self::start_in(tempfile::tempdir()?, 0..1, options, plugins, ask).await
    }

    /// The same without plug-ins, on these processors, with a thread for each.
    pub async fn start_on(processors: Range<usize>, options: &Options, ask: &Ask) -> Result<Self> {
        Self::start_in(tempfile::tempdir()?, processors, options, json!({}), ask).await
    }

    /// Ends the process and starts another, with what the first kept on disk.
    pub async fn again(self, options: &Options, plugins: Value, ask: &Ask) -> Result<Self> {
        let Self { server, folder, .. } = self;
        drop(server);
        Self::start_in(folder, 0..1, options, plugins, ask).await
    }

    async fn start_in(
        folder: TempDir,
        processors: Range<usize>,
        options: &Options,
        plugins: Value,
        ask: &Ask,
    ) -> Result<Self> {
        let [functions, native, admin, api] = [(); 4].map(|()| free_address());
        let file = folder.path().join("config.json");
        let mut config = configuration([functions, native, admin, api], &plugins, ask.answer.len());
        config["servers"][0]["processor"] = json!(processors.len());
        std::fs::write(&file, config.to_string())?;
        let mut command = Command::new(&options.binary);
        command.arg("start").arg("-c").arg(&file);
        command.arg("--data-dir").arg(folder.path().join("data"));
        let mut server = Server::start_on(processors, &mut command, functions.to_string())?;
        for address in [functions, native, admin, api] {
            listens(&mut server, address).await?;
        }
        let (key, size) = KEY;
        load::save(&api.to_string(), STORE, key, size).await?;
        Ok(Self {
            server,
            functions,
            native,
            admin,
            folder,
        })
    }

    /// Waits until the function called `id` answers as it should.
    pub async fn answers(&self, id: &str, ask: &Ask) -> Result<()> {
        let begun = std::time::Instant::now();
        let mut client = Client::connect(self.functions).await?;
        let request = self.request(id, ask);
        loop {
            let answer = client.ask(&request).await?;
            if answer.status == 200 {
                let body = String::from_utf8_lossy(answer.body);
                ensure!(body == ask.answer, "{id} answers {body:?}");
                return Ok(());
            }
            ensure!(
                answer.status == 404 && begun.elapsed() < TO_COMPILE,
                "{id} answers {}: {}",
                answer.status,
                String::from_utf8_lossy(answer.body)
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// The bytes of a request to a function.
    pub fn request(&self, id: &str, ask: &Ask) -> Vec<u8> {
        request("GET", ask.path, self.functions, &header(id), "")
    }

    /// The bytes of a request to the administration of functions.
    pub fn administer(&self, endpoint: &str, body: &Value) -> Vec<u8> {
        request(
            "POST",
            &format!("/wasm/{endpoint}"),
            self.admin,
            &[],
            &body.to_string(),
        )
    }
}

/// Names a function.
pub fn header(id: &str) -> Vec<(String, String)> {
    vec![("id".to_owned(), id.to_owned())]
}

/// Asks for something that is to work.
pub async fn done(client: &mut Client, request: &[u8]) -> Result<()> {
    let answer = client.ask(request).await.context("no answer")?;
    ensure!(
        answer.status == 200,
        "{}: {}",
        answer.status,
        String::from_utf8_lossy(answer.body)
    );
    Ok(())
}

fn configuration(addresses: [SocketAddr; 4], plugins: &Value, size: usize) -> Value {
    let [functions, native, admin, api] = addresses;
    let listener = |name: &str, address: SocketAddr, filters: Value| {
        json!({
            "name": name, "address": address, "bind_port": true, "stream_filters": filters,
            "filter_chains": [{"filters": [{"type": "proxy", "config": {
                "downstream_protocol": "Auto", "upstream_protocol": "Http1",
                "router_config_name": "router"}}]}],
        })
    };
    let answer = json!({"status": 200, "body": "x".repeat(size)});
    json!({"servers": [{
        "default_log_path": "stdout", "default_log_level": "ERROR",
        "listeners": [
            listener("functions", functions, json!([{"type": "Layotto", "config": plugins}])),
            listener("native", native, json!([])),
            listener("admin", admin, json!([{"type": "wasm_filter"}])),
            {"name": "grpc", "address": api, "bind_port": true,
             "filter_chains": [{"filters": [{"type": "grpc", "config": {
                "server_name": "runtime",
                "grpc_config": {
                    "app": {"app_id": "bench"},
                    "state": {STORE: {"type": "in-memory", "metadata": {}}}}}}]}]},
        ],
        "routers": [{"router_config_name": "router", "virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routers": [{"match": {"prefix": "/"}, "direct_response": answer}]}]}],
    }]})
}
