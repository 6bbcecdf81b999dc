//! `cargo xtask test`: every check, every test, and what was skipped.

pub mod report;

use std::{
    env,
    io::{BufRead, BufReader, IsTerminal},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use self::report::Report;
use crate::{
    api_matrix, check, clients, peers, process, programs,
    step::{self, Outcome, Step},
    workspace::Workspace,
};

const STEPS: &[Step] = &[
    Step {
        name: "tests",
        run: tests,
    },
    Step {
        name: "api-matrix",
        run: api_matrix::check,
    },
    Step {
        name: "clients",
        run: clients::check,
    },
    Step {
        name: "peers",
        run: peers::check,
    },
];

/// Runs the named steps, or every check and every test; true when none failed.
pub fn run(workspace: &Workspace, names: &[String]) -> Result<bool> {
    step::run_named(workspace, check::STEPS.iter().chain(STEPS), names)
}

fn tests(workspace: &Workspace) -> Result<Outcome> {
    let mut report = Report::default();
    let mut cargo = workspace.cargo(["test", "--workspace", "--locked", "--no-fail-fast"]);
    cargo.envs([programs::environment(workspace)?]);
    if std::io::stdout().is_terminal() && env::var_os("CARGO_TERM_COLOR").is_none() {
        cargo.env("CARGO_TERM_COLOR", "always");
    }
    let status = stream(&mut cargo, &mut report);
    report.print_skipped();
    status?;
    Ok(Outcome::Done(report.totals()))
}

/// Runs tests; their stdout is passed on line by line, and read on the way.
pub fn stream(cargo: &mut Command, report: &mut Report) -> Result<()> {
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run the tests")?;
    let stdout = child.stdout.take().context("the tests have no stdout")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        report.read(&line);
    }
    let status = child.wait()?;
    ensure!(status.success(), "{} failed: {status}", process::shown(cargo));
    Ok(())
}
