//! Where this workspace is, and how its cargo and its binary are run.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process;

/// Which build of the binary.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build.
    Debug,
    /// What users run.
    Release,
}

/// The clone that xtask was called in.
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
    packages: Vec<Value>,
}

impl Workspace {
    /// Asks cargo for the members; fails where the lock file is out of date.
    pub fn find() -> Result<Self> {
        // Asked at run time: a build may be shared by clones in several places.
        let own = env::var_os("CARGO_MANIFEST_DIR").context("run as `cargo xtask`")?;
        let root = Path::new(&own)
            .parent()
            .context("xtask is not in a workspace")?
            .to_owned();
        let mut metadata = cargo_in(&root);
        metadata.args(["metadata", "--format-version", "1", "--no-deps", "--locked"]);
        let text = process::capture(&mut metadata)?;
        let mut metadata: Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
        let target = metadata["target_directory"]
            .as_str()
            .context("no target directory")?;
        let target = PathBuf::from(target);
        let packages = match metadata["packages"].take() {
            Value::Array(packages) => packages,
            _ => anyhow::bail!("no packages"),
        };
        Ok(Self {
            root,
            target,
            packages,
        })
    }

    /// The top folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo builds.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The user's folder for what can be made or downloaded again.
    pub fn cache(&self) -> PathBuf {
        let absolute = |variable| {
            env::var_os(variable)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        absolute("XDG_CACHE_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".cache")))
            .unwrap_or_else(|| self.target.clone())
    }

    /// The members, as `cargo metadata` describes them.
    pub fn packages(&self) -> &[Value] {
        &self.packages
    }

    /// A file of the workspace, by its path from the top folder.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<String> {
        let path = self.root.join(path);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// `path` as seen from the top folder.
    pub fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// Cargo, in the top folder.
    pub fn cargo<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut cargo = cargo_in(&self.root);
        cargo.args(args);
        cargo
    }

    /// The folder of the binaries of a build.
    pub fn bin_dir(&self, profile: Profile) -> PathBuf {
        self.target.join(match profile {
            Profile::Debug => "debug",
            Profile::Release => "release",
        })
    }

    /// Builds the `layotto` binary and returns its path.
    pub fn layotto(&self, profile: Profile) -> Result<PathBuf> {
        let mut build = self.cargo([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "layotto",
            "--bin",
            "layotto",
        ]);
        if profile == Profile::Release {
            build.arg("--release");
        }
        process::run(&mut build)?;
        Ok(self.bin_dir(profile).join("layotto"))
    }

    /// Every file under `folder` (from the top folder) whose name ends in `.extension`, sorted.
    /// A missing folder has no files.
    pub fn files(&self, folder: &str, extension: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let folder = self.root.join(folder);
        if folder.is_dir() {
            walk(&folder, &mut |path| {
                if path.extension().is_some_and(|e| e == extension) {
                    found.push(path);
                }
            })?;
        }
        found.sort();
        Ok(found)
    }
}

fn walk(folder: &Path, visit: &mut dyn FnMut(PathBuf)) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name == "target" || name == "node_modules" || name.to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), visit)?;
        } else {
            visit(entry.path());
        }
    }
    Ok(())
}

fn cargo_in(root: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    process::without_package(cargo.current_dir(root));
    cargo
}

/// Fails with every line of `problems`, unless there are none.
pub fn no_problems(problems: &[String]) -> Result<()> {
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}
