//! Programs that tests use and that are not part of the toolchain.

use std::process::Command;

use anyhow::{Result, ensure};
use rustix::process::geteuid;

use crate::process;

/// A program and the Debian package that has it.
pub struct Tool {
    /// The program's name on PATH.
    pub program: &'static str,
    package: &'static str,
}

/// Runs JavaScript.
pub const NODE: Tool = Tool {
    program: "node",
    package: "nodejs",
};
/// Gets npm packages.
pub const NPM: Tool = Tool {
    program: "npm",
    package: "npm",
};
/// Compiles Java; what runs it comes with it.
pub const JAVA: Tool = Tool {
    program: "javac",
    package: "default-jdk-headless",
};
/// Gets Maven packages.
pub const MAVEN: Tool = Tool {
    program: "mvn",
    package: "maven",
};

impl Tool {
    /// Makes sure that the program is there, and installs it where that is permitted; the error
    /// is the reason why not.
    pub fn ensure(&self) -> Result<(), String> {
        if process::which(self.program).is_some() {
            return Ok(());
        }
        let missing = format!("{} is not installed", self.program);
        install(self.package).map_err(|error| format!("{missing}: {error:#}"))
    }
}

/// Installs a Debian package, where that is permitted.
pub fn install(package: &str) -> Result<()> {
    ensure!(
        geteuid().is_root() && process::which("apt-get").is_some(),
        "{package} cannot be installed (needs apt-get and root)"
    );
    println!("installing {package}");
    process::capture(apt_get().arg("update"))?;
    process::capture(apt_get().args(["install", "-y", "--no-install-recommends", package]))?;
    Ok(())
}

fn apt_get() -> Command {
    let mut apt = Command::new("apt-get");
    apt.args([
        "-q",
        "-o",
        "Acquire::http::Timeout=30",
        "-o",
        "Acquire::Retries=1",
    ]);
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt
}
