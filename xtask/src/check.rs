//! `cargo xtask check`: everything that is not a test.

use anyhow::Result;

use crate::{
    configs, deny, deviations, directions, doc_blocks, functions, generated, process,
    step::{self, Outcome, Step},
    tree,
    workspace::Workspace,
};

/// The steps, in order.
pub const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        run: fmt,
    },
    Step {
        name: "directions",
        run: directions::check,
    },
    Step {
        name: "deviations",
        run: deviations::check,
    },
    Step {
        name: "tree",
        run: tree::check,
    },
    Step {
        name: "deny",
        run: deny::check,
    },
    Step {
        name: "clippy",
        run: clippy,
    },
    Step {
        name: "docs",
        run: docs,
    },
    Step {
        name: "configs",
        run: configs::check,
    },
    Step {
        name: "functions",
        run: functions::check,
    },
    Step {
        name: "generated",
        run: generated::check,
    },
    Step {
        name: "commands",
        run: doc_blocks::check,
    },
];

/// Runs the named steps, or all; true when none failed.
pub fn run(workspace: &Workspace, names: &[String]) -> Result<bool> {
    step::run_named(workspace, STEPS.iter(), names)
}

fn fmt(workspace: &Workspace) -> Result<Outcome> {
    cargo(workspace, &["fmt", "--all", "--check", "--", "--files-with-diff"])
}

fn clippy(workspace: &Workspace) -> Result<Outcome> {
    cargo(
        workspace,
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ],
    )
}

fn docs(workspace: &Workspace) -> Result<Outcome> {
    let mut doc = workspace.cargo(["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
    process::run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Outcome::Done(String::new()))
}

fn cargo(workspace: &Workspace, args: &[&str]) -> Result<Outcome> {
    process::run(&mut workspace.cargo(args.iter().copied()))?;
    Ok(Outcome::Done(String::new()))
}
