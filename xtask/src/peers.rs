//! Tests of the data plane with programs that others wrote: `crates/peers`.

use std::{env, process::Command};

use anyhow::Result;

use crate::{
    process, programs,
    step::Outcome,
    test::{self, report::Report},
    workspace::{Profile, Workspace},
};

const PACKAGE: &str = "layotto-peers";
/// Where `crates/peers` finds the binary under test.
const BINARY: &str = "LAYOTTO_BINARY";
/// Names another proxy to ask the same of, such as `envoy`.
const PROXY: &str = "LAYOTTO_PEERS_PROXY";

/// The step of `cargo xtask test`: every case, the long ones shortened.
pub fn check(workspace: &Workspace) -> Result<Outcome> {
    let mut report = Report::default();
    let status = test::stream(&mut command(workspace, Profile::Debug)?, &mut report);
    report.print_skipped();
    status?;
    Ok(Outcome::Done(report.totals()))
}

/// The long cases in full, of the build that users run.
pub fn soak(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    let mut peers = command(workspace, Profile::Release)?;
    process::run(peers.arg("--soak").args(filter))
}

/// The tests, built, with all they need; `profile` is that of the binary under test.
fn command(workspace: &Workspace, profile: Profile) -> Result<Command> {
    let mut build = workspace.cargo(["build", "--quiet", "--locked", "--package", PACKAGE]);
    process::run(&mut build)?;
    let mut peers = Command::new(workspace.bin_dir(Profile::Debug).join(PACKAGE));
    peers.arg("test").envs([programs::environment(workspace)?]);
    match env::var_os(PROXY) {
        Some(proxy) => peers.arg("--proxy").arg(proxy),
        None => peers.env(BINARY, workspace.layotto(profile)?),
    };
    Ok(peers)
}
