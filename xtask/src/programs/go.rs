//! What is written in Go: h2spec, and client and server of gRPC's interoperability tests.

use std::process::Command;

use anyhow::{Result, ensure};

use super::Folder;
use crate::process;

/// Packages and versions.
pub const WHAT: &str = "h2spec 2.2.1, grpc-go 1.85.0";

/// What it gives.
pub const PROGRAMS: &[&str] = &["h2spec", "interop_client", "interop_server"];

/// Where each comes from, and at which version.
const PACKAGES: [(&str, &str); 3] = [
    ("github.com/summerwind/h2spec/cmd/h2spec", "v2.2.1+incompatible"),
    ("google.golang.org/grpc/interop/client", "v1.85.0"),
    ("google.golang.org/grpc/interop/server", "v1.85.0"),
];

/// Builds them in a module made for that; `go install` refuses modules that replace others.
pub fn get(folder: &Folder) -> Result<()> {
    ensure!(process::which("go").is_some(), "go is not installed");
    let module = tempfile::tempdir_in(folder.path())?;
    let go = |args: &[&str]| {
        let mut go = Command::new("go");
        go.args(args).current_dir(module.path());
        go.env("GOFLAGS", "-mod=mod -buildvcs=false");
        process::capture(&mut go)
    };
    go(&["mod", "init", "tools"])?;
    let wanted = PACKAGES.map(|(package, version)| format!("{package}@{version}"));
    let wanted: Vec<_> = wanted.iter().map(String::as_str).collect();
    go(&[&["get"], wanted.as_slice()].concat())?;
    for (program, (package, _)) in PROGRAMS.iter().zip(PACKAGES) {
        let output = folder.bin(program).display().to_string();
        go(&["build", "-ldflags=-s -w", "-o", &output, package])?;
    }
    Ok(())
}
