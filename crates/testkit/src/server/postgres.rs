//! PostgreSQL: one server.

use std::process::Command;

use anyhow::Result;

use super::{Launch, Ready, Server, folder, program, run};
use crate::process::free_address;

/// The program that must be there.
pub const PROGRAM: &str = "postgres";

/// Starts one server with the user and the database `postgres`, without a password; `arguments`
/// are further ones of `postgres`.
///
/// # Errors
/// Where it does not start.
pub async fn start(arguments: &[&str]) -> Result<Server> {
    let (address, dir) = (free_address(), folder()?);
    let data = dir.path().join("data").display().to_string();
    let sockets = dir.path().display().to_string();
    let mut initdb = Command::new(program("initdb")?);
    initdb.args([
        "-D",
        &data,
        "-A",
        "trust",
        "-U",
        "postgres",
        "-E",
        "UTF8",
        "--no-sync",
    ]);
    run(&mut initdb)?;
    let port = address.port().to_string();
    let mut all = vec!["-D", &data, "-p", &port, "-h", "127.0.0.1", "-k", &sockets];
    all.extend(["-c", "max_connections=200"]);
    all.extend(arguments);
    let launch = Launch::new(program(PROGRAM)?, all);
    Server::start(address, dir, launch, Ready::Prints("ready to accept connections")).await
}

/// The connection string of a server's user and database `postgres`.
pub fn url(server: &Server) -> String {
    format!("postgres://postgres@{}/postgres", server.address())
}

/// Runs one statement with `psql` and returns the rows, columns parted by `|`.
///
/// # Errors
/// Where the server cannot be reached or refuses the statement.
pub fn psql(server: &Server, statement: &str) -> Result<String> {
    let mut psql = Command::new(program("psql")?);
    let port = server.address().port().to_string();
    psql.args([
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-U",
        "postgres",
        "-XAt",
        "-c",
        statement,
    ]);
    run(&mut psql)
}
