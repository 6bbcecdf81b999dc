//! `cargo xtask bench`: runs the benchmark binary.

use anyhow::Result;

use crate::{process, workspace::Workspace};

/// Builds the benchmarks for release and runs them with `args`.
pub fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    let mut bench = workspace.cargo(["run", "--release", "--locked", "--package", "layotto-bench", "--"]);
    process::run(bench.args(args))
}
