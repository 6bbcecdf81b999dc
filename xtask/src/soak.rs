//! `cargo xtask soak`: the long scenarios in full, one after another, with their output.

use anyhow::Result;

use crate::{peers, process, workspace::Workspace};

/// Runs the ignored tests of the `layotto` crate, then the long ones with foreign peers; each is a
/// long scenario.
pub fn run(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    let mut soak = workspace.cargo(["test", "--locked", "--package", "layotto", "--test", "it", "--"]);
    soak.args(["--ignored", "--nocapture", "--test-threads=1"]);
    process::run(soak.args(filter))?;
    peers::soak(workspace, filter)
}
