//! The commands of the program. Each needs no more than it says: only `call`, `function` and `start`
//! do anything on a network, only `start` and `function run` open components.

mod arguments;
mod call;
mod check;
mod components;
mod dump;
mod function;
mod init;
mod reference;
mod start;
mod stop;

use std::{ffi::OsString, fmt, io::Write, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use layotto_core::Registry;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use self::dump::fuzzing;
pub(crate) use self::start::FEATURE_GATES;
pub use self::start::StartOptions;
use crate::config::Loaded;

const AFTER_HELP: &str = "\
Flags without a command mean `start`. Without a configuration file, `start` runs with the built-in
configuration: the runtime API on 127.0.0.1:34904, the actuator on 127.0.0.1:34999, metrics on
127.0.0.1:34903, data in .layotto.

Exit codes:
  0    done; also a process that SIGTERM, SIGINT or `stop` ended
  1    the command failed: configuration or start error, status of a call, nothing to stop
  2    wrong usage
  3    `check` found something
  130  interrupted

Examples:
  layotto start
  layotto init my.json && layotto check -c my.json && layotto start -c my.json
  layotto call SayHello '{\"service_name\": \"helloworld\", \"name\": \"world\"}'
  layotto components state
  layotto stop";

#[derive(Debug, Parser)]
#[command(name = "layotto", version, about = "Application runtime in one process", long_about = None)]
#[command(after_help = AFTER_HELP, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until told to stop
    Start(Box<start::StartArgs>),
    /// End a running process and wait until it is gone
    Stop(stop::StopArgs),
    /// Say everything that is wrong with a configuration file
    Check(check::CheckArgs),
    /// Write a configuration file to start from
    Init(init::InitArgs),
    /// List component types and their settings
    Components(components::ComponentsArgs),
    /// Print the reference of the configuration file, as Markdown
    Reference(reference::ReferenceArgs),
    /// Call a method of the runtime API
    Call(call::CallArgs),
    /// Look at what the traffic dump of a listener wrote
    Dump(dump::DumpArgs),
    /// Serve functions in WebAssembly, or call one
    Function(function::FunctionArgs),
    /// Do nothing, as upstream: a running process follows its configuration file by itself
    Reload,
}

/// Why a command failed: what is printed on standard error, and the exit code.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    fn usage(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            code: 2,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            message: format!("{error:#}"),
            code: 1,
        }
    }
}

/// Runs the command that the process's arguments name; `run` is what `start` does once it has a
/// configuration.
pub fn main(registry: &Registry, run: impl FnOnce(Loaded, StartOptions) -> anyhow::Result<()>) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.len() < 2 {
        return print_help();
    }
    match Cli::try_parse_from(arguments::upstream(arguments)) {
        Ok(cli) => report(dispatch(cli.command, registry, run)),
        Err(error) => {
            // Nothing is left to tell when the terminal is gone.
            drop(error.print());
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

fn print_help() -> ExitCode {
    match Cli::command().print_help() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn dispatch(
    command: Command,
    registry: &Registry,
    run: impl FnOnce(Loaded, StartOptions) -> anyhow::Result<()>,
) -> Result<ExitCode, Failure> {
    match command {
        Command::Start(args) => start::start(*args, registry, run),
        Command::Stop(args) => stop::stop(&args, registry),
        Command::Check(args) => check::check(&args, registry),
        Command::Init(args) => init::init(&args),
        Command::Components(args) => components::components(&args, registry),
        Command::Reference(args) => reference::reference(&args),
        Command::Call(args) => call::call(args),
        Command::Dump(args) => dump::dump(&args),
        Command::Function(args) => function::function(args, registry, run),
        Command::Reload => {
            print("reload does nothing: a running process follows its configuration file by itself\n")
        }
    }
}

fn report(outcome: Result<ExitCode, Failure>) -> ExitCode {
    outcome.unwrap_or_else(|failure| {
        warn(format_args!("error: {}", failure.message.trim_end()));
        ExitCode::from(failure.code)
    })
}

/// Prints on standard output; a reader that went away is no failure.
fn print(text: impl fmt::Display) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::from(error).into())
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Prints a line on standard error.
fn warn(line: impl fmt::Display) {
    // Where standard error is closed there is nobody to tell.
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

#[cfg(test)]
mod tests;
