//! Functions as users run them: `layotto function run` and `layotto function invoke`, on ports that
//! the system chooses.

mod auth;
mod commands;
mod languages;
mod misbehaviour;
mod runtime_api;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    mesh::clients::{Ask, Reply},
    sidecar::Sidecar,
};

/// Longest time until all functions are compiled: the compiler is no release build, and a module of
/// Go is megabytes long.
const TO_COMPILE: Duration = Duration::from_secs(600);

/// A process that serves functions.
struct Functions {
    process: Sidecar,
    /// Port of the functions.
    port: u16,
    /// Port of the runtime API.
    api: u16,
    folder: TempDir,
}

impl Functions {
    /// Serves the modules that `fill` puts into a folder, with more arguments.
    fn run(arguments: &str, fill: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path());
        let line = format!("function run --port 0 --api-port 0 --actuator-port 0 {arguments}");
        let mut process = Sidecar::start(folder.path(), line.split_whitespace(), &[]);
        assert!(
            process.wait_for_output_within("End: Ctrl-C", TO_COMPILE),
            "{}",
            process.output()
        );
        let output = process.output();
        Self {
            port: port_of(&output, "functions (HTTP)"),
            api: port_of(&output, "runtime API (gRPC)"),
            process,
            folder,
        }
    }

    /// Posts `body` to the function called `id`.
    async fn ask(&self, id: &str, body: &'static str) -> Reply {
        let ask = Ask::new("POST", "/").header("id", id).body(body);
        ask.http1(self.port).await
    }

    fn wait_for_log(&mut self, text: &str) {
        assert!(self.process.wait_for_output(text), "{}", self.process.output());
    }
}

/// The port of an address that the process printed.
fn port_of(output: &str, what: &str) -> u16 {
    let line = output.lines().find(|line| line.trim_start().starts_with(what));
    let (_, port) = line.unwrap().rsplit_once(':').unwrap();
    port.parse().unwrap()
}

/// The folder of the examples.
fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/functions")
}

/// Puts an example that is kept in the repository into `folder`, as `name`.
pub fn put_example(folder: &Path, example: &str, name: &str) {
    let file = examples().join("built").join(format!("{example}.wasm"));
    std::fs::copy(&file, folder.join(format!("{name}.wasm")))
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}
