//! Whole-process tests of a proxy with clients and servers that others wrote.
//!
//! `layotto-peers test` runs them against `layotto` (the program in `LAYOTTO_BINARY`) and prints
//! lines as Rust's test runner does. `--proxy envoy` asks the same of another proxy, which shows
//! whether a test is right. `--soak` runs the long ones in full.

mod cases;
mod runner;

use std::{net::SocketAddr, process::ExitCode};

use clap::{Parser, Subcommand};
use layotto_peers::{
    origin, process,
    proxy::{self, Kind},
};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the tests.
    Test(Options),
    /// Copies bytes between clients of an address and a host.
    #[command(hide = true)]
    Copy {
        /// Where clients connect.
        address: SocketAddr,
        /// Where the bytes go.
        host: SocketAddr,
    },
    /// Serves the back end of the tests. Prints its address.
    #[command(hide = true)]
    Origin,
}

/// Which tests, and of what.
#[derive(clap::Args)]
pub struct Options {
    /// The proxy under test: layotto, envoy, haproxy, nginx.
    #[arg(long, default_value = "layotto")]
    proxy: Kind,
    /// Only the long ones, in full.
    #[arg(long)]
    soak: bool,
    /// Only those whose name holds this text.
    #[arg(default_value = "")]
    filter: String,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match arguments.command {
            Command::Test(options) => {
                process::raise_file_limit();
                let passed = runner::run(cases::all(), &options).await;
                Ok(if passed {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                })
            }
            Command::Copy { address, host } => {
                proxy::serve_copy(address, host).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Origin => {
                origin::serve().await?;
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}
