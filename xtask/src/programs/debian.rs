//! Programs as Debian 12 has them: unpacked, not installed.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, ensure};

use super::Folder;
use crate::process;

/// Programs that are got together.
pub struct Set {
    /// The release and what is taken from it: another text means to get it anew.
    pub release: &'static str,
    /// Where they are unpacked.
    folder: &'static str,
    /// What it gives.
    pub programs: &'static [&'static str],
    /// Folders of the programs, below `usr`.
    places: &'static [&'static str],
    /// The packages with the programs, and those with the libraries that a small system lacks.
    packages: &'static [&'static str],
}

/// Proxies and load generators.
pub const PEERS: Set = Set {
    release: "bookworm 1",
    folder: "debian",
    programs: &["nginx", "haproxy", "h2load", "wrk"],
    places: &["sbin", "bin"],
    packages: &[
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
    ],
};

/// Stores, with their command-line clients.
pub const STORES: Set = Set {
    release: "bookworm 1",
    folder: "debian-stores",
    programs: &[
        "redis-server",
        "redis-cli",
        "redis-benchmark",
        "etcd",
        "etcdctl",
        "initdb",
        "postgres",
        "psql",
    ],
    places: &["bin", "lib/postgresql/15/bin"],
    packages: &[
        "etcd-client",
        "etcd-server",
        "libicu72",
        "libjemalloc2",
        "libldap-2.5-0",
        "liblzf1",
        "libpq5",
        "libxml2",
        "libxslt1.1",
        "postgresql-15",
        "postgresql-client-15",
        "redis-server",
        "redis-tools",
    ],
};

/// What refuses to be run by root: it sees another user, and the files of root as that user's.
const NOT_BY_ROOT: &[&str] = &["initdb", "postgres"];

impl Set {
    /// Downloads and unpacks the packages; needs no root.
    pub fn get(&self, folder: &Folder) -> Result<()> {
        let root = folder.path().join(self.folder);
        unpack(self.packages, &root)?;
        for program in self.programs {
            let mut files = self
                .places
                .iter()
                .map(|place| root.join("usr").join(place).join(program));
            if let Some(file) = files.find(|file| file.is_file()) {
                wrap(folder, &root, program, &file)?;
            }
        }
        Ok(())
    }
}

/// Downloads packages and unpacks them into `root`; needs no root's rights.
pub fn unpack(packages: &[&str], root: &Path) -> Result<()> {
    ensure!(
        process::which("apt-get").is_some() && process::which("dpkg-deb").is_some(),
        "this is not a Debian system"
    );
    let downloads = tempfile::tempdir_in(root.parent().unwrap_or(root))?;
    if download(packages, downloads.path()).is_err() {
        // The lists may be old or absent.
        process::capture(Command::new("apt-get").args(["-q", "update"]))?;
        download(packages, downloads.path())?;
    }
    for package in fs::read_dir(downloads.path())? {
        process::capture(Command::new("dpkg-deb").arg("-x").arg(package?.path()).arg(root))?;
    }
    Ok(())
}

fn download(packages: &[&str], to: &Path) -> Result<String> {
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
    process::capture(apt.args(packages).current_dir(to))
}

/// Refuses a program that does not start here, such as for want of a library.
fn wrap(folder: &Folder, root: &Path, program: &str, file: &Path) -> Result<()> {
    let libraries = root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let starts = Command::new(file)
        .arg(match program {
            "nginx" | "haproxy" | "wrk" => "-v",
            "etcdctl" => "version",
            _ => "--version",
        })
        .env("LD_LIBRARY_PATH", &libraries)
        .output();
    // wrk says its version and ends with 1.
    if starts.is_ok_and(|output| output.status.code().is_some_and(|code| code <= 1)) {
        let another = if NOT_BY_ROOT.contains(&program) {
            r#"$([ "$(id -u)" != 0 ] || echo unshare --user --map-user=65534 --map-group=65534) "#
        } else {
            ""
        };
        let command = format!(
            "{another}env LD_LIBRARY_PATH='{}' '{}'",
            libraries.display(),
            file.display()
        );
        folder.wrap(program, &command)?;
    }
    Ok(())
}
