//! Benchmarks of the `layotto` binary, each beside a floor in the same run.
//!
//! `layotto-bench run --binary target/release/layotto` prints a table in Markdown. The floor is a
//! tonic server that answers the same message and does nothing else. Server processes are pinned
//! to the first processor, the load to the second. The part `proxy` measures the data plane beside
//! other proxies, the part `stores` back ends beside their clients alone, the part `functions`
//! functions beside a route of the same process; `cargo xtask tools` gets the proxies and the
//! products.

mod cases;
mod engine;
mod floor;
mod functions;
mod load;
mod process;
mod proxy;
mod report;
mod stores;
mod upstream;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

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
        /// Which part.
        #[arg(long, value_enum, default_value_t = Part::All)]
        part: Part,
    },
    /// Copies bytes between clients of an address and a host: the floor of proxies.
    #[command(hide = true)]
    Copy {
        /// Where clients connect.
        address: SocketAddr,
        /// Where the bytes go.
        host: SocketAddr,
    },
    /// Serves answers of any size over HTTP, as the service behind proxies. Prints its address.
    #[command(hide = true)]
    Origin,
    /// Serves the floor: a tonic server that greets. Prints its address.
    #[command(hide = true)]
    Floor,
    /// Serves state in Redis with nothing around it: the floor of that back end. Prints its address.
    #[command(hide = true)]
    RedisFloor {
        /// Where Redis listens.
        redis: SocketAddr,
    },
    /// Serves an HTTP echo, as the service behind InvokeService. Prints its address.
    #[command(hide = true)]
    Upstream,
}

/// A part of the benchmarks.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// All of them.
    All,
    /// The runtime API, beside a raw tonic server.
    Runtime,
    /// The data plane, beside other proxies.
    Proxy,
    /// Back ends, beside their clients alone.
    Stores,
    /// Functions in WebAssembly, beside a route of the same process.
    Functions,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run {
            binary,
            rounds,
            seconds,
            only,
            part,
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
            print!("{}", report::facts(&options));
            if matches!(part, Part::All | Part::Runtime) {
                let rows = runtime.block_on(cases::run(&options))?;
                print!("\n{}", report::markdown(&rows));
            }
            if matches!(part, Part::All | Part::Proxy) {
                let lines = runtime.block_on(proxy::run(&options))?;
                print!("\n{}", proxy::table::markdown(&lines));
            }
            if matches!(part, Part::All | Part::Stores) {
                let rows = runtime.block_on(stores::run(&options))?;
                print!("\n{}", report::markdown(&rows));
            }
            if matches!(part, Part::All | Part::Functions) {
                let lines = runtime.block_on(functions::run(&options))?;
                print!("\n{}", functions::table::markdown(&lines));
            }
            Ok(())
        }
        // One worker thread, as the sidecar has on the one processor that it is pinned to.
        Command::Floor => multi_thread()?.block_on(floor::serve()),
        Command::RedisFloor { redis } => multi_thread()?.block_on(stores::floor::serve(redis)),
        Command::Upstream => multi_thread()?.block_on(upstream::serve()),
        Command::Origin => multi_thread()?.block_on(layotto_peers::origin::serve()),
        Command::Copy { address, host } => {
            multi_thread()?.block_on(layotto_peers::proxy::serve_copy(address, host))
        }
    }
}

fn multi_thread() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}
