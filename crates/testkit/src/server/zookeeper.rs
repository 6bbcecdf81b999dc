//! ZooKeeper: one server.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;
use tempfile::TempDir;

use super::{Launch, Ready, Server, folder, program, says};
use crate::{
    certificates::{Authority, Certified},
    process::free_address,
};

/// The program that must be there.
pub const PROGRAM: &str = "zookeeper-java";

/// The class that tells the version.
pub const VERSION: &str = "org.apache.zookeeper.version.VersionInfoMain";

/// A command and what its answer contains once the server takes work.
const SERVES: (&str, &str) = ("srvr", "Mode: ");

/// The most bytes of a request, by `jute.maxbuffer`: four times the default.
pub const MAX_REQUEST: usize = 4 << 20;

/// For [`start_with`]: only clients that logged in by `digest` are served.
pub const LOGIN_REQUIRED: &str = "enforce.auth.enabled=true\nenforce.auth.schemes=digest\n";
/// For [`start_with`]: nobody can log in by `digest`.
pub const LOGIN_REFUSED: &str = "DigestAuthenticationProvider.enabled=false\n";

/// Starts one server. Its tick is 100 ms, so that sessions as short as 200 ms are granted.
///
/// # Errors
/// Where it does not start.
pub async fn start() -> Result<Server> {
    start_with("").await
}

/// Starts one server that speaks TLS as well, at the second address. It asks its clients for
/// certificates of `authority` if `mutual`.
///
/// # Errors
/// Where it does not start.
pub async fn start_tls(
    certified: &Certified,
    authority: &Authority,
    mutual: bool,
) -> Result<(Server, SocketAddr)> {
    let (address, dir) = (free_address(), folder()?);
    let (keys, authorities) = (dir.path().join("keys.pem"), dir.path().join("authorities.pem"));
    std::fs::write(&keys, format!("{}{}", certified.key, certified.chain))?;
    std::fs::write(&authorities, &authority.pem)?;
    let lines = [
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory".to_owned(),
        format!("secureClientPort={}", address.port()),
        "secureClientPortAddress=127.0.0.1".to_owned(),
        format!("ssl.keyStore.location={}", keys.display()),
        "ssl.keyStore.type=PEM".to_owned(),
        format!("ssl.trustStore.location={}", authorities.display()),
        "ssl.trustStore.type=PEM".to_owned(),
        format!("ssl.clientAuth={}", if mutual { "need" } else { "none" }),
    ];
    let server = start_in(dir, &lines.join("\n")).await?;
    Ok((server, address))
}

/// Starts one server with further lines of its configuration.
///
/// # Errors
/// Where it does not start.
pub async fn start_with(lines: &str) -> Result<Server> {
    start_in(folder()?, lines).await
}

async fn start_in(dir: Arc<TempDir>, lines: &str) -> Result<Server> {
    let address = free_address();
    let config = format!(
        "tickTime=100\nminSessionTimeout=200\nmaxSessionTimeout=120000\ndataDir={}\nclientPort={}\n\
         clientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=*\nmaxClientCnxns=0\n{lines}\n",
        dir.path().join("data").display(),
        address.port()
    );
    let file = dir.path().join("zoo.cfg");
    std::fs::write(&file, config)?;
    let file = file.display().to_string();
    let main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
    let max_request = format!("-Djute.maxbuffer={MAX_REQUEST}");
    let arguments = ["-Xmx128m", "-XX:+UseSerialGC", &max_request, main, &file];
    let launch = Launch::new(program(PROGRAM)?, arguments);
    let (ask, answer) = SERVES;
    let ready = Ready::Answers { ask, answer };
    Server::start(address, dir, launch, ready).await
}

/// Whether the server takes work.
#[must_use]
pub fn serves(server: &Server) -> bool {
    let (ask, answer) = SERVES;
    says(server.address(), ask, answer)
}
