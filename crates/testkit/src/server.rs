//! Servers of other products on loopback: started on free ports, with data of their own, and ended
//! when dropped. Each product has one file, which knows how it is started and when it is ready.

pub mod apollo;
pub mod etcd;
pub mod kafka;
pub mod postgres;
pub mod redis;
pub mod zookeeper;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{process::Process, programs};

/// Longest wait for a server to be ready: a Java one beside a full test run.
const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(20);

/// When a server takes work.
#[derive(Debug, Clone, Copy)]
enum Ready {
    /// It accepts connections.
    Listens,
    /// It answers `ask` with a text that contains `answer`.
    Answers { ask: &'static str, answer: &'static str },
    /// It printed this.
    Prints(&'static str),
}

/// A server of a product, running or not.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    launch: Launch,
    ready: Ready,
    process: Option<Process>,
    dir: Arc<TempDir>,
}

/// How a server is started.
#[derive(Debug, Clone)]
struct Launch {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Launch {
    fn new(program: PathBuf, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            program,
            arguments: arguments.into_iter().map(Into::into).collect(),
        }
    }
}

impl Server {
    async fn start(address: SocketAddr, dir: Arc<TempDir>, launch: Launch, ready: Ready) -> Result<Self> {
        let mut server = Self {
            address,
            launch,
            ready,
            process: None,
            dir,
        };
        server.resume().await?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its data, kept until it is dropped.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends it at once, as a crash does; its data stay.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on its data and its port, and waits until it takes work.
    ///
    /// # Errors
    /// Where it does not start; with what it printed.
    pub async fn resume(&mut self) -> Result<()> {
        self.process = None;
        let mut command = Command::new(&self.launch.program);
        command.args(&self.launch.arguments).current_dir(self.dir());
        let log = self.dir().join(format!("{}.log", self.address.port()));
        let mut process = Process::start(&mut command, log)?;
        let begun = Instant::now();
        while !self.is_ready(&process).await {
            if !process.is_alive() {
                bail!(
                    "{} ended at once\n{}",
                    self.launch.program.display(),
                    process.output()
                );
            }
            if begun.elapsed() > PATIENCE {
                bail!(
                    "{} does not get ready\n{}",
                    self.launch.program.display(),
                    process.output()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        self.process = Some(process);
        Ok(())
    }

    /// Stops it without ending it: connections stay open, and nothing is answered.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn freeze(&self) -> Result<()> {
        self.running()?.freeze()
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// Where it does not run.
    pub fn thaw(&self) -> Result<()> {
        self.running()?.signal_family(Signal::CONT)
    }

    fn running(&self) -> Result<&Process> {
        self.process.as_ref().context("the server does not run")
    }

    /// What it printed since it was last started.
    pub fn output(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }

    async fn is_ready(&self, process: &Process) -> bool {
        let (address, ready) = (self.address, self.ready);
        match ready {
            Ready::Prints(text) => process.output().contains(text),
            Ready::Listens => TcpStream::connect(address).is_ok(),
            Ready::Answers { ask, answer } => tokio::task::spawn_blocking(move || says(address, ask, answer))
                .await
                .unwrap_or_default(),
        }
    }
}

fn says(address: SocketAddr, ask: &str, answer: &str) -> bool {
    let mut text = Vec::new();
    let mut exchange = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(ask.as_bytes())?;
        let mut part = [0; 1024];
        loop {
            match stream.read(&mut part)? {
                0 => return Ok(()),
                count => text.extend_from_slice(&part[..count]),
            }
            if String::from_utf8_lossy(&text).contains(answer) {
                return Ok(());
            }
        }
    };
    drop(exchange());
    String::from_utf8_lossy(&text).contains(answer)
}

/// A program of `cargo xtask tools`.
fn program(name: &str) -> Result<PathBuf> {
    programs::find(name).map_err(|reason| anyhow!(reason))
}

/// The version that a program of `cargo xtask tools` tells when it is called with `arguments`.
///
/// # Errors
/// Where it is not there, fails, or tells none.
pub fn version(name: &str, arguments: &[&str]) -> Result<String> {
    let told = run(Command::new(program(name)?).args(arguments))?;
    let version = number(&told).with_context(|| format!("{name} tells no version: {told}"))?;
    Ok(version.to_owned())
}

/// The first word that ends in digits with dots in between.
fn number(told: &str) -> Option<&str> {
    let words = told.split_whitespace();
    let mut numbers = words.map(|word| word.trim_start_matches(|c: char| !c.is_ascii_digit()));
    numbers.find(|number| {
        let mut parts = number.split('.');
        number.contains('.') && parts.all(|part| part.parse::<u32>().is_ok())
    })
}

fn folder() -> Result<Arc<TempDir>> {
    Ok(Arc::new(TempDir::new().context("no temporary directory")?))
}

/// Runs a program to its end and returns what it printed.
fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests;
