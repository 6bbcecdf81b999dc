//! Server processes: started, pinned, measured, stopped.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use layotto_peers::process::{family, resident};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_setaffinity},
};

/// The first two processors.
pub const BOTH: Range<usize> = 0..2;

/// Pins this process's threads started from here on to one processor; without effect where there
/// is only one.
pub fn pin_current(processor: usize) {
    pin_to(processor..processor + 1);
}

fn pin_to(processors: Range<usize>) {
    let mut set = CpuSet::new();
    processors.clone().for_each(|processor| set.set(processor));
    if sched_setaffinity(None, &set).is_err() {
        eprintln!("note: cannot pin to processors {processors:?}");
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
        let mut child = spawn(processor..processor + 1, command.stdout(Stdio::piped()))?;
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
        Self::start_on(0..1, command, address)
    }

    /// The same, on these processors.
    pub fn start_on(
        processors: Range<usize>,
        command: &mut Command,
        address: String,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            child: spawn(processors, command.stdout(Stdio::null()).stderr(Stdio::null()))?,
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
        Ok(self.usage()?.0.into_values().collect())
    }

    /// What each thread used so far.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let mut threads = BTreeMap::new();
        for pid in family(self.child.id()) {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let path = task?.path();
                // A thread may end while they are read.
                if let Ok(nanos) = run_nanos(&path.join("schedstat")) {
                    threads.insert(path, nanos);
                }
            }
        }
        Ok(Usage(threads))
    }

    /// Memory that no other process has, in bytes: written, and as it is in a file.
    pub fn private(&self) -> anyhow::Result<Private> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        Private::read(&text)
    }

    /// Resident memory in bytes, with that of its children.
    pub fn resident(&self) -> anyhow::Result<u64> {
        family(self.child.id()).into_iter().map(resident).sum()
    }
}

/// Memory of a process that it shares with none, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Private {
    /// Pages that it wrote.
    pub dirty: u64,
    /// Pages that it can have again from a file.
    pub clean: u64,
}

impl Private {
    /// Reads `smaps_rollup`, see proc(5).
    fn read(text: &str) -> anyhow::Result<Self> {
        let bytes = |name: &str| -> anyhow::Result<u64> {
            let rest = text.lines().find_map(|line| line.strip_prefix(name));
            let number = rest.and_then(|rest| rest.split_whitespace().next());
            let kib: u64 = number
                .with_context(|| format!("no {name} in smaps_rollup"))?
                .parse()?;
            Ok(kib * 1024)
        };
        Ok(Self {
            dirty: bytes("Private_Dirty:")?,
            clean: bytes("Private_Clean:")?,
        })
    }
}

/// Processor time by thread.
#[derive(Debug)]
pub struct Usage(BTreeMap<PathBuf, u64>);

impl Usage {
    /// What was used since `before`. Threads that ended meanwhile do not count: those that compiled
    /// modules take all that they used with them.
    pub fn since(&self, before: &Self) -> Duration {
        let used = self.0.iter().map(|(thread, nanos)| {
            let earlier = before.0.get(thread).copied().unwrap_or_default();
            nanos.saturating_sub(earlier)
        });
        Duration::from_nanos(used.sum())
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

fn spawn(processors: Range<usize>, command: &mut Command) -> anyhow::Result<Child> {
    use std::os::unix::process::CommandExt;

    #[allow(
        unsafe_code,
        reason = "the pin must be in place before the server starts its threads"
    )]
    // SAFETY: between fork and exec only an async-signal-safe system call is made.
    unsafe {
        command.pre_exec(move || {
            pin_to(processors.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(threads: &[(&str, u64)]) -> Usage {
        Usage(
            threads
                .iter()
                .map(|(name, nanos)| (name.into(), *nanos))
                .collect(),
        )
    }

    #[test]
    fn threads_that_ended_do_not_count_and_new_ones_do() {
        let before = usage(&[("worker", 100), ("compiler", 9000)]);
        let after = usage(&[("worker", 130), ("new", 4)]);
        assert_eq!(after.since(&before), Duration::from_nanos(34));
    }

    #[test]
    fn private_memory_is_what_the_kernel_says() {
        let text = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nPrivate_Clean:        12 kB\nPrivate_Dirty:       340 kB\n";
        let expected = Private {
            dirty: 340 * 1024,
            clean: 12 * 1024,
        };
        assert_eq!(Private::read(text).unwrap(), expected);
        assert!(Private::read("Rss: 1 kB").is_err());
    }
}
