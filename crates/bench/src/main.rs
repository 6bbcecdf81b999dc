//! Benchmarks of the `layotto` binary, each beside a floor in the same run.
//!
//! `layotto-bench run --binary target/release/layotto` prints a table in Markdown. The floor is a
//! tonic server that answers the same message and does nothing else. Server processes are pinned
//! to the first processor, the load to the second.

mod cases;
mod engine;
mod floor;
mod load;
mod process;
mod report;
mod upstream;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Benchmarks of the layotto binary beside a raw tonic server")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs every case and prints the table.
    Run {
        /// The binary to measure.
        #[arg(long)]
        binary: PathBuf,
        /// How often each case is measured; the median counts.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Seconds counted in each round.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// Only cases whose name holds this text.
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Serves the floor: a tonic server that greets. Prints its address.
    #[command(hide = true)]
    Floor,
    /// Serves an HTTP echo, as the service behind InvokeService. Prints its address.
    #[command(hide = true)]
    Upstream,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run {
            binary,
            rounds,
            seconds,
            only,
        } => {
            process::pin_current(1);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let options = cases::Options {
                binary,
                rounds,
                seconds,
                only,
            };
            let rows = runtime.block_on(cases::run(&options))?;
            print!("{}", report::markdown(&rows, &options));
            Ok(())
        }
        // One worker thread, as the sidecar has on the one processor that it is pinned to.
        Command::Floor => multi_thread()?.block_on(floor::serve()),
        Command::Upstream => multi_thread()?.block_on(upstream::serve()),
    }
}

fn multi_thread() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}
