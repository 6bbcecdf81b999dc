//! The data plane beside other proxies: the same plan, the same load, in turns.
//!
//! Every proxy has one worker, on the first processor; load and back ends are on the second.

mod cost;
mod dump;
mod idle;
mod invoke;
pub mod table;

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use layotto_peers::{
    load::grpc,
    proxy::{Kind, Plan, prepare},
};
use layotto_proto::runtime::v1::SayHelloRequest;
use prost::Message;
use tempfile::TempDir;
use tokio::{net::TcpStream, time::sleep};

use self::table::Line;
use crate::{cases::Options, process::Server};

/// Longest wait for a proxy to listen.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
/// What the floor of gRPC answers.
const METHOD: &str = "/spec.proto.runtime.v1.Runtime/SayHello";

/// Runs every case that `options` wants.
pub async fn run(options: &Options) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (name, size) in [("gRPC, 100 B", 100), ("gRPC, 1 KB", 1000)] {
        if options.wants(name) {
            lines.push(cost::grpc(options, name, size).await?);
        }
    }
    if options.wants("HTTP/1.1, 100 B") {
        lines.push(cost::http1(options, "HTTP/1.1, 100 B").await?);
    }
    if options.wants("added p50") {
        lines.push(cost::added_latency(options, "gRPC, one call at a time: added p50").await?);
    }
    if options.wants("routes") {
        lines.push(cost::routes(options, "routes, 10 to 10,000: growth of p50").await?);
    }
    if options.wants("connection") {
        lines.extend(idle::connections(options).await?);
    }
    if options.wants("in-process") {
        lines.extend(invoke::in_process(options).await?);
    }
    if options.wants("traffic dump") {
        lines.extend(dump::costs(options).await?);
    }
    Ok(lines)
}

/// A proxy on the first processor.
struct Running {
    server: Server,
    address: SocketAddr,
    /// Holds its files.
    _folder: TempDir,
}

/// Starts `kind` unless it is missing; the inner error is the reason.
async fn start(options: &Options, kind: Kind, plan: &Plan) -> Result<Result<Running, String>> {
    let program = match kind {
        Kind::Layotto => Ok(options.binary.clone()),
        other => other.program(),
    };
    let mut prepared = match program {
        Ok(program) => prepare(kind, &program, plan)?,
        Err(reason) => return Ok(Err(reason)),
    };
    let mut server = Server::start(&mut prepared.command, prepared.address.to_string())?;
    if let Err(error) = listens(&mut server, prepared.address).await {
        return Ok(Err(error.to_string()));
    }
    Ok(Ok(Running {
        address: prepared.address,
        server,
        _folder: prepared.folder,
    }))
}

/// Waits until `server` listens at `address`.
pub async fn listens(server: &mut Server, address: SocketAddr) -> Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        ensure!(server.is_alive(), "it ended instead of listening");
        ensure!(begun.elapsed() < PATIENCE, "it does not listen");
        sleep(POLL).await;
    }
    Ok(())
}

/// The tonic server that greets, beside the load.
fn greeter() -> Result<(Server, SocketAddr)> {
    back_end("floor")
}

/// The HTTP server with answers of any size, beside the load.
fn origin() -> Result<(Server, SocketAddr)> {
    back_end("origin")
}

fn back_end(subcommand: &str) -> Result<(Server, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    let server = Server::start_printing_on(1, command.arg(subcommand))?;
    let address = server.address.parse()?;
    Ok((server, address))
}

/// A greeting with a name of `size` bytes, as gRPC sends it.
fn greeting(size: usize) -> Bytes {
    let request = SayHelloRequest {
        service_name: "helloworld".into(),
        name: "x".repeat(size),
        data: None,
    };
    grpc::message(&request.encode_to_vec())
}
