//! The published clients of the runtime API against standalone sidecars.
//!
//! `tests/clients/node` is an npm package, `tests/clients/java` a Maven project and JUnit tests
//! beside it. The tests start the sidecars they need, of the program in `LAYOTTO_BINARY`. What they
//! need is downloaded once to the user's cache; nothing is written to the clone.

use std::{
    collections::hash_map::DefaultHasher,
    env, fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    process,
    step::Outcome,
    tools::{JAVA, MAVEN, NODE, NPM, Tool},
    workspace::{Profile, Workspace},
};

const BINARY: &str = "LAYOTTO_BINARY";

/// One client library.
struct Client {
    name: &'static str,
    folder: &'static str,
    tools: &'static [&'static Tool],
    /// Name what is downloaded: when one changes, all is downloaded anew.
    manifests: &'static [&'static str],
    /// Downloads to the folder it is run in, where the manifests are.
    download: fn() -> Command,
    run: fn(&Paths) -> Result<()>,
}

/// What running the tests of a client needs.
struct Paths {
    source: PathBuf,
    downloads: PathBuf,
    /// For what is compiled.
    build: PathBuf,
    layotto: PathBuf,
}

const CLIENTS: &[Client] = &[
    Client {
        name: "JavaScript",
        folder: "node",
        tools: &[&NODE, &NPM],
        manifests: &["package.json", "package-lock.json"],
        download: npm_ci,
        run: run_node,
    },
    Client {
        name: "Java",
        folder: "java",
        tools: &[&JAVA, &MAVEN],
        manifests: &["pom.xml"],
        download: maven_copy,
        run: run_java,
    },
];

/// Runs the tests of every client whose tools are there or can be installed; all of them, even
/// when one fails.
pub fn check(workspace: &Workspace) -> Result<Outcome> {
    let layotto = workspace.layotto(Profile::Debug)?;
    let mut ran = Vec::new();
    let mut skipped = Vec::new();
    let mut failed = Vec::new();
    for client in CLIENTS {
        println!("-- {}", client.name);
        match ready(workspace, client, &layotto)? {
            Ok(paths) => match (client.run)(&paths) {
                Ok(()) => ran.push(client.name.to_owned()),
                Err(error) => failed.push(format!("{} client: {error:#}", client.name)),
            },
            Err(reason) => {
                let line = format!("{} skipped: {reason}", client.name);
                println!("{line}");
                skipped.push(line);
            }
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(if ran.is_empty() {
        Outcome::Skipped(skipped.join("; "))
    } else {
        Outcome::Done([ran, skipped].concat().join("; "))
    })
}

/// Gets all that a client needs; the inner error is the reason why it cannot be run here.
fn ready(workspace: &Workspace, client: &Client, layotto: &Path) -> Result<Result<Paths, String>> {
    for tool in client.tools {
        if let Err(reason) = tool.ensure() {
            return Ok(Err(reason));
        }
    }
    let source = workspace.root().join("tests/clients").join(client.folder);
    let build = workspace.target().join("clients").join(client.folder);
    Ok(downloads(workspace, client, &source)?.map(|downloads| Paths {
        source,
        downloads,
        build,
        layotto: layotto.to_owned(),
    }))
}

/// The folder with the packages of a client, downloaded unless it is there.
fn downloads(workspace: &Workspace, client: &Client, source: &Path) -> Result<Result<PathBuf, String>> {
    let mut hasher = DefaultHasher::new();
    for manifest in client.manifests {
        workspace.read(source.join(manifest))?.hash(&mut hasher);
    }
    let cache = workspace.cache().join("layotto/clients");
    let folder = cache.join(format!("{}-{:016x}", client.folder, hasher.finish()));
    if folder.is_dir() {
        return Ok(Ok(folder));
    }
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    // Only a complete download gets the name that is looked for.
    let part = tempfile::tempdir_in(&cache)?;
    for manifest in client.manifests {
        fs::copy(source.join(manifest), part.path().join(manifest))?;
    }
    if let Err(error) = process::capture((client.download)().current_dir(part.path())) {
        eprintln!("{error:#}");
        return Ok(Err("its packages cannot be downloaded".to_owned()));
    }
    fs::rename(part.keep(), &folder)?;
    Ok(Ok(folder))
}

fn npm_ci() -> Command {
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
    npm
}

fn maven_copy() -> Command {
    let mut mvn = Command::new("mvn");
    mvn.args([
        "-q",
        "-B",
        "dependency:copy-dependencies",
        "-DoutputDirectory=lib",
    ]);
    mvn
}

fn run_node(paths: &Paths) -> Result<()> {
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=spec"])
        .current_dir(&paths.source)
        .env("NODE_PATH", paths.downloads.join("node_modules"))
        .env(BINARY, &paths.layotto);
    process::run(&mut node)
}

fn run_java(paths: &Paths) -> Result<()> {
    // Classes of an earlier run would be run as well.
    if paths.build.exists() {
        fs::remove_dir_all(&paths.build)?;
    }
    let libraries = paths.downloads.join("lib/*");
    let mut javac = Command::new("javac");
    javac.arg("-d").arg(&paths.build);
    javac.arg("-cp").arg(&libraries);
    javac.args(sources(&paths.source)?);
    process::run(&mut javac)?;
    let class_path = env::join_paths([&paths.build, &libraries])?;
    let mut java = Command::new("java");
    java.arg("-cp").arg(class_path);
    java.args(["org.junit.platform.console.ConsoleLauncher", "execute"]);
    java.args(["--disable-banner", "--disable-ansi-colors", "--fail-if-no-tests"]);
    java.arg(format!("--scan-classpath={}", paths.build.display()));
    process::run(java.env(BINARY, &paths.layotto))
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut sources: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "java"));
    sources.sort();
    Ok(sources)
}
