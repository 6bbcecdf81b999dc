//! Crates that must not be in the shipped tree.

use anyhow::Result;

use crate::{
    process,
    step::Outcome,
    workspace::{Workspace, no_problems},
};

/// Each needs a C toolchain beyond `cc`, or a system library, on every machine that builds.
const BANNED: &[&str] = &["aws-lc-rs", "aws-lc-sys", "native-tls", "openssl", "openssl-sys"];

/// Looks for banned crates among what the default features build, tests included.
pub fn check(workspace: &Workspace) -> Result<Outcome> {
    let mut tree = workspace.cargo([
        "tree",
        "--workspace",
        "--locked",
        "--edges",
        "all",
        "--prefix",
        "none",
    ]);
    let tree = process::capture(tree.args(["--format", "{p}"]))?;
    let problems: Vec<_> = banned(&tree)
        .into_iter()
        .map(|name| reason(workspace, name))
        .collect();
    no_problems(&problems)?;
    let mut packages: Vec<_> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    packages.sort_unstable();
    packages.dedup();
    Ok(Outcome::Done(format!("{} packages", packages.len())))
}

fn banned(tree: &str) -> Vec<&'static str> {
    let has = |name: &str| tree.lines().any(|line| line.split(' ').next() == Some(name));
    BANNED.iter().copied().filter(|name| has(name)).collect()
}

fn reason(workspace: &Workspace, name: &str) -> String {
    let mut why = workspace.cargo([
        "tree",
        "--workspace",
        "--locked",
        "--edges",
        "all",
        "--invert",
        name,
    ]);
    let path = process::capture(&mut why).unwrap_or_else(|error| error.to_string());
    format!("{name} is in the tree:\n{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banned_crate_is_found_by_its_whole_name() {
        assert_eq!(
            banned("tokio v1.54.1\naws-lc-sys v0.30.0\nopenssl-probe v0.1.6"),
            ["aws-lc-sys"]
        );
    }
}
