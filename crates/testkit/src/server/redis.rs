//! Redis: one server, with replicas and sentinels, or a cluster.

use std::{net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context, Result, bail};

use super::{Launch, Ready, Server, folder, program, run};
use crate::process::free_address;

const READY: Ready = Ready::Answers {
    ask: "PING\r\n",
    answer: "PONG",
};
/// Where a password is needed, being told so means that the server is there.
const LISTENS: Ready = Ready::Listens;

/// Every write is synced.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// The program that must be there.
pub const PROGRAM: &str = "redis-server";

/// Starts one server that keeps nothing on disk; `arguments` are further ones of `redis-server`.
///
/// # Errors
/// Where it does not start.
pub async fn start(arguments: &[&str]) -> Result<Server> {
    start_at(free_address(), arguments).await
}

/// Starts one server that is back with its data after a crash: every write is synced.
///
/// # Errors
/// Where it does not start.
pub async fn start_durable() -> Result<Server> {
    start(&DURABLE).await
}

/// Starts one server that speaks nothing but TLS; `arguments` name its certificate and key.
///
/// # Errors
/// Where it does not start.
pub async fn start_tls(arguments: &[&str]) -> Result<Server> {
    let address = free_address();
    let port = address.port().to_string();
    let tls = ["--port", "0", "--tls-port", &port];
    start_at(address, &[&tls, arguments].concat()).await
}

async fn start_at(address: SocketAddr, arguments: &[&str]) -> Result<Server> {
    let dir = folder()?;
    let mut all: Vec<String> = Vec::new();
    let port = address.port().to_string();
    let place = dir.path().display().to_string();
    for argument in [
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--dir",
        &place,
        "--save",
        "",
    ] {
        all.push(argument.to_owned());
    }
    all.extend(arguments.iter().map(|&argument| argument.to_owned()));
    let ready = if arguments.contains(&"--requirepass") || arguments.contains(&"--tls-port") {
        LISTENS
    } else {
        READY
    };
    Server::start(address, dir, Launch::new(program(PROGRAM)?, all), ready).await
}

/// Runs `redis-cli` against a server and returns what it printed.
///
/// # Errors
/// Where the server cannot be reached or refuses the command.
pub fn cli(server: &Server, arguments: &[&str]) -> Result<String> {
    let mut cli = Command::new(program("redis-cli")?);
    cli.args(["-e", "-p", &server.address().port().to_string()]);
    run(cli.args(arguments))
}

/// A primary with one replica, watched by three sentinels.
#[derive(Debug)]
pub struct Sentinels {
    /// The primary at first, then its replica.
    pub servers: Vec<Server>,
    /// The sentinels.
    pub sentinels: Vec<Server>,
}

/// The name under which the sentinels watch the primary.
pub const PRIMARY_NAME: &str = "mymaster";

/// For how long writes are held up, in milliseconds: longer than any test needs.
const HELD_MS: &str = "60000";

/// Starts a primary, a replica that has caught up, and three sentinels that take a silent primary for dead after a
/// second.
///
/// # Errors
/// Where one does not start, or the sentinels do not find each other.
pub async fn start_sentinels() -> Result<Sentinels> {
    let at_once = ["--repl-diskless-sync-delay", "0"];
    let primary = start(&[&at_once, &DURABLE[..]].concat()).await?;
    let port = primary.address().port().to_string();
    let replica = start(&["--appendonly", "yes", "--replicaof", "127.0.0.1", &port]).await?;
    until("the replica has what the primary has", || {
        Ok(cli(&primary, &["info", "replication"])?.contains("state=online"))
    })
    .await?;
    let mut sentinels = Vec::new();
    for _ in 0..3 {
        let (address, dir) = (free_address(), folder()?);
        let file = dir.path().join("sentinel.conf");
        let config = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nsentinel monitor {PRIMARY_NAME} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {PRIMARY_NAME} 1000\nsentinel failover-timeout {PRIMARY_NAME} 2000\n",
            address.port(),
            dir.path().display()
        );
        std::fs::write(&file, config)?;
        let arguments = [file.display().to_string(), "--sentinel".to_owned()];
        sentinels.push(Server::start(address, dir, Launch::new(program(PROGRAM)?, arguments), READY).await?);
    }
    for sentinel in &sentinels {
        until("the sentinels know each other and the replica", || {
            let told = cli(sentinel, &["sentinel", "master", PRIMARY_NAME])?;
            Ok(field(&told, "num-other-sentinels") == Some("2") && field(&told, "num-slaves") == Some("1"))
        })
        .await?;
    }
    Ok(Sentinels {
        servers: vec![primary, replica],
        sentinels,
    })
}

/// The address that a sentinel calls the primary's.
///
/// # Errors
/// Where the sentinel cannot be reached or knows none.
pub fn primary(sentinel: &Server) -> Result<SocketAddr> {
    let told = cli(sentinel, &["sentinel", "get-master-addr-by-name", PRIMARY_NAME])?;
    let address = told.lines().collect::<Vec<_>>().join(":");
    address.parse().with_context(|| format!("no address: {told}"))
}

/// Holds up what would write to `primary`, and waits until `replica` has all that was written before:
/// what `primary` answered to then outlives it.
///
/// # Errors
/// Where one of them cannot be reached, or the replica does not catch up.
pub async fn hold_writes(primary: &Server, replica: &Server) -> Result<()> {
    cli(primary, &["client", "pause", HELD_MS, "write"])?;
    let offset = |server, name: &str| -> Result<Option<String>> {
        let told = cli(server, &["info", "replication"])?;
        let mut values = told.lines().filter_map(|line| line.split_once(':'));
        let found = values.find(|(found, _)| *found == name);
        Ok(found.map(|(_, value)| value.trim().to_owned()))
    };
    until("the replica has what the primary wrote", || {
        let written = offset(primary, "master_repl_offset")?;
        Ok(written.is_some() && written == offset(replica, "slave_repl_offset")?)
    })
    .await
}

/// The line after the one that says `name`.
fn field<'a>(told: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = told.lines();
    lines.find(|line| *line == name)?;
    lines.next()
}

/// Starts a cluster of three primaries.
///
/// # Errors
/// Where one does not start, or the cluster does not form.
pub async fn start_cluster() -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for _ in 0..3 {
        let bus = free_address().port().to_string();
        servers.push(start(&["--cluster-enabled", "yes", "--cluster-port", &bus]).await?);
    }
    let first = servers.first().context("no server")?;
    let addresses = servers.iter().map(|server| server.address().to_string());
    let mut create = Command::new(program("redis-cli")?);
    create
        .args(["--cluster", "create"])
        .args(addresses)
        .arg("--cluster-yes");
    run(&mut create)?;
    for server in &servers {
        until("the cluster is whole", || {
            Ok(cli(server, &["cluster", "info"])?.contains("cluster_state:ok"))
        })
        .await?;
    }
    cli(first, &["cluster", "slots"])?;
    Ok(servers)
}

async fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..500 {
        if holds()? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("waited 10 s in vain until {what}")
}
