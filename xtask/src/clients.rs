//! The published clients of the runtime API against this server.
//!
//! `tests/clients/node` is an npm package whose `npm test` is run, `tests/clients/java` a Maven
//! project of dependencies beside single-file programs, each of which is run. Both get the server's
//! address in `LAYOTTO_ADDRESS`. They are run from a copy beside the build, where what they need
//! is downloaded to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    process,
    server::Server,
    step::Outcome,
    tools::{JAVA, MAVEN, NODE, NPM, Tool},
    workspace::{Profile, Workspace},
};

const ADDRESS: &str = "LAYOTTO_ADDRESS";

/// One client library.
struct Client {
    name: &'static str,
    folder: &'static str,
    tools: &'static [&'static Tool],
    /// Names what is downloaded: when it changes, it is downloaded anew.
    manifest: &'static str,
    download: fn(&Path) -> Command,
    run: fn(&Path, &str) -> Result<()>,
}

const CLIENTS: &[Client] = &[
    Client {
        name: "JavaScript",
        folder: "tests/clients/node",
        tools: &[&NODE, &NPM],
        manifest: "package.json",
        download: npm_install,
        run: run_node,
    },
    Client {
        name: "Java",
        folder: "tests/clients/java",
        tools: &[&JAVA, &MAVEN],
        manifest: "pom.xml",
        download: maven_copy,
        run: run_java,
    },
];

/// Runs the tests of every client whose tools are there or can be installed.
pub fn check(workspace: &Workspace) -> Result<Outcome> {
    let server = Server::start(&workspace.layotto(Profile::Debug)?)?;
    let mut ran = Vec::new();
    let mut skipped = Vec::new();
    for client in CLIENTS {
        match ready(workspace, client)? {
            Ok(folder) => {
                (client.run)(&folder, &server.api).with_context(|| format!("{} client", client.name))?;
                ran.push(client.name);
            }
            Err(reason) => skipped.push(format!("{} skipped: {reason}", client.name)),
        }
    }
    server.stop()?;
    Ok(if ran.is_empty() {
        Outcome::Skipped(skipped.join("; "))
    } else {
        Outcome::Done([vec![ran.join(", ")], skipped].concat().join("; "))
    })
}

/// The folder to run a client in; the inner error is the reason why it cannot be run here.
fn ready(workspace: &Workspace, client: &Client) -> Result<Result<PathBuf, String>> {
    for tool in client.tools {
        if let Err(reason) = tool.ensure() {
            return Ok(Err(reason));
        }
    }
    let source = workspace.root().join(client.folder);
    let folder = workspace
        .target()
        .join("clients")
        .join(source.file_name().unwrap_or_default());
    let manifest = workspace.read(source.join(client.manifest))?;
    copy(&source, &folder)?;
    let downloaded = folder.join(".downloaded");
    if fs::read_to_string(&downloaded).is_ok_and(|of| of == manifest) {
        return Ok(Ok(folder));
    }
    if let Err(error) = process::capture((client.download)(&folder).current_dir(&folder)) {
        return Ok(Err(format!("{error:#}")));
    }
    fs::write(&downloaded, manifest)?;
    Ok(Ok(folder))
}

/// Copies the files of a folder, not what is below.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn npm_install(_: &Path) -> Command {
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]);
    npm
}

fn maven_copy(folder: &Path) -> Command {
    let mut mvn = Command::new("mvn");
    mvn.args(["-q", "-B", "dependency:copy-dependencies"]);
    mvn.arg(format!("-DoutputDirectory={}", folder.join("lib").display()));
    mvn
}

fn run_node(folder: &Path, address: &str) -> Result<()> {
    process::run(
        Command::new("npm")
            .arg("test")
            .current_dir(folder)
            .env(ADDRESS, address),
    )
}

fn run_java(folder: &Path, address: &str) -> Result<()> {
    let files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut programs: Vec<PathBuf> = files.collect::<Result<_>>()?;
    programs.retain(|path| path.extension().is_some_and(|extension| extension == "java"));
    programs.sort();
    ensure!(!programs.is_empty(), "no *.java in {}", folder.display());
    for program in programs {
        let mut java = Command::new("java");
        java.args(["-cp", "lib/*"]).arg(program);
        process::run(java.current_dir(folder).env(ADDRESS, address))?;
    }
    Ok(())
}
