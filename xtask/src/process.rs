//! Running other programs: to the end, with a time limit, or in the background.

use std::{
    ffi::OsStr,
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

const POLL: Duration = Duration::from_millis(50);
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// Runs a command whose output goes to the terminal.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    ensure!(status.success(), "{} failed: {status}", shown(command));
    Ok(())
}

/// Runs a command and returns what it printed to stdout; its stderr is part of the error.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} failed: {}\n{}",
        shown(command),
        output.status,
        stderr.trim_end()
    );
    String::from_utf8(output.stdout).with_context(|| format!("output of {} is not UTF-8", shown(command)))
}

/// Takes away what `cargo run` told this program about its own package. Build scripts look at it
/// too: with it, each crate that has one would be built anew, and again without.
pub fn without_package(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_MANIFEST_", "CARGO_PKG_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    command
}

/// The program found on PATH.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    format!("`{}`", words.join(" "))
}

/// A program in the background, in a process group of its own, its output in a file.
/// Dropping it kills the group.
pub struct Background {
    child: Child,
    log: PathBuf,
    shown: String,
}

impl Background {
    /// Starts `command`; stdout and stderr go to the file `log`.
    pub fn start(command: &mut Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {}", shown(command)))?;
        Ok(Self {
            child,
            log,
            shown: shown(command),
        })
    }

    /// Waits for the end, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("{} did not end within {limit:?}\n{}", self.shown, self.output());
            }
            pause();
        }
    }

    /// Waits until `probe` succeeds; fails when the program ends first or `limit` passes.
    pub fn wait_until(&mut self, limit: Duration, probe: impl Fn() -> Result<()>) -> Result<()> {
        let end = Instant::now() + limit;
        while let Err(error) = probe() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended early: {status}\n{}", self.shown, self.output());
            }
            if Instant::now() > end {
                bail!(
                    "{} is not ready after {limit:?}: {error:#}\n{}",
                    self.shown,
                    self.output()
                );
            }
            pause();
        }
        Ok(())
    }

    /// Sends SIGTERM and waits; the program must end with status 0.
    pub fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM);
        let status = self.wait(STOP_LIMIT)?;
        ensure!(
            status.success(),
            "{} ended with {status} after SIGTERM\n{}",
            self.shown,
            self.output()
        );
        Ok(())
    }

    /// What the program printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_else(|error| format!("(no output: {error})"))
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process_group(Pid::from_child(&self.child), signal) {
            eprintln!("xtask: cannot signal {}: {error}", self.shown);
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::KILL);
            if let Err(error) = self.child.wait() {
                eprintln!("xtask: {} did not end: {error}", self.shown);
            }
        }
    }
}

/// Succeeds when `GET http://{authority}{path}` answers 200.
pub fn probe_http(authority: &str, path: &str) -> Result<()> {
    let mut stream =
        TcpStream::connect(authority).with_context(|| format!("cannot connect to {authority}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.lines().next().unwrap_or_default();
    ensure!(
        status.split(' ').nth(1) == Some("200"),
        "GET {path} answered `{status}`"
    );
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "polls another process; there is no event to wait for"
)]
fn pause() {
    std::thread::sleep(POLL);
}
