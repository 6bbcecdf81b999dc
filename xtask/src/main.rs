//! `cargo xtask`: the checks, tests, benchmarks and generators of this workspace.

mod api_matrix;
mod bench;
mod check;
mod clients;
mod configs;
mod deny;
mod deviations;
mod directions;
mod doc_blocks;
mod functions;
mod generated;
mod peers;
mod process;
mod programs;
mod server;
mod soak;
mod step;
mod test;
mod tools;
mod tree;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Checks, tests, benchmarks and generators of this workspace.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs every check that is not a test, or only the named ones.
    Check {
        /// Names of steps; all when there are none.
        steps: Vec<String>,
    },
    /// Runs every check and every test, or only the named ones.
    Test {
        /// Names of steps; all when there are none.
        steps: Vec<String>,
    },
    /// Runs the long scenarios in full.
    Soak {
        /// Only scenarios whose name contains this.
        filter: Option<String>,
    },
    /// Gets the programs of others that tests and benchmarks use, to the cache folder.
    Tools,
    /// Builds the examples of functions, or only those in the named languages.
    BuildFunctions {
        /// rust, cpp, assemblyscript, go; all when there are none.
        languages: Vec<String>,
    },
    /// Writes the generated parts of the docs.
    GenDocs,
    /// Calls every method of the contract and prints code and text.
    ApiMatrix(api_matrix::Args),
    /// Runs the benchmarks; arguments go to the benchmark binary.
    #[command(disable_help_flag = true)]
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything the command looked at is well.
fn run(command: Command) -> Result<bool> {
    let workspace = Workspace::find()?;
    match command {
        Command::Check { steps } => check::run(&workspace, &steps),
        Command::Test { steps } => test::run(&workspace, &steps),
        Command::Soak { filter } => soak::run(&workspace, filter.as_deref()).map(|()| true),
        Command::Tools => programs::get(&workspace),
        Command::BuildFunctions { languages } => functions::build(&workspace, &languages),
        Command::GenDocs => generated::write(&workspace).map(|()| true),
        Command::ApiMatrix(args) => api_matrix::run(&workspace, &args),
        Command::Bench { args } => bench::run(&workspace, &args).map(|()| true),
    }
}
