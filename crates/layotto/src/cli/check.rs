//! `layotto check`: everything that is wrong with a file, nothing opened.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use layotto_core::Registry;

use super::{Failure, print, start};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Configuration file, JSON or YAML [default: configs/config.json if it is there, else built in]
    #[arg(short, long, env = "RUNTIME_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn check(args: &CheckArgs, registry: &Registry) -> Result<ExitCode, Failure> {
    let report = match start::load(args.config.as_deref(), registry) {
        Ok(loaded) => loaded.report,
        Err(report) => report,
    };
    print(&report)?;
    if report.is_clean() {
        return print("the configuration is fit to start with\n");
    }
    let found = report.errors.len() + report.unknown.len() + report.unsupported.len();
    print(format_args!("{found} found\n"))?;
    Ok(ExitCode::from(3))
}
