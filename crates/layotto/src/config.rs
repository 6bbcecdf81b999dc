//! Configuration: upstream's files, JSON or YAML, read into one typed model with every error found.
//!
//! Layers, each over the one before: built-in defaults, the file, the environment (variables
//! inside texts, `LAYOTTO_ADMIN_TOKEN`), and the flags, which `crate::cli` lays on top.

mod component;
mod dump;
mod expand;
mod json;
mod known;
mod listener;
mod model;
mod node;
mod others;
mod process;
mod reader;
pub mod reference;
mod references;
mod report;
mod runtime;
pub mod stamp;
mod suggest;
mod yaml;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use layotto_core::{Registry, Secret};

pub use self::{
    model::*,
    report::{Finding, Place, Report},
};
use self::{
    node::{Node, SyntaxError},
    reader::Field,
    report::Findings,
};

/// Where the configuration is looked for when nothing names one.
pub const DEFAULT_FILE: &str = "configs/config.json";
/// What the process runs with when there is no file; `layotto init` writes it out.
pub const STANDALONE: &str = include_str!("config/standalone.json");
/// The largest file that is read, in bytes.
pub const MAX_BYTES: usize = 16 << 20;

/// Looks up an environment variable; the process's own is [`process_env`].
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// The file; `None` for the built-in one.
    pub file: Option<PathBuf>,
    /// The folder where relative paths are looked up second.
    pub dir: PathBuf,
    /// What the file was like before it was read; 0 for the built-in one.
    pub stamp: u64,
    /// What is worth a warning; no errors.
    pub report: Report,
    /// The file as JSON, without secrets.
    pub shown: serde_json::Value,
}

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON, with comments and trailing commas.
    Json,
    /// YAML 1.2.
    Yaml,
}

impl Format {
    /// YAML for `.yaml` and `.yml`, JSON for every other name.
    pub fn of(file: &Path) -> Self {
        let extension = file.extension().map(|extension| extension.to_ascii_lowercase());
        match extension.as_deref().and_then(|extension| extension.to_str()) {
            Some("yaml" | "yml") => Self::Yaml,
            _ => Self::Json,
        }
    }
}

/// A variable of the process's environment.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads and checks a file. Opens nothing else. The error has every error found.
pub fn load(file: &Path, registry: &Registry, env: Env<'_>) -> Result<Loaded, Report> {
    let name: Arc<str> = file.to_string_lossy().into();
    // Before it is read: a change in between is noticed later.
    let stamp = stamp::of_file(file);
    let bytes = read_capped(file).map_err(|error| {
        let findings = Findings::default();
        findings.error(whole(&name), format!("cannot be read: {error}"));
        findings.into_report()
    })?;
    let dir = file.parent().unwrap_or(Path::new("")).to_owned();
    usable(
        read(&bytes, Format::of(file), &name, registry, env),
        Some((file.to_owned(), stamp)),
        dir,
    )
}

/// The built-in configuration: everything in one process, nothing needed beside it.
pub fn standalone(registry: &Registry, env: Env<'_>) -> Result<Loaded, Report> {
    built_in(STANDALONE, registry, env)
}

/// A configuration of the program's own, as JSON.
pub fn built_in(text: &str, registry: &Registry, env: Env<'_>) -> Result<Loaded, Report> {
    let name = "built-in configuration".into();
    let read = read(text.as_bytes(), Format::Json, &name, registry, env);
    usable(read, None, PathBuf::new())
}

/// Reads a text from anywhere, and says what is wrong with it. Never panics, whatever the text.
pub fn parse(bytes: &[u8], format: Format, registry: &Registry) -> Report {
    read(bytes, format, &"input".into(), registry, &|_| None).report
}

/// The key `pid` of a file, even where the rest of it is wrong.
pub fn pid_file(file: &Path, env: Env<'_>) -> io::Result<Option<PathBuf>> {
    let bytes = read_capped(file)?;
    let name: Arc<str> = file.to_string_lossy().into();
    let findings = Findings::default();
    let tree = tree(&bytes, Format::of(file), &name, env, &findings);
    let tree = tree.ok_or_else(|| io::Error::other(findings.into_report().to_string()))?;
    let node::Value::Object(entries) = tree.value else {
        return Ok(None);
    };
    let pid = entries
        .into_iter()
        .find(|entry| entry.key.eq_ignore_ascii_case("pid"));
    Ok(pid.and_then(|entry| match entry.value.value {
        node::Value::Text(path) if !path.is_empty() => Some(path.into()),
        _ => None,
    }))
}

/// What was made of one text.
#[derive(Default)]
struct Outcome {
    config: Config,
    report: Report,
    shown: serde_json::Value,
}

fn usable(read: Outcome, file: Option<(PathBuf, u64)>, dir: PathBuf) -> Result<Loaded, Report> {
    if !read.report.is_usable() {
        return Err(read.report);
    }
    let (file, stamp) = file.unzip();
    Ok(Loaded {
        config: read.config,
        file,
        dir,
        stamp: stamp.unwrap_or_default(),
        report: read.report,
        shown: read.shown,
    })
}

fn read_capped(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    File::open(file)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn whole(file: &Arc<str>) -> Place {
    Place {
        file: Arc::clone(file),
        ..Place::default()
    }
}

fn read(bytes: &[u8], format: Format, file: &Arc<str>, registry: &Registry, env: Env<'_>) -> Outcome {
    let findings = Findings::default();
    let Some(tree) = tree(bytes, format, file, env, &findings) else {
        return Outcome {
            report: findings.into_report(),
            ..Outcome::default()
        };
    };
    let root = Field::root(&tree, Arc::clone(file), &findings);
    let mut config = process::read(&root, registry);
    // Where something is wrong, what refers to it would seem so too.
    if !findings.has_errors() {
        references::check_plane(&config, &root);
        references::check_functions(&config, &findings);
    }
    if let Some(token) = env("LAYOTTO_ADMIN_TOKEN").filter(|token| !token.is_empty()) {
        config.admin.token = Some(Secret::new(token));
    }
    Outcome {
        config,
        shown: dump::shown(&tree, registry),
        report: findings.into_report(),
    }
}

/// The tree with its variables replaced; `None` where the text is no tree at all.
fn tree(bytes: &[u8], format: Format, file: &Arc<str>, env: Env<'_>, findings: &Findings) -> Option<Node> {
    match syntax(bytes, format) {
        Ok(mut tree) => {
            expand::expand(&mut tree, &whole(file), env, findings);
            Some(tree)
        }
        Err(SyntaxError { line, message }) => {
            let place = Place { line, ..whole(file) };
            findings.error(place, message);
            None
        }
    }
}

fn syntax(bytes: &[u8], format: Format) -> Result<Node, SyntaxError> {
    if bytes.len() > MAX_BYTES {
        return Err(SyntaxError::new(
            0,
            format!("is larger than {} MiB", MAX_BYTES >> 20),
        ));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        SyntaxError::new(u32::try_from(line).unwrap_or(u32::MAX), "is not UTF-8")
    })?;
    let text = text.trim_start_matches('\u{feff}');
    match format {
        Format::Json => json::parse(text),
        Format::Yaml => yaml::parse(text),
    }
}

#[cfg(test)]
mod tests;
