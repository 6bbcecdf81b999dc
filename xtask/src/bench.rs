//! `cargo xtask bench`: measures the release binary beside its floors.

use anyhow::Result;

use crate::{
    process, programs,
    workspace::{Profile, Workspace},
};

/// Builds the binary and the benchmarks for release and runs them; `args` go to the benchmarks.
pub fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    let binary = workspace.layotto(Profile::Release)?;
    let mut bench = workspace.cargo([
        "run",
        "--release",
        "--locked",
        "--package",
        "layotto-bench",
        "--",
        "run",
    ]);
    bench.envs([programs::environment(workspace)?]);
    process::run(bench.arg("--binary").arg(binary).args(args))
}
