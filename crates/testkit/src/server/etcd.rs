//! etcd: one node or three.

use std::{net::SocketAddr, process::Command, sync::Arc};

use anyhow::Result;
use tempfile::TempDir;

use super::{Launch, Ready, Server, folder, program, run};
use crate::{certificates::Authority, process::free_address};

const READY: Ready = Ready::Answers {
    ask: "GET /health HTTP/1.0\r\n\r\n",
    answer: "\"true\"",
};

/// The program that must be there.
pub const PROGRAM: &str = "etcd";

/// Starts one node; `arguments` are further ones of `etcd`.
///
/// # Errors
/// Where it does not start.
pub async fn start(arguments: &[&str]) -> Result<Server> {
    let peer = free_address();
    let (address, dir, launch) = launch("n0", peer, &format!("n0=http://{peer}"), arguments)?;
    Server::start(address, dir, launch, READY).await
}

/// Starts one node that speaks TLS, with a certificate of `authority`, and wants such a certificate
/// of its clients.
///
/// # Errors
/// Where it does not start.
pub async fn start_secure(authority: &Authority) -> Result<Server> {
    let peer = free_address();
    let arguments = [
        "--client-cert-auth",
        "--cert-file",
        "own.crt",
        "--key-file",
        "own.key",
        "--trusted-ca-file",
        "ca.crt",
    ];
    let (address, dir, launch) = launch("n0", peer, &format!("n0=http://{peer}"), &arguments)?;
    let own = authority.certify(&["127.0.0.1", "localhost"]);
    for (name, text) in [
        ("own.crt", &own.chain),
        ("own.key", &own.key),
        ("ca.crt", &authority.pem),
    ] {
        std::fs::write(dir.path().join(name), text)?;
    }
    // It asks for a certificate before it says anything.
    let ready = Ready::Prints("ready to serve client requests");
    Server::start(address, dir, launch, ready).await
}

/// Starts three nodes of one cluster.
///
/// # Errors
/// Where they do not start.
pub async fn start_three() -> Result<Vec<Server>> {
    let peers = [free_address(), free_address(), free_address()];
    let named: Vec<_> = peers
        .iter()
        .enumerate()
        .map(|(number, peer)| format!("n{number}=http://{peer}"))
        .collect();
    let cluster = named.join(",");
    let mut starting = Vec::new();
    for (number, peer) in peers.into_iter().enumerate() {
        let (address, dir, launch) = launch(&format!("n{number}"), peer, &cluster, &[])?;
        // None is ready alone.
        starting.push(Server::start(address, dir, launch, READY));
    }
    futures::future::try_join_all(starting).await
}

fn launch(
    name: &str,
    peer: SocketAddr,
    cluster: &str,
    arguments: &[&str],
) -> Result<(SocketAddr, Arc<TempDir>, Launch)> {
    let (address, dir) = (free_address(), folder()?);
    let scheme = if arguments.contains(&"--cert-file") {
        "https"
    } else {
        "http"
    };
    let client = format!("{scheme}://{address}");
    let peer = format!("http://{peer}");
    let place = dir.path().join("data").display().to_string();
    let mut all = Vec::new();
    for argument in [
        "--name",
        name,
        "--data-dir",
        &place,
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
        "--initial-cluster",
        cluster,
    ] {
        all.push(argument.to_owned());
    }
    all.extend(arguments.iter().map(|&argument| argument.to_owned()));
    Ok((address, dir, Launch::new(program(PROGRAM)?, all)))
}

/// Runs `etcdctl` against a node and returns what it printed.
///
/// # Errors
/// Where the node cannot be reached or refuses the command.
pub fn ctl(server: &Server, arguments: &[&str]) -> Result<String> {
    let mut ctl = Command::new(program("etcdctl")?);
    ctl.env("ETCDCTL_API", "3");
    ctl.arg(format!("--endpoints={}", server.address()));
    run(ctl.args(arguments))
}
