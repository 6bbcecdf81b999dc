//! `layotto reference`: every key of a configuration file and what becomes of it, as Markdown.

use std::{fmt::Write, process::ExitCode};

use clap::{Args, ValueEnum};
use layotto_mesh::variable;

use super::{Failure, print};
use crate::config::reference::{self, Key, Section, Status};

#[derive(Debug, Args)]
pub(super) struct ReferenceArgs {
    /// What to print
    page: Page,
    /// Of `filter`: its type
    name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Page {
    /// The keys of the file
    Config,
    /// The options of a stream filter
    Filter,
    /// The variables of access logs and routes
    Variables,
}

pub(super) fn reference(args: &ReferenceArgs) -> Result<ExitCode, Failure> {
    match (args.page, &args.name) {
        (Page::Config, None) => print(config()),
        (Page::Variables, None) => print(variables()),
        (Page::Filter, Some(name)) => match reference::stream_filter(name) {
            Some(keys) => print(options(&keys)),
            None => Err(Failure::usage(format_args!(
                "no stream filter is called {name:?}"
            ))),
        },
        (Page::Filter, None) => Err(Failure::usage("`filter` needs the type of a stream filter")),
        (_, Some(_)) => Err(Failure::usage("only `filter` takes a name")),
    }
}

fn config() -> String {
    let mut page = String::new();
    for section in reference::sections() {
        push(&mut page, format_args!("## {}\n\n", section.title));
        heading(&mut page, &section);
        if section.at.ends_with(".type") {
            table(
                &mut page,
                &["type", "", "meaning"],
                section.keys.iter().map(of_type),
            );
        } else {
            let columns = ["key", "", "type", "default", "meaning"];
            table(&mut page, &columns, section.keys.iter().map(of_file));
        }
    }
    page
}

fn heading(page: &mut String, section: &Section) {
    if !section.at.is_empty() {
        push(page, format_args!("`{}`", section.at));
        let about = match section.about.as_str() {
            "" => "\n\n".to_owned(),
            about => format!(": {about}\n\n"),
        };
        page.push_str(&about);
    }
}

fn options(keys: &[Key]) -> String {
    let mut page = String::from("## Options\n\n");
    let (taken, others): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.status == Status::Supported);
    if taken.is_empty() {
        page.push_str("None.\n\n");
    } else {
        let row = |key: &Key| {
            vec![
                code(&key.path),
                key.kind.clone(),
                key.default.clone(),
                key.text.clone(),
            ]
        };
        let columns = ["key", "type", "default", "meaning"];
        table(&mut page, &columns, taken.into_iter().map(row));
    }
    if !others.is_empty() {
        let row = |key: &Key| vec![code(&key.path), word(key.status).to_owned(), key.text.clone()];
        table(&mut page, &["key", "", "why"], others.into_iter().map(row));
    }
    page
}

fn variables() -> String {
    let mut page = String::new();
    let row = |(name, about): (String, &str)| vec![code(&name), about.to_owned()];
    table(&mut page, &["variable", "value"], variable::all().map(row));
    page
}

fn of_file(key: &Key) -> Vec<String> {
    vec![
        code(&key.path),
        word(key.status).to_owned(),
        key.kind.clone(),
        key.default.clone(),
        key.text.clone(),
    ]
}

fn of_type(key: &Key) -> Vec<String> {
    vec![code(&key.path), word(key.status).to_owned(), key.text.clone()]
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Supported => "supported",
        Status::Ignored => "ignored",
        Status::Later => "not yet",
        Status::Refused => "refused",
    }
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn table(page: &mut String, columns: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    line(page, columns.iter().map(|column| (*column).to_owned()));
    push(page, format_args!("|{}\n", "---|".repeat(columns.len())));
    for row in rows {
        line(page, row.into_iter().map(|cell| cell.replace('|', "\\|")));
    }
    page.push('\n');
}

fn line(page: &mut String, cells: impl Iterator<Item = String>) {
    page.push('|');
    for cell in cells {
        push(page, format_args!(" {cell} |"));
    }
    page.push('\n');
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("invariant: a text takes any writing");
}
