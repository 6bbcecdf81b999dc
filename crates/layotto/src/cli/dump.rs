//! `layotto dump`: what the network filter `tcpcopy` wrote, for people to read.

#[cfg(fuzzing)]
pub mod fuzzing;
mod line;
mod view;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand};

use self::{
    line::{Line, What},
    view::{Style, view},
};
use super::{Failure, warn};

/// The longest line that is looked at; a longer one is none that a dump has.
const MAX_LINE: u64 = 64 * 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a dump file by window and port: HTTP/1 as text, HTTP/2 by frames, the rest as bytes
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// File of a dump directory, such as dump_tcp_copy.log
    file: PathBuf,
    /// Only what came to this port
    #[arg(long)]
    port: Option<u16>,
    /// Only what came in this window
    #[arg(long, value_name = "UUID")]
    window: Option<String>,
    /// Print all payloads as text
    #[arg(long, conflicts_with = "hex")]
    text: bool,
    /// Print all payloads as bytes
    #[arg(long)]
    hex: bool,
}

/// Where the lines of one window and port are.
#[derive(Debug)]
struct Group {
    window: String,
    port: Option<u16>,
    lines: Vec<u64>,
}

/// What a file holds.
#[derive(Debug, Default)]
struct Index {
    /// In the order in which they begin.
    groups: Vec<Group>,
    places: HashMap<(String, Option<u16>), usize>,
    understood: u64,
    garbage: u64,
}

pub(super) fn dump(args: &DumpArgs) -> Result<ExitCode, Failure> {
    let Command::Show(args) = &args.command;
    let out = BufWriter::new(io::stdout().lock());
    match show(args, out) {
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

fn show(args: &ShowArgs, out: impl Write) -> anyhow::Result<()> {
    let index = show_lines(&mut open(&args.file)?, args, out)?;
    if index.groups.is_empty() {
        warn("nothing in the dump is of this window and port");
    }
    if index.garbage > 0 {
        warn(format_args!(
            "{} lines were left out: they are not of a dump",
            index.garbage
        ));
    }
    Ok(())
}

fn show_lines(
    file: &mut (impl BufRead + Seek),
    args: &ShowArgs,
    mut out: impl Write,
) -> anyhow::Result<Index> {
    let read = || format!("cannot read {}", args.file.display());
    let index = Index::of(file, args).with_context(read)?;
    if index.understood == 0 {
        anyhow::bail!("{} has no line of a traffic dump", args.file.display());
    }
    for group in &index.groups {
        print_group(group, file, args.style(), &mut out)?;
    }
    out.flush()?;
    Ok(index)
}

fn open(path: &Path) -> anyhow::Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(BufReader::with_capacity(64 * 1024, file))
}

impl ShowArgs {
    fn wants(&self, line: &Line<'_>) -> bool {
        let window = self.window.as_deref().is_none_or(|window| window == line.window);
        window && self.port.is_none_or(|port| line.port == Some(port))
    }

    fn style(&self) -> Style {
        match (self.text, self.hex) {
            (true, _) => Style::Text,
            (_, true) => Style::Hex,
            _ => Style::Auto,
        }
    }
}

impl Index {
    /// Reads a file once and remembers where its lines are, not what they hold.
    fn of(file: &mut (impl BufRead + Seek), args: &ShowArgs) -> io::Result<Self> {
        let mut index = Self::default();
        let (mut bytes, mut at) = (Vec::new(), 0);
        loop {
            let length = read_line(file, &mut bytes)?;
            if length == 0 {
                return Ok(index);
            }
            index.add(&bytes, at, args);
            at += length;
        }
    }

    fn add(&mut self, bytes: &[u8], at: u64, args: &ShowArgs) {
        let Some(line) = Line::parse(bytes) else {
            self.garbage += u64::from(!bytes.trim_ascii().is_empty());
            return;
        };
        self.understood += 1;
        if !args.wants(&line) {
            return;
        }
        let place = self
            .places
            .entry((line.window.to_owned(), line.port))
            .or_insert_with(|| {
                self.groups.push(Group {
                    window: line.window.to_owned(),
                    port: line.port,
                    lines: Vec::new(),
                });
                self.groups.len() - 1
            });
        self.groups[*place].lines.push(at);
    }
}

/// Reads a line, or no more than the beginning of one that is too long; returns its whole length.
fn read_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    line.clear();
    let mut length = file.by_ref().take(MAX_LINE).read_until(b'\n', line)? as u64;
    if length == MAX_LINE && line.last() != Some(&b'\n') {
        line.clear();
        length += file.skip_until(b'\n')? as u64;
    }
    Ok(length)
}

fn print_group(
    group: &Group,
    file: &mut (impl BufRead + Seek),
    style: Style,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let port = group
        .port
        .map(|port| format!(", port {port}"))
        .unwrap_or_default();
    let count = match group.lines.len() {
        1 => "1 record".to_owned(),
        count => format!("{count} records"),
    };
    writeln!(out, "window {}{port}: {count}", group.window)?;
    let mut bytes = Vec::new();
    for at in &group.lines {
        file.seek(SeekFrom::Start(*at))?;
        read_line(file, &mut bytes)?;
        // A file that is rotated meanwhile is still the same file; one cut short has no such line.
        if let Some(line) = Line::parse(&bytes) {
            print_line(&line, style, out)?;
        }
    }
    writeln!(out)?;
    Ok(())
}

fn print_line(line: &Line<'_>, style: Style, out: &mut impl Write) -> io::Result<()> {
    match &line.what {
        What::Traffic(bytes) => {
            writeln!(out, "  {}  {} bytes", line.time, bytes.len())?;
            view(bytes, style, "    ", out)
        }
        What::Portrait(business, json) => {
            writeln!(out, "  {}  {business} {}", line.time, view::escaped(json))
        }
        What::Memory(json) => writeln!(out, "  {}  {}", line.time, view::escaped(json)),
    }
}

#[cfg(test)]
mod tests;
