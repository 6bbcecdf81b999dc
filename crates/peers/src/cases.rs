//! What is asked of the proxy.

mod abuse;
mod back_ends;
mod change;
mod curl;
mod h2spec;
mod idle;
mod interop;
mod overload;
mod python;
mod requests;
mod wasm;

use std::{ffi::OsStr, path::PathBuf, process::Output, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use layotto_peers::programs;

use crate::runner::Case;

/// Longest run of a foreign client.
const CLIENT_LIMIT: Duration = Duration::from_secs(120);

/// Every case.
pub fn all() -> Vec<Case> {
    [
        curl::cases(),
        back_ends::cases(),
        requests::cases(),
        interop::cases(),
        python::cases(),
        h2spec::cases(),
        overload::cases(),
        change::cases(),
        idle::cases(),
        abuse::cases(),
        wasm::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn tool(program: &str) -> Result<PathBuf> {
    programs::find(program).map_err(|reason| anyhow!(reason))
}

/// Runs a program to its end.
async fn output<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<Output> {
    let mut command = tokio::process::Command::new(tool(program)?);
    command.args(arguments).kill_on_drop(true);
    tokio::time::timeout(CLIENT_LIMIT, command.output())
        .await
        .with_context(|| format!("{program} did not end"))?
        .with_context(|| format!("cannot run {program}"))
}

/// Runs a program that must end with status 0; returns what it printed.
async fn succeed<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<String> {
    let output = output(program, arguments).await?;
    let printed = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(output.status.success(), "{program}: {}\n{printed}", output.status);
    Ok(printed)
}
