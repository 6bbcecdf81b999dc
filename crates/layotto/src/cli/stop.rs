//! `layotto stop`: finds the process by its pid file, asks it to end and waits.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use layotto_core::Registry;
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process, test_kill_process},
};

use super::{Failure, print, start, start::Files};
use crate::config::{self, DEFAULT_FILE, Loaded, Terminal};

/// What the process may take beside its drain time.
const GRACE: Duration = Duration::from_secs(10);
/// The drain time of a listener that does not say.
const DRAIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
pub(super) struct StopArgs {
    #[command(flatten)]
    files: Files,
    /// Seconds for calls to end in, as given to `start` [default: the configuration's, else 30]
    #[arg(long, value_name = "SECONDS")]
    drain_time_s: Option<u64>,
}

pub(super) fn stop(args: &StopArgs, registry: &Registry) -> Result<ExitCode, Failure> {
    let file = pid_file(&args.files)?;
    let pid = running(&file)?;
    let drain = args.drain_time_s.map(Duration::from_secs);
    let drain = drain.unwrap_or_else(|| configured_drain(&args.files, registry));
    let patience = drain + GRACE;
    signal(pid)?;
    if !is_gone_within(pid, patience) {
        let seconds = patience.as_secs();
        return Err(anyhow::anyhow!("process {pid} is still there after {seconds} s").into());
    }
    print(format_args!("process {pid} has ended\n"))
}

fn pid_file(files: &Files) -> anyhow::Result<PathBuf> {
    let default = Path::new(DEFAULT_FILE);
    let config = files
        .config
        .as_deref()
        .or_else(|| default.exists().then_some(default));
    let configured = match config {
        Some(config) => config::pid_file(config, &config::process_env)
            .with_context(|| format!("configuration file {}", config.display()))?,
        None => None,
    };
    Ok(configured.unwrap_or_else(|| files.data_dir.join("layotto.pid")))
}

/// The process that the pid file names, when it is there and one of ours.
fn running(file: &Path) -> anyhow::Result<Pid> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
            "nothing to stop: there is no pid file {} (is it another --data-dir or -c?)",
            file.display()
        ),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let pid = text
        .trim()
        .parse()
        .ok()
        .filter(|pid| *pid > 0)
        .and_then(Pid::from_raw);
    let pid = pid.with_context(|| format!("{} holds no process id", file.display()))?;
    if is_gone(pid) {
        bail!("nothing to stop: process {pid} of {} has ended", file.display());
    }
    // A pid is used again after its process ended; whoever has it now is none of our business.
    if let Some(name) = program_of(pid).filter(|name| !is_ours(name)) {
        bail!(
            "nothing to stop: process {pid} of {} is {name:?}, not layotto; the file is left over",
            file.display()
        );
    }
    Ok(pid)
}

fn program_of(pid: Pid) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

fn is_ours(name: &str) -> bool {
    let own = fs::read_to_string("/proc/self/comm").unwrap_or_default();
    name == "layotto" || name == own.trim_end()
}

fn configured_drain(files: &Files, registry: &Registry) -> Duration {
    let loaded = start::load(files.config.as_deref(), registry);
    loaded
        .ok()
        .and_then(|loaded| longest_drain(&loaded))
        .unwrap_or(DRAIN)
}

fn longest_drain(loaded: &Loaded) -> Option<Duration> {
    let server = &loaded.config.server;
    let drains = server.listeners.iter().map(|listener| match &listener.terminal {
        Terminal::Grpc(grpc) => grpc.graceful_stop_timeout,
        _ => None,
    });
    drains.chain([server.graceful_timeout]).flatten().max()
}

fn signal(pid: Pid) -> anyhow::Result<()> {
    match kill_process(pid, Signal::TERM) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(Errno::PERM) => bail!("process {pid} belongs to another user"),
        Err(error) => Err(error).with_context(|| format!("cannot signal process {pid}")),
    }
}

fn is_gone(pid: Pid) -> bool {
    test_kill_process(pid) == Err(Errno::SRCH) || is_zombie(pid)
}

/// A process whose parent has not asked how it ended: it runs no more.
fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, state)| state.starts_with('Z'))
}

#[expect(
    clippy::disallowed_methods,
    reason = "this command has no runtime and nothing else to do"
)]
fn is_gone_within(pid: Pid, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    while !is_gone(pid) {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn pid_file_of(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    fn error_of(file: &Path) -> String {
        let error = running(file).unwrap_err().to_string();
        error.replace(&file.display().to_string(), "FILE")
    }

    #[test]
    fn says_why_there_is_nothing_to_stop() {
        assert_eq!(
            error_of(Path::new("/no/such/file")),
            "nothing to stop: there is no pid file FILE (is it another --data-dir or -c?)"
        );
        assert_eq!(error_of(pid_file_of("x").path()), "FILE holds no process id");
        assert_eq!(error_of(pid_file_of("-5").path()), "FILE holds no process id");
    }

    #[test]
    fn leaves_the_processes_of_others_alone() {
        let mut other = sleeper();
        // The child bears this program's name until it has become `sleep`.
        while program_of(Pid::from_child(&other)).as_deref() != Some("sleep") {
            std::thread::yield_now();
        }
        let pid = other.id();
        let error = error_of(pid_file_of(&format!("{pid}\n")).path());
        assert_eq!(
            error,
            format!(
                "nothing to stop: process {pid} of FILE is \"sleep\", not layotto; the file is left over"
            )
        );
        assert!(other.try_wait().unwrap().is_none(), "it still runs");
        other.kill().unwrap();
        other.wait().unwrap();
        let error = error_of(pid_file_of(&pid.to_string()).path());
        assert_eq!(error, format!("nothing to stop: process {pid} of FILE has ended"));
    }

    #[test]
    fn waits_until_the_process_is_gone() {
        let mut child = sleeper();
        let pid = Pid::from_child(&child);
        assert!(!is_gone_within(pid, Duration::ZERO));
        signal(pid).unwrap();
        assert!(is_gone_within(pid, Duration::from_secs(10)));
        child.wait().unwrap();
    }
}
