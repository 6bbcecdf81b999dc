//! A sidecar under test, with fifty connections to it.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use layotto_core::{
    Metadata, Result,
    key_prefix::PrefixedKey,
    lock::{LockStore, Owned},
    pubsub::{PubSub, Publish},
    state::{Consistency, Get, StateStore},
};
use layotto_testkit::load::Ids;
use serde_json::Value;

use super::{
    crowd::blocks,
    remote::{Remote, SLACK},
};
use crate::{
    golden::http,
    sidecar::{PATIENCE, Sidecar, config, free_port},
};

/// How soon a call must succeed once the product takes work again.
const RECOVERY: Duration = Duration::from_secs(1);
/// Connections of clients.
const CONNECTIONS: usize = 50;

/// A sidecar whose components are on one product.
pub struct Process {
    pub sections: Value,
    pub remote: Arc<Remote>,
    /// How long it took until it listened.
    pub started: Duration,
    actuator: u16,
    sidecar: Sidecar,
    _folder: tempfile::TempDir,
}

impl Process {
    /// Starts it with these sections of `grpc_config`.
    pub async fn start(sections: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, actuator) = (free_port(), free_port());
        let begun = Instant::now();
        let mut sidecar = Sidecar::with_config(folder.path(), &config(port, actuator, &sections), &[]);
        assert!(sidecar.wait_for_port(port), "{}", sidecar.output());
        let started = begun.elapsed();
        Self {
            sections,
            started,
            remote: Arc::new(Remote::connect(port, CONNECTIONS).await),
            actuator,
            sidecar,
            _folder: folder,
        }
    }

    /// Waits until every building block answers, which must be soon; how long it took.
    pub async fn recovers(&self) -> Duration {
        let begun = Instant::now();
        let probes = blocks(&self.sections).into_iter().map(async |block| {
            while let Err(error) = self.probe(block).await {
                assert!(begun.elapsed() < RECOVERY + SLACK, "{block} is not back: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        futures::future::join_all(probes).await;
        begun.elapsed()
    }

    /// One call of a building block.
    async fn probe(&self, block: &str) -> Result<()> {
        let key = PrefixedKey("probe".to_owned());
        match block {
            "lock" => {
                let owner = "probe".to_owned();
                let lock = Owned { resource: key, owner };
                self.remote
                    .try_lock(&lock, Duration::from_secs(1))
                    .await
                    .map(drop)
            }
            "sequencer" => self.remote.draw("probe", true).await.map(drop),
            "state" => {
                let request = Get {
                    key,
                    consistency: Consistency::Strong,
                    metadata: Metadata::new(),
                };
                self.remote.get(&request).await.map(drop)
            }
            _ => {
                let message = Publish {
                    topic: "probe".to_owned(),
                    data: "probe".into(),
                    metadata: Metadata::new(),
                };
                self.remote.publish(message).await.map(drop)
            }
        }
    }

    /// The components, each with its status, as readiness has them, and the status of all.
    pub async fn readiness(&self) -> (u64, BTreeSet<String>) {
        let answer = http::try_get(self.actuator, "/actuator/health/readiness").await;
        let answer = answer.unwrap();
        let parts = answer["body_json"]["components"].as_object().unwrap();
        let parts = parts.values().filter_map(|part| part["status"].as_str());
        (
            answer["status"].as_u64().unwrap(),
            parts.map(str::to_owned).collect(),
        )
    }

    /// Waits until readiness is as wanted.
    pub async fn ready(&self, status: u64) {
        let begun = Instant::now();
        while self.readiness().await.0 != status {
            assert!(
                begun.elapsed() < PATIENCE,
                "readiness is not {status}: {:?}",
                self.readiness().await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How much of something the process has: a folder of `/proc`.
    pub fn count(&self, of: &str) -> u64 {
        let folder = format!("/proc/{}/{of}", self.sidecar.pid());
        fs::read_dir(folder).unwrap().count() as u64
    }

    /// Its connections to an address: what a product still has of one that the process closed is
    /// not the process's.
    pub fn connections(&self, to: SocketAddr) -> u64 {
        let SocketAddr::V4(to) = to else {
            panic!("{to} is not of IPv4")
        };
        let process = format!("/proc/{}", self.sidecar.pid());
        let files = fs::read_dir(format!("{process}/fd")).unwrap();
        let names = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
        let names: BTreeSet<_> = names.map(|name| name.display().to_string()).collect();
        // proc_pid_net(5): numbers in hexadecimal, addresses as they lie in memory.
        let address = u32::from_ne_bytes(to.ip().octets());
        let remote = format!("{address:08X}:{:04X}", to.port());
        let table = fs::read_to_string(format!("{process}/net/tcp")).unwrap();
        let is_one = |line: &&str| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let owned = |inode: &&str| names.contains(&format!("socket:[{inode}]"));
            fields.get(2) == Some(&&*remote) && fields.get(9).is_some_and(owned)
        };
        table.lines().filter(is_one).count() as u64
    }

    /// The names of its threads.
    pub fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.sidecar.pid())).unwrap();
        let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
        names.map(Result::unwrap_or_default).collect()
    }

    /// What it printed.
    pub fn output(&self) -> String {
        self.sidecar.output()
    }
}
