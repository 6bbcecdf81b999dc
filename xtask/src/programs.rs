//! The programs of others that tests and benchmarks run: servers, proxies, clients, load
//! generators.
//!
//! They are kept in the user's cache, `tools/bin/NAME`, and stay there between runs. Nothing is
//! installed in the system. What cannot be had leaves `tools/bin/NAME.missing` with the reason,
//! which whoever needs the program shows.

pub mod debian;
mod go;
mod java;
mod python;

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// Gets the programs that `programs` names, to `folder`; those that are there already too.
struct Source {
    /// What it is, and at which versions: another text means to get it anew.
    what: &'static str,
    programs: &'static [&'static str],
    get: fn(&Folder) -> Result<()>,
}

const SOURCES: &[Source] = &[
    Source {
        what: debian::PEERS.release,
        programs: debian::PEERS.programs,
        get: |folder| debian::PEERS.get(folder),
    },
    Source {
        what: debian::STORES.release,
        programs: debian::STORES.programs,
        get: |folder| debian::STORES.get(folder),
    },
    Source {
        what: java::WHAT,
        programs: java::PROGRAMS,
        get: java::get,
    },
    Source {
        what: go::WHAT,
        programs: go::PROGRAMS,
        get: go::get,
    },
    Source {
        what: python::WHAT,
        programs: python::PROGRAMS,
        get: python::get,
    },
];

/// The folder of the programs.
pub struct Folder(PathBuf);

impl Folder {
    /// The cache folder, made if it is not there.
    pub fn of(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.cache().join("layotto/tools");
        let bin = folder.join("bin");
        fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
        Ok(Self(folder))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn bin(&self, program: &str) -> PathBuf {
        self.0.join("bin").join(program)
    }

    /// A script in `bin` that becomes the program that `command` starts, so that both have one
    /// process id.
    fn wrap(&self, program: &str, command: &str) -> Result<()> {
        let script = self.bin(program);
        fs::write(&script, format!("#!/bin/sh\nexec {command} \"$@\"\n"))?;
        fs::set_permissions(script, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }
}

/// Names the folder of the programs, to tests and benchmarks.
const VARIABLE: &str = "LAYOTTO_TOOLS";

/// Gets all programs; true when none is missing.
pub fn get(workspace: &Workspace) -> Result<bool> {
    let folder = Folder::of(workspace)?;
    let missing = ensure(&folder)?;
    for line in &missing {
        println!("missing: {line}");
    }
    println!("{}", folder.path().join("bin").display());
    Ok(missing.is_empty())
}

/// What a test needs in its environment to find the programs; gets them, but where the variable
/// already names a folder.
pub fn environment(workspace: &Workspace) -> Result<(&'static str, OsString)> {
    if let Some(folder) = env::var_os(VARIABLE) {
        return Ok((VARIABLE, folder));
    }
    let folder = Folder::of(workspace)?;
    ensure(&folder)?;
    Ok((VARIABLE, folder.path().as_os_str().to_owned()))
}

/// Makes sure of every program; returns those that are missing, with the reason.
fn ensure(folder: &Folder) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for source in SOURCES {
        if is_there(folder, source) {
            continue;
        }
        println!("getting {}", source.programs.join(", "));
        // Half of an earlier version must not pass for this one.
        for program in source.programs {
            remove(&folder.bin(program))?;
        }
        let got = (source.get)(folder);
        missing.extend(note(folder, source, got)?);
    }
    Ok(missing)
}

fn is_there(folder: &Folder, source: &Source) -> bool {
    let mut programs = source.programs.iter();
    programs.all(|program| folder.bin(program).is_file())
        && fs::read_to_string(stamp(folder, source)).is_ok_and(|what| what == source.what)
}

fn stamp(folder: &Folder, source: &Source) -> PathBuf {
    folder.0.join(format!("{}.version", source.programs.join("+")))
}

/// Leaves a note beside each program that is not there, and returns the notes.
fn note(folder: &Folder, source: &Source, got: Result<()>) -> Result<Vec<String>> {
    let reason = match got {
        Ok(()) => {
            fs::write(stamp(folder, source), source.what)?;
            "not in what was downloaded".to_owned()
        }
        Err(error) => {
            eprintln!("{error:#}");
            format!("{error:#}").lines().next().unwrap_or_default().to_owned()
        }
    };
    let mut missing = Vec::new();
    for program in source.programs {
        let note = folder.bin(&format!("{program}.missing"));
        if folder.bin(program).is_file() {
            remove(&note)?;
        } else {
            fs::write(note, &reason)?;
            missing.push(format!("{program}: {reason}"));
        }
    }
    Ok(missing)
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}
