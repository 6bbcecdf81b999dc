//! Named steps: each is run and timed, a failure does not stop the rest, a table closes the run.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// How a step ended, when it did not fail.
pub enum Outcome {
    /// It looked at everything; says at how much, or nothing.
    Done(String),
    /// It could not be run here, for this reason.
    Skipped(String),
}

/// One named step.
pub struct Step {
    /// What one types to run it alone.
    pub name: &'static str,
    /// Runs it; an error is a failure.
    pub run: fn(&Workspace) -> Result<Outcome>,
}

/// Runs the named steps, or all where there are no names, and prints the table; true when none
/// failed.
pub fn run_named<'a>(
    workspace: &Workspace,
    steps: impl Iterator<Item = &'a Step> + Clone,
    names: &[String],
) -> Result<bool> {
    let known: Vec<_> = steps.clone().map(|step| step.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no step `{unknown}`; there are: {}", known.join(", "));
    }
    let chosen = steps.filter(|step| names.is_empty() || names.iter().any(|name| name == step.name));
    let rows: Vec<_> = chosen.map(|step| run_one(workspace, step)).collect();
    Ok(summarise(&rows))
}

/// A step that was run.
struct Row {
    name: &'static str,
    outcome: Result<Outcome>,
    took: Duration,
}

/// Runs a step, and prints its failure where it happens.
fn run_one(workspace: &Workspace, step: &Step) -> Row {
    println!("== {}", step.name);
    let start = Instant::now();
    let outcome = (step.run)(workspace);
    if let Err(error) = &outcome {
        eprintln!("{}: {error:#}", step.name);
    }
    Row {
        name: step.name,
        outcome,
        took: start.elapsed(),
    }
}

/// Prints the table; true when no step failed.
fn summarise(rows: &[Row]) -> bool {
    println!();
    for row in rows {
        println!("{}", line(row));
    }
    let failed: Vec<_> = rows
        .iter()
        .filter(|row| row.outcome.is_err())
        .map(|row| row.name)
        .collect();
    if failed.is_empty() {
        println!("all {} steps passed", rows.len());
    } else {
        println!("failed: {}", failed.join(", "));
    }
    failed.is_empty()
}

fn line(row: &Row) -> String {
    let (word, note) = match &row.outcome {
        Ok(Outcome::Done(note)) => ("ok", note.as_str()),
        Ok(Outcome::Skipped(reason)) => ("skipped", reason.as_str()),
        Err(_) => ("FAILED", ""),
    };
    let line = format!(
        "{:<11} {word:<8} {:>7.1} s  {note}",
        row.name,
        row.took.as_secs_f64()
    );
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, outcome: Result<Outcome>) -> Row {
        Row {
            name,
            outcome,
            took: Duration::from_millis(1250),
        }
    }

    #[test]
    fn a_line_says_how_a_step_ended_and_why_it_was_skipped() {
        assert_eq!(
            line(&row("fmt", Ok(Outcome::Done(String::new())))),
            "fmt         ok           1.2 s"
        );
        assert_eq!(
            line(&row("deny", Ok(Outcome::Skipped("not installed".into())))),
            "deny        skipped      1.2 s  not installed"
        );
        assert_eq!(
            line(&row("tree", Err(anyhow::anyhow!("x")))),
            "tree        FAILED       1.2 s"
        );
    }

    #[test]
    fn one_failed_step_fails_the_run() {
        assert!(summarise(&[row("a", Ok(Outcome::Skipped("b".into())))]));
        assert!(!summarise(&[
            row("a", Ok(Outcome::Done(String::new()))),
            row("b", Err(anyhow::anyhow!("x")))
        ]));
    }
}
