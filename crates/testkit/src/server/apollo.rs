//! Apollo: its own mock of the configuration service, which reads and pushes, and a stand-in of ours
//! for what the mock leaves out. The product itself is not among the programs.

mod stand_in;

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
};

use anyhow::{Context, Result, ensure};

pub use self::stand_in::StandIn;
use super::{Launch, Ready, Server, folder, program};
use crate::process::free_address;

/// The program that must be there.
pub const PROGRAM: &str = "apollo-java";

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/java/ApolloMock.java");
const READY: &str = "configuration service at http";

/// Apollo's mock. It takes every application and cluster for the same, gives every release the same
/// key, and has the namespaces that it was started with.
#[derive(Debug)]
pub struct Mock {
    server: Server,
    url: String,
}

impl Mock {
    /// Starts it with `namespaces`, each empty but for one item `start`.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn start(namespaces: &[&str]) -> Result<Self> {
        let (address, dir) = (free_address(), folder()?);
        for namespace in namespaces {
            let file = format!("mockdata-{namespace}.properties");
            std::fs::write(dir.path().join(file), "start=1\n")?;
        }
        let resources = format!("-Xbootclasspath/a:{}", dir.path().display());
        let port = address.port().to_string();
        ensure!(Path::new(SOURCE).is_file(), "{SOURCE} is not there");
        let arguments = ["-Xmx128m", "-XX:+UseSerialGC", &resources, SOURCE, &port];
        let launch = Launch::new(program(PROGRAM)?, arguments);
        let server = Server::start(address, dir, launch, Ready::Prints(READY)).await?;
        let output = server.output();
        let url = output
            .split_whitespace()
            .find(|word| word.starts_with("http://localhost:"));
        let url = url.context("it does not say where it is")?.to_owned();
        Ok(Self { server, url })
    }

    /// Where its configuration service is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sets an item and tells those who wait.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn set(&self, namespace: &str, key: &str, value: &str) -> Result<()> {
        self.command(&["set", namespace, key, value])
    }

    /// Removes an item and tells those who wait.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn delete(&self, namespace: &str, key: &str) -> Result<()> {
        self.command(&["delete", namespace, key])
    }

    fn command(&self, parts: &[&str]) -> Result<()> {
        let mut stream = TcpStream::connect(self.server.address())?;
        stream.write_all(format!("{}\n", parts.join("\t")).as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        ensure!(answer == "done\n", "it answers {answer:?}");
        Ok(())
    }
}
