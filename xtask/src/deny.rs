//! Licences, bans and sources of every dependency, by cargo-deny and `deny.toml`.

use anyhow::Result;

use crate::{process, step::Outcome, workspace::Workspace};

/// Runs cargo-deny where it is installed. Advisories are left out: their database is fetched
/// from the network, and a check must not change its mind without a change here.
pub fn check(workspace: &Workspace) -> Result<Outcome> {
    if process::which("cargo-deny").is_none() {
        return Ok(Outcome::Skipped(
            "cargo-deny is not installed (cargo install cargo-deny --locked)".to_owned(),
        ));
    }
    process::run(&mut workspace.cargo(["deny", "--locked", "check", "licenses", "bans", "sources"]))?;
    Ok(Outcome::Done(String::new()))
}
