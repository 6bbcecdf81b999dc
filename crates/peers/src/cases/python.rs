//! Pairs of client and server in Python: gRPC by grpcio, WebSocket by websockets.

use std::net::SocketAddr;

use anyhow::Result;
use layotto_peers::{
    process::{Process, free_address},
    proxy::{Plan, Protocol, Proxy},
};
use tempfile::TempDir;

use super::{succeed, tool};
use crate::runner::Case;

const PYTHON: &str = "peer-python";
const GRPC: &str = include_str!("../../python/grpc_pair.py");
const WEBSOCKET: &str = include_str!("../../python/websocket_pair.py");

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("python::grpc_pair", &[PYTHON], |lab| async move {
            let (_pair, server) = serve(GRPC, |address| vec![address.to_string()]).await?;
            let proxy = Proxy::start(lab.kind, &Plan::of(Protocol::Http2, server)).await?;
            succeed(PYTHON, ["-c", GRPC, "call", &proxy.address.to_string()]).await?;
            Ok(())
        }),
        Case::new("python::websocket_pair", &[PYTHON], |lab| async move {
            let (_pair, server) = serve(WEBSOCKET, host_and_port).await?;
            let proxy = Proxy::start(lab.kind, &Plan::of(Protocol::Http1, server)).await?;
            let port = proxy.address.port().to_string();
            succeed(PYTHON, ["-c", WEBSOCKET, "call", "127.0.0.1", &port]).await?;
            Ok(())
        }),
    ]
}

fn host_and_port(address: SocketAddr) -> Vec<String> {
    vec![address.ip().to_string(), address.port().to_string()]
}

async fn serve(
    script: &str,
    place: impl Fn(SocketAddr) -> Vec<String>,
) -> Result<((Process, TempDir), SocketAddr)> {
    let folder = tempfile::tempdir()?;
    let address = free_address();
    let mut server = std::process::Command::new(tool(PYTHON)?);
    server.args(["-c", script, "serve"]).args(place(address));
    let mut server = Process::start(&mut server, folder.path().join("server"))?;
    server.wait_for(address).await?;
    Ok(((server, folder), address))
}
