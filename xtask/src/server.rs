//! The binary with the configuration of `layotto init`, on free ports, with data of its own.

use std::{fs, net::TcpListener, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::process::{self, Background};

const READY_LIMIT: Duration = Duration::from_secs(30);
/// The ports of the configuration that `layotto init` writes: API, actuator, metrics.
const PORTS: [&str; 3] = ["34904", "34999", "34903"];

/// A running server; dropping it kills it.
pub struct Server {
    /// Host and port of the runtime API.
    pub api: String,
    process: Background,
    _folder: TempDir,
}

impl Server {
    /// Starts the server and waits until it is ready.
    pub fn start(layotto: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("config.json");
        process::capture(Command::new(layotto).arg("init").arg(&config))?;
        let [api, actuator] = on_free_ports(&config)?;
        let mut start = Command::new(layotto);
        start
            .args(["start", "-c"])
            .arg(&config)
            .current_dir(folder.path());
        start.env("LAYOTTO_DATA_DIR", folder.path().join("data"));
        let mut process = Background::start(&mut start, folder.path().join("log"))?;
        process.wait_until(READY_LIMIT, || {
            process::probe_http(&actuator, "/actuator/health/readiness")
        })?;
        Ok(Self {
            api,
            process,
            _folder: folder,
        })
    }

    /// Ends the server in order.
    pub fn stop(self) -> Result<()> {
        self.process.stop()
    }
}

/// Replaces the ports in the file by free ones; returns where API and actuator will listen.
fn on_free_ports(config: &Path) -> Result<[String; 2]> {
    let mut text = fs::read_to_string(config)?;
    // Held until all are chosen, so that they differ.
    let free = PORTS.map(|_| TcpListener::bind("127.0.0.1:0"));
    let mut addresses = Vec::new();
    for (port, listener) in PORTS.into_iter().zip(free.iter()) {
        let listener = listener
            .as_ref()
            .map_err(|error| anyhow::anyhow!("no free port: {error}"))?;
        let address = listener.local_addr()?;
        ensure!(text.contains(port), "{} has no port {port}", config.display());
        text = text.replace(port, &address.port().to_string());
        addresses.push(address.to_string());
    }
    fs::write(config, text)?;
    addresses.truncate(2);
    <[String; 2]>::try_from(addresses).ok().context("two addresses")
}
