//! nginx, HAProxy, h2load and wrk, as Debian 12 has them: unpacked, not installed.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, ensure};

use super::Folder;
use crate::process;

/// The release and what is taken from it.
pub const WHAT: &str = "bookworm 1";

/// What it gives.
pub const PROGRAMS: &[&str] = &["nginx", "haproxy", "h2load", "wrk"];

/// The packages with the programs, and those with the libraries that a small system lacks.
const PACKAGES: &[&str] = &[
    "haproxy",
    "libev4",
    "libjansson4",
    "libjemalloc2",
    "liblua5.3-0",
    "libluajit2-5.1-2",
    "libnghttp2-14",
    "libopentracing-c-wrapper0",
    "libopentracing1",
    "libpcre2-8-0",
    "libxml2",
    "nghttp2-client",
    "nginx",
    "wrk",
];

/// Downloads and unpacks the packages; needs no root.
pub fn get(folder: &Folder) -> Result<()> {
    ensure!(
        process::which("apt-get").is_some() && process::which("dpkg-deb").is_some(),
        "this is not a Debian system"
    );
    let downloads = tempfile::tempdir_in(folder.path())?;
    if download(downloads.path()).is_err() {
        // The lists may be old or absent.
        process::capture(Command::new("apt-get").args(["-q", "update"]))?;
        download(downloads.path())?;
    }
    let root = folder.path().join("debian");
    for package in fs::read_dir(downloads.path())? {
        process::capture(Command::new("dpkg-deb").arg("-x").arg(package?.path()).arg(&root))?;
    }
    for (program, place) in PROGRAMS.iter().zip(["sbin", "sbin", "bin", "bin"]) {
        wrap(folder, &root, program, place)?;
    }
    Ok(())
}

fn download(to: &Path) -> Result<String> {
    let mut apt = Command::new("apt-get");
    apt.args([
        "-q",
        "-o",
        "Acquire::http::Timeout=30",
        "-o",
        "Acquire::Retries=1",
        // As root it would become another user, who cannot write here.
        "-o",
        "APT::Sandbox::User=root",
        "download",
    ]);
    process::capture(apt.args(PACKAGES).current_dir(to))
}

/// Refuses a program that does not start here, such as for want of a library.
fn wrap(folder: &Folder, root: &Path, program: &str, place: &str) -> Result<()> {
    let libraries = root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let file = root.join("usr").join(place).join(program);
    // wrk says its version and ends with 1.
    let starts = Command::new(&file)
        .arg(if program == "h2load" { "--version" } else { "-v" })
        .env("LD_LIBRARY_PATH", &libraries)
        .output();
    if starts.is_ok_and(|output| output.status.code().is_some_and(|code| code <= 1)) {
        folder.wrap(
            program,
            &format!(
                "env LD_LIBRARY_PATH='{}' '{}'",
                libraries.display(),
                file.display()
            ),
        )?;
    }
    Ok(())
}
