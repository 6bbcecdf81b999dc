//! Processes: started, looked at, stopped.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

/// Longest wait for a process to listen.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// A running process, its output in a file; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints goes to the file `log`.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(command: &mut Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        Ok(Self { child, name, log })
    }

    /// Waits until something listens at `address`.
    ///
    /// # Errors
    /// Where the process ends instead, or takes too long; with what it printed.
    pub async fn wait_for(&mut self, address: SocketAddr) -> Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended: {status}\n{}", self.name, self.output());
            }
            if begun.elapsed() > PATIENCE {
                bail!("{} does not listen\n{}", self.name, self.output());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where `limit` passes first; with what it printed.
    pub async fn wait_for_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > limit {
                bail!("{} did not end within {limit:?}\n{}", self.name, self.output());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// Where the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("cannot signal")
    }

    /// Sends a signal to the process and its children.
    ///
    /// # Errors
    /// Where the process is gone.
    pub fn signal_family(&self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        // A child that ends meanwhile is fine.
        for pid in family(self.pid()).into_iter().skip(1) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                kill_process(pid, signal).ok();
            }
        }
        Ok(())
    }

    /// Stops the process and its children without ending them; done when every thread stands: on a
    /// busy machine some go on after the signal.
    ///
    /// # Errors
    /// Where the process is gone.
    pub fn freeze(&self) -> Result<()> {
        self.signal_family(Signal::STOP)?;
        while !family(self.pid()).into_iter().all(stands) {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Resident memory in bytes, of the process and its children.
    ///
    /// # Errors
    /// Where the process is gone.
    pub fn resident(&self) -> Result<u64> {
        family(self.pid()).into_iter().map(resident).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is fine. nginx's worker ends with its master.
        for pid in family(self.pid()).into_iter().rev() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                kill_process(pid, Signal::KILL).ok();
            }
        }
        drop(self.child.wait());
    }
}

/// The process and its children.
pub fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    std::iter::once(pid).chain(children).collect()
}

/// Whether no thread of a process runs, or it is gone.
fn stands(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // proc_pid_stat(5): the state stands behind the name, which may hold anything.
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state.is_none_or(|state| matches!(state, 'T' | 't' | 'Z' | 'X'))
    })
}

/// Resident memory of one process, in bytes.
///
/// # Errors
/// Where the process is gone.
pub fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.context("no VmRSS")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// Lets this process, and those it starts, open as many files as the system permits; returns how
/// many.
pub fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if setrlimit(Resource::Nofile, raised).is_err() {
        return limit.current.unwrap_or(1024);
    }
    limit.maximum.unwrap_or(u64::MAX)
}

/// An address on loopback that nothing listens on, from below the range that the system takes the
/// ports of clients from.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    // Two runs at once begin in different places.
    let offset = u16::try_from(std::process::id().wrapping_mul(7919) % u32::from(COUNT)).unwrap_or_default();
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from(([127, 0, 0, 1], FIRST + (offset + next % COUNT) % COUNT));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
