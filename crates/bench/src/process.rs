//! Server processes: started, pinned, measured, stopped.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use layotto_peers::process::{family, resident};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_setaffinity},
};

/// Pins this process's threads started from here on to one processor; without effect where there
/// is only one.
pub fn pin_current(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    if sched_setaffinity(None, &set).is_err() {
        eprintln!("note: cannot pin to processor {processor}");
    }
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: String,
}

impl Server {
    /// Starts `command` on the first processor; the address is the first line it prints.
    pub fn start_printing(command: &mut Command) -> anyhow::Result<Self> {
        Self::start_printing_on(0, command)
    }

    /// The same, on any processor.
    pub fn start_printing_on(processor: usize, command: &mut Command) -> anyhow::Result<Self> {
        let mut child = spawn(processor, command.stdout(Stdio::piped()))?;
        let mut address = String::new();
        let output = child.stdout.take().context("no output")?;
        BufReader::new(output).read_line(&mut address)?;
        Ok(Self {
            child,
            address: address.trim().to_owned(),
        })
    }

    /// Starts `command` on the first processor; it listens on `address`.
    pub fn start(command: &mut Command, address: String) -> anyhow::Result<Self> {
        Ok(Self {
            child: spawn(0, command.stdout(Stdio::null()).stderr(Stdio::null()))?,
            address,
        })
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Processor time used so far by all threads, of its children too.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        Ok(Duration::from_nanos(self.threads()?.into_iter().sum()))
    }

    /// Processor time used so far by the thread that used most.
    pub fn busiest_thread(&self) -> anyhow::Result<Duration> {
        let most = self.threads()?.into_iter().max();
        Ok(Duration::from_nanos(most.unwrap_or_default()))
    }

    /// What each thread used, in nanoseconds.
    fn threads(&self) -> anyhow::Result<Vec<u64>> {
        let mut threads = Vec::new();
        for pid in family(self.child.id()) {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                threads.push(run_nanos(&task?.path().join("schedstat"))?);
            }
        }
        Ok(threads)
    }

    /// Resident memory in bytes, with that of its children.
    pub fn resident(&self) -> anyhow::Result<u64> {
        family(self.child.id()).into_iter().map(resident).sum()
    }
}

/// First field of `schedstat`: nanoseconds on a processor, see proc(5).
fn run_nanos(path: &Path) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path)?;
    Ok(text
        .split_whitespace()
        .next()
        .context("empty schedstat")?
        .parse()?)
}

fn spawn(processor: usize, command: &mut Command) -> anyhow::Result<Child> {
    use std::os::unix::process::CommandExt;

    #[allow(
        unsafe_code,
        reason = "the pin must be in place before the server starts its threads"
    )]
    // SAFETY: between fork and exec only an async-signal-safe system call is made.
    unsafe {
        command.pre_exec(move || {
            pin_current(processor);
            Ok(())
        });
    }
    command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("{command:?}"))
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its children first: some outlive it. Already gone is fine.
        for pid in family(self.child.id()).into_iter().skip(1) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                kill_process(pid, Signal::KILL).ok();
            }
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
