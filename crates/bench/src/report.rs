//! The table, in Markdown.

use std::{fmt::Write as _, fs, process::Command};

use crate::cases::{Options, Row};

/// The facts that make the tables readable later.
pub fn facts(options: &Options) -> String {
    format!(
        "Commit {}, {}, {} processors; median of {} rounds of {} s.\n",
        commit(),
        processor(),
        cpuinfo()
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count(),
        options.rounds,
        options.seconds,
    )
}

/// The rows as a table.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    text.push_str("| case | layotto | floor | judged | target | met |\n|---|---|---|---|---|---|\n");
    for row in rows {
        let bound = if row.at_least { "≥" } else { "≤" };
        let met = if row.met() { "yes" } else { "**no**" };
        let written = writeln!(
            text,
            "| {} | {} | {} | {:.2} {} | {bound} {} | {met} |",
            row.name, row.value, row.floor, row.judged, row.unit, row.target
        );
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    }
    text
}

fn commit() -> String {
    let output = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|_| "unknown".to_owned())
}

fn cpuinfo() -> String {
    fs::read_to_string("/proc/cpuinfo").unwrap_or_default()
}

fn processor() -> String {
    let text = cpuinfo();
    let name = text.lines().find_map(|line| line.strip_prefix("model name"));
    name.map_or("unknown processor", |name| {
        name.trim_start_matches([' ', '\t', ':'])
    })
    .to_owned()
}
