//! Programs that are not part of the workspace, where `cargo xtask tools` put them.

use std::{env, fs, path::PathBuf};

/// Names the folder that `cargo xtask tools` fills; by default `layotto/tools` in the user's cache.
pub const FOLDER: &str = "LAYOTTO_TOOLS";

/// Names the `layotto` binary.
pub const LAYOTTO: &str = "LAYOTTO_BINARY";

/// The path of a program: from the tools folder, else from `PATH`. The error is the reason why
/// there is none.
pub fn find(program: &str) -> Result<PathBuf, String> {
    if program == "layotto" {
        return layotto();
    }
    let folder = folder().map(|folder| folder.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = folder.iter().cloned().chain(env::split_paths(&path));
    if let Some(found) = folders.find_map(|folder| Some(folder.join(program)).filter(|file| file.is_file())) {
        return Ok(found);
    }
    let note = folder.map(|folder| folder.join(format!("{program}.missing")));
    let reason = note
        .and_then(|note| fs::read_to_string(note).ok())
        .unwrap_or_else(|| "run `cargo xtask tools`".to_owned());
    Err(format!("{program} is not there: {}", reason.trim()))
}

/// Whether a program is there; where it is not, says that a test is skipped, and why.
pub fn is_there(program: &str) -> bool {
    let found = find(program);
    if let Err(reason) = &found {
        eprintln!("skipped: {reason}");
    }
    found.is_ok()
}

/// Leaves a test, saying why, where a program is not there; a function with a value, where one is
/// given.
#[macro_export]
macro_rules! needs {
    ($program:expr $(, $value:expr)?) => {
        if !$crate::programs::is_there($program) {
            return $($value)?;
        }
    };
}

fn layotto() -> Result<PathBuf, String> {
    let binary = env::var_os(LAYOTTO).map(PathBuf::from);
    binary
        .filter(|file| file.is_file())
        .ok_or_else(|| format!("{LAYOTTO} names no file"))
}

fn folder() -> Option<PathBuf> {
    let absolute = |variable| {
        env::var_os(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let cache = || absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    let named = env::var_os(FOLDER).map(PathBuf::from);
    named.or_else(|| Some(cache()?.join("layotto/tools")))
}
