//! One document being run: its scratch folder, its server, what its last command printed.

use std::{env, ffi::OsString, fs, net::TcpListener, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::{Block, Script, output};
use crate::{
    process::{self, Background},
    workspace::{Profile, Workspace},
};

/// Long enough for a block that compiles the release build on two cores.
const RUN_LIMIT: Duration = Duration::from_secs(1200);
const READY_LIMIT: Duration = Duration::from_secs(1200);

/// A document being run.
pub struct Session {
    repo: PathBuf,
    path: OsString,
    scratch: TempDir,
    server: Option<Background>,
    printed: Option<String>,
}

impl Session {
    /// An empty scratch folder, no server.
    pub fn new(workspace: &Workspace) -> Result<Self> {
        let mut path = vec![workspace.bin_dir(Profile::Release)];
        path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        Ok(Self {
            repo: workspace.root().to_owned(),
            path: env::join_paths(path)?,
            scratch: tempfile::tempdir()?,
            server: None,
            printed: None,
        })
    }

    /// Runs one block.
    pub fn play(&mut self, block: &Block) -> Result<()> {
        match block {
            Block::Run { script, status } => self.run(script, *status),
            Block::Serve { script, ready } => self.serve(script, ready),
            Block::Output(expected) => self.compare(expected),
            Block::File { name, text } => self.write(name, text),
        }
    }

    /// Stops the server.
    pub fn end(mut self) -> Result<()> {
        self.stop()
    }

    fn run(&mut self, script: &Script, status: i32) -> Result<()> {
        let stdout = self.scratch.path().join(".stdout");
        // The log has stderr as well; what an output block is compared with is stdout alone.
        let mut shell = self.shell(
            &format!("exec >'{}'\n{}", stdout.display(), script.text),
            script.in_repo,
        );
        let mut command = Background::start(&mut shell, self.scratch.path().join(".log"))?;
        let ended = command.wait(RUN_LIMIT)?;
        let printed = fs::read_to_string(&stdout).unwrap_or_default();
        if ended.code() != Some(status) {
            let server = self.server.as_ref().map(Background::output).unwrap_or_default();
            bail!(
                "ended with {ended} instead of {status}\n{printed}{}{server}",
                command.output()
            );
        }
        self.printed = Some(printed);
        Ok(())
    }

    fn serve(&mut self, script: &Script, ready: &str) -> Result<()> {
        self.stop()?;
        let (authority, path) = ready.split_once('/').context("`ready=` needs HOST:PORT/PATH")?;
        // Else another server on this machine would be taken for the one that is started.
        drop(
            TcpListener::bind(authority)
                .with_context(|| format!("{authority} is in use: stop what listens there"))?,
        );
        let mut shell = self.shell(&script.text, script.in_repo);
        let mut server = Background::start(&mut shell, self.scratch.path().join(".server"))?;
        server.wait_until(READY_LIMIT, || {
            process::probe_http(authority, &format!("/{path}"))
        })?;
        self.server = Some(server);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.server.take().map_or(Ok(()), Background::stop)
    }

    fn compare(&mut self, expected: &str) -> Result<()> {
        let printed = self
            .printed
            .take()
            .context("no `sh run` block before this `output`")?;
        ensure!(
            output::matches(expected, &printed),
            "printed\n{printed}instead of\n{expected}"
        );
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.scratch.path().join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {name}"))
    }

    /// A shell that stops at the first failing command. The trap keeps it alive after SIGTERM
    /// until the command it runs has ended, so that its status is the command's.
    fn shell(&self, script: &str, in_repo: bool) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", &format!("trap : TERM\n{script}")]);
        shell.current_dir(if in_repo { &self.repo } else { self.scratch.path() });
        shell
            .env("PATH", &self.path)
            .env("LAYOTTO_DATA_DIR", self.scratch.path().join(".layotto"));
        process::without_package(&mut shell);
        shell
    }
}
