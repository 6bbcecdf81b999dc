//! A `layotto` process under test.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use layotto_testkit::process::free_address;
use serde_json::Value;

/// Longest time for anything that should take milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often a process that says nothing is asked whether it ended.
const LOOK: Duration = Duration::from_millis(100);

/// What a process printed.
#[derive(Default)]
struct Printed {
    text: Mutex<String>,
    more: Condvar,
}

/// A running process; killed when dropped.
pub struct Sidecar {
    child: Child,
    output: Arc<Printed>,
    readers: Vec<JoinHandle<()>>,
    pid_file: PathBuf,
}

impl Sidecar {
    /// Starts the binary with `arguments` in `folder`, with no environment but `env`.
    pub fn start<'a>(
        folder: &Path,
        arguments: impl IntoIterator<Item = &'a str>,
        env: &[(String, String)],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layotto"));
        command.args(arguments).current_dir(folder).env_clear();
        command.envs(env.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = Arc::<Printed>::default();
        let stdout = collect(child.stdout.take().unwrap(), &output);
        let stderr = collect(child.stderr.take().unwrap(), &output);
        Self {
            child,
            output,
            readers: vec![stdout, stderr],
            pid_file: folder.join(".layotto/layotto.pid"),
        }
    }

    /// Starts it with the configuration `config`, written to a file in `folder`.
    pub fn with_config(folder: &Path, config: &Value, env: &[(String, String)]) -> Self {
        let file = folder.join("layotto-config.json");
        fs::write(&file, config.to_string()).unwrap();
        Self::start(folder, ["start", "-c", file.to_str().unwrap()], env)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far, on both streams.
    pub fn output(&self) -> String {
        self.output.text.lock().unwrap().clone()
    }

    /// Waits until `port` answers and all else is served too; `false` when the process ended
    /// instead.
    pub fn wait_for_port(&mut self, port: u16) -> bool {
        // The pid is written last.
        let (pid_file, pid) = (self.pid_file.clone(), self.pid().to_string());
        self.wait(|| {
            fs::read_to_string(&pid_file).is_ok_and(|text| text.trim() == pid)
                && std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
    }

    /// Waits until `path` exists; `false` when the process ended instead.
    pub fn wait_for_file(&mut self, path: &Path) -> bool {
        self.wait(|| path.exists())
    }

    /// Waits until it printed `text`; `false` when the process ended instead.
    pub fn wait_for_output(&mut self, text: &str) -> bool {
        self.wait_for_output_within(text, PATIENCE)
    }

    /// The same of what may take long.
    pub fn wait_for_output_within(&mut self, text: &str, limit: Duration) -> bool {
        let begun = Instant::now();
        let output = Arc::clone(&self.output);
        let mut printed = output.text.lock().unwrap();
        loop {
            if printed.contains(text) {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(begun.elapsed() < limit, "not printed: {text}\n{printed}");
            // Now and then it is looked whether the process still lives.
            printed = output.more.wait_timeout(printed, LOOK).unwrap().0;
        }
    }

    fn wait(&mut self, ready: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        loop {
            if ready() {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(begun.elapsed() < PATIENCE, "not ready: {}", self.output());
            std::thread::yield_now();
        }
    }

    /// Whether the process ended.
    pub fn is_gone(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end of the process.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // The last lines may still be on their way.
                for reader in self.readers.drain(..) {
                    reader.join().unwrap();
                }
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "does not end: {}", self.output());
            std::thread::yield_now();
        }
    }
}

fn collect(stream: impl std::io::Read + Send + 'static, output: &Arc<Printed>) -> JoinHandle<()> {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            let mut text = output.text.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
            output.more.notify_all();
        }
    })
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port that nothing listens on and that no other caller gets.
pub fn free_port() -> u16 {
    free_address().port()
}

/// A configuration file with one gRPC listener, serving `grpc_config`, and an actuator.
pub fn config(grpc: u16, actuator: u16, grpc_config: &Value) -> Value {
    serde_json::json!({"servers": [{
        "default_log_path": "stdout", "default_log_level": "INFO",
        "listeners": [
            {"name": "grpc", "address": format!("127.0.0.1:{grpc}"), "bind_port": true,
             "filter_chains": [{"filters": [{"type": "grpc", "config": {
                "server_name": "runtime", "grpc_config": grpc_config}}]}]},
            {"name": "actuator", "address": format!("127.0.0.1:{actuator}"), "bind_port": true,
             "filter_chains": [{"filters": [{"type": "proxy", "config": {
                "downstream_protocol": "Http1", "upstream_protocol": "Http1",
                "router_config_name": "no_router_needed"}}]}],
             "stream_filters": [{"type": "actuator_filter"}]}
        ]
    }]})
}

/// The folder of a fixture of these tests.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Prints a line that shows even where the test passes: a figure that a reader of the run wants.
pub fn say(line: impl std::fmt::Display) {
    use std::io::Write;

    writeln!(std::io::stderr().lock(), "{line}").unwrap();
}

/// Prints that something did not run, in the way of the test runner: `cargo xtask test` lists it.
pub fn skipped(what: impl std::fmt::Display, reason: &str) {
    use std::io::Write;

    writeln!(std::io::stdout().lock(), "test {what} ... ignored, {reason}").unwrap();
}
