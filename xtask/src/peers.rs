//! Tests of the data plane with programs that others wrote: `crates/peers`.

mod tools;

use std::{env, ffi::OsString, process::Command};

use anyhow::Result;

use self::tools::Folder;
use crate::{
    process,
    step::Outcome,
    test::{self, report::Report},
    workspace::{Profile, Workspace},
};

const PACKAGE: &str = "layotto-peers";
/// Where `crates/peers` finds the programs, and the binary under test.
const TOOLS: &str = "LAYOTTO_TOOLS";
const BINARY: &str = "LAYOTTO_BINARY";
/// Names another proxy to ask the same of, such as `envoy`.
const PROXY: &str = "LAYOTTO_PEERS_PROXY";

/// Gets all foreign programs; true when none is missing.
pub fn get_tools(workspace: &Workspace) -> Result<bool> {
    let folder = Folder::of(workspace)?;
    let missing = tools::ensure(&folder)?;
    for line in &missing {
        println!("missing: {line}");
    }
    println!("{}", folder.path().join("bin").display());
    Ok(missing.is_empty())
}

/// What a program needs in its environment to find the foreign programs; gets them.
pub fn environment(workspace: &Workspace) -> Result<Vec<(&'static str, OsString)>> {
    let folder = Folder::of(workspace)?;
    tools::ensure(&folder)?;
    Ok(vec![(TOOLS, folder.path().as_os_str().to_owned())])
}

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
    peers.arg("test").envs(environment(workspace)?);
    match env::var_os(PROXY) {
        Some(proxy) => peers.arg("--proxy").arg(proxy),
        None => peers.env(BINARY, workspace.layotto(profile)?),
    };
    Ok(peers)
}
