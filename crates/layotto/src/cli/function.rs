//! `layotto function`: functions in WebAssembly without a configuration file.

mod invoke;
mod run;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use layotto_core::Registry;

use super::{Failure, StartOptions};
use crate::config::Loaded;

/// Where functions are served, unless a flag says otherwise.
const PORT: &str = "2045";

#[derive(Debug, Args)]
pub(super) struct FunctionArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve functions on this machine until told to stop, and load their files anew as they change
    Run(run::RunArgs),
    /// Call a function over HTTP and print its answer
    Invoke(invoke::InvokeArgs),
}

pub(super) fn function(
    args: FunctionArgs,
    registry: &Registry,
    serve: impl FnOnce(Loaded, StartOptions) -> anyhow::Result<()>,
) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Run(args) => run::run(args, registry, serve),
        Command::Invoke(args) => invoke::invoke(args),
    }
}
