//! One proxy in front of back ends: the same plan for layotto and for those it is compared with.

mod copy;
mod envoy;
mod haproxy;
mod layotto;
mod nginx;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use anyhow::{Context, Result};
use rustix::process::Signal;
use tempfile::TempDir;

pub use self::copy::serve as serve_copy;
use crate::{
    process::{Process, free_address},
    programs,
};

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The program that all this is about.
    Layotto,
    /// HAProxy, with one thread.
    HaProxy,
    /// nginx, with one worker.
    Nginx,
    /// Envoy, with one worker.
    Envoy,
    /// A copier of bytes, which knows nothing of HTTP: the floor.
    Copy,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Copy, Self::HaProxy, Self::Nginx, Self::Envoy, Self::Layotto];

    /// Its name, as one types it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Layotto => "layotto",
            Self::HaProxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Copy => "copy",
        }
    }

    /// The program; the error is the reason why there is none.
    pub fn program(self) -> Result<PathBuf, String> {
        match self {
            Self::Copy => std::env::current_exe().map_err(|error| error.to_string()),
            other => programs::find(other.name()),
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("no proxy `{name}`"))
    }
}

/// The version of HTTP on one side of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// What a proxy is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What clients speak. Layotto and Envoy take both, whatever it says.
    pub front: Protocol,
    /// What the back ends speak.
    pub back: Protocol,
    /// The back ends, taken in turn.
    pub hosts: Vec<SocketAddr>,
    /// Routes before the one that matches all: `/route/0` and so on, each with its own path.
    pub routes: usize,
    /// Requests under way in all; more are refused. 0: no limit.
    pub most: u32,
    /// A Proxy-Wasm module that all requests go through. Only layotto and Envoy can.
    pub filter: Option<PathBuf>,
}

impl Plan {
    /// From one version of HTTP to the same, to one back end.
    pub fn of(protocol: Protocol, host: SocketAddr) -> Self {
        Self {
            front: protocol,
            back: protocol,
            hosts: vec![host],
            routes: 0,
            most: 0,
            filter: None,
        }
    }
}

/// A proxy that is not yet started: its files are written.
#[derive(Debug)]
pub struct Prepared {
    /// Starts it.
    pub command: Command,
    /// Where it will listen.
    pub address: SocketAddr,
    /// Its configuration file, if it has one.
    pub config: PathBuf,
    /// Its files; removed with this.
    pub folder: TempDir,
}

/// Writes what `kind`, which is the program `program`, needs to do what `plan` says.
///
/// # Errors
/// Where its files cannot be written.
pub fn prepare(kind: Kind, program: &Path, plan: &Plan) -> Result<Prepared> {
    let folder = tempfile::tempdir()?;
    let address = free_address();
    let config = folder.path().join(match kind {
        Kind::Layotto => "config.json",
        Kind::Envoy => "envoy.json",
        _ => "proxy.conf",
    });
    fs::write(&config, configuration(kind, plan, address, folder.path()))?;
    let mut command = Command::new(program);
    match kind {
        Kind::Layotto => layotto::arguments(&mut command, &config, folder.path()),
        Kind::HaProxy => haproxy::arguments(&mut command, &config),
        Kind::Nginx => nginx::arguments(&mut command, &config, folder.path()),
        Kind::Envoy => envoy::arguments(&mut command, &config, address),
        Kind::Copy => copy::arguments(&mut command, address, plan),
    }
    Ok(Prepared {
        command,
        address,
        config,
        folder,
    })
}

/// The text of the configuration file.
pub fn configuration(kind: Kind, plan: &Plan, address: SocketAddr, folder: &Path) -> String {
    match kind {
        Kind::Layotto => layotto::configuration(plan, address),
        Kind::HaProxy => haproxy::configuration(plan, address),
        Kind::Nginx => nginx::configuration(plan, address, folder),
        Kind::Envoy => envoy::configuration(plan, address),
        Kind::Copy => String::new(),
    }
}

/// A running proxy; killed when dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub process: Process,
    kind: Kind,
    config: PathBuf,
    folder: TempDir,
}

impl Proxy {
    /// Starts `kind` to do what `plan` says, and waits until it listens.
    ///
    /// # Errors
    /// Where the program is missing, or does not come up.
    pub async fn start(kind: Kind, plan: &Plan) -> Result<Self> {
        let program = kind.program().map_err(anyhow::Error::msg)?;
        let mut prepared = prepare(kind, &program, plan)?;
        let log = prepared.folder.path().join("log");
        let mut process = Process::start(&mut prepared.command, log)?;
        process.wait_for(prepared.address).await?;
        Ok(Self {
            address: prepared.address,
            process,
            kind,
            config: prepared.config,
            folder: prepared.folder,
        })
    }

    /// Makes it take up a changed plan while it runs.
    ///
    /// # Errors
    /// Where the file cannot be written, or the process is gone.
    pub fn reload(&self, plan: &Plan) -> Result<()> {
        let text = configuration(self.kind, plan, self.address, self.folder.path());
        self.reload_text(&text)
    }

    /// Makes it read a file of this text while it runs.
    ///
    /// # Errors
    /// Where the file cannot be written, or the process is gone.
    pub fn reload_text(&self, text: &str) -> Result<()> {
        // Renamed into its place, so that no one reads half of it.
        let part = self.folder.path().join("part");
        fs::write(&part, text)?;
        fs::rename(part, &self.config).context("cannot replace the configuration")?;
        self.process.signal(match self.kind {
            Kind::HaProxy => Signal::USR2,
            _ => Signal::HUP,
        })
    }
}
