//! The floor: bytes copied in both directions, connection by connection.

use std::{net::SocketAddr, process::Command};

use anyhow::Result;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use super::Plan;

/// The program that calls this must have the subcommand `copy`.
pub fn arguments(command: &mut Command, address: SocketAddr, plan: &Plan) {
    command.arg("copy").arg(address.to_string());
    command.args(plan.hosts.first().map(ToString::to_string));
}

/// Copies between clients of `address` and `host` until killed.
///
/// # Errors
/// Where `address` cannot be listened on.
pub async fn serve(address: SocketAddr, host: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (mut client, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut server = TcpStream::connect(host).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}
