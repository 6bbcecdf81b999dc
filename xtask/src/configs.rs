//! Every example configuration loads.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};

use crate::{
    process,
    step::Outcome,
    workspace::{Profile, Workspace, no_problems},
};

const FOLDER: &str = "examples";

/// Runs `layotto check` on each `examples/*/config.{json,yaml}`.
pub fn check(workspace: &Workspace) -> Result<Outcome> {
    let mut configs = workspace.files(FOLDER, "json")?;
    configs.extend(workspace.files(FOLDER, "yaml")?);
    configs.retain(|path| path.file_stem().is_some_and(|stem| stem == "config"));
    ensure!(!configs.is_empty(), "no {FOLDER}/*/config.json or config.yaml");
    let layotto = workspace.layotto(Profile::Debug)?;
    let data_dir = tempfile::tempdir()?;
    let problems: Vec<_> = configs
        .iter()
        .filter_map(|config| check_one(workspace, &layotto, config, data_dir.path()).err())
        .map(|error| format!("{error:#}"))
        .collect();
    no_problems(&problems)?;
    Ok(Outcome::Done(format!("{} configurations", configs.len())))
}

fn check_one(workspace: &Workspace, layotto: &Path, config: &Path, data_dir: &Path) -> Result<()> {
    let mut check = Command::new(layotto);
    check
        .current_dir(workspace.root())
        .env("LAYOTTO_DATA_DIR", data_dir);
    check.args(["check", "-c"]).arg(workspace.relative(config));
    process::capture(&mut check)?;
    Ok(())
}
