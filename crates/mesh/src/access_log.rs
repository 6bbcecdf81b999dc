//! Access logs: one line per exchange, in a format of variables, written off the request's path.

mod config;
mod escape;
mod file;
mod format;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod output;
mod roller;
#[cfg(test)]
mod tests;

use std::path::Path;

use http::{request, response};

pub use self::{
    config::{Config, OTHER_KEYS},
    file::{Files, Sink},
    format::{DEFAULT_FORMAT, Format, Notes},
    roller::Roller,
};
use crate::{config::ConfigError, exchange::Exchange, variable::End};

/// One access log of a listener.
#[derive(Debug)]
pub struct Log {
    format: Format,
    sink: Sink,
}

impl Log {
    /// Opens the log of `listener` that `config` describes; without a path it is
    /// `{listener}_access.log` in `folder`. Must be called inside a runtime. A file that cannot be
    /// opened is an error; a variable that does not exist is a warning, as upstream writes `-`.
    pub fn open(config: &Config, listener: &str, folder: &Path, files: &Files) -> Result<Self, ConfigError> {
        let format = Format::parse(config.format());
        for variable in format.unknown() {
            tracing::warn!(
                listener,
                variable,
                "an access log names a variable that does not exist"
            );
        }
        let path = config.path(listener, folder);
        let sink = files
            .open(&path)
            .map_err(|error| ConfigError::new("log_path", format!("{}: {error}", path.display())))?;
        Ok(Self { format, sink })
    }

    /// Whether a line tells how many bytes of the request's body arrived, or when.
    pub fn needs_request_body(&self) -> bool {
        self.format.needs_request_body()
    }

    /// What the line will need of the request's head.
    pub fn begin(&self, head: &request::Parts, exchange: &Exchange) -> Notes {
        self.format.begin(head, exchange)
    }

    /// Notes what the line will need of the reply's head.
    pub fn reply(&self, notes: &mut Notes, head: &response::Parts) {
        self.format.reply(notes, head);
    }

    /// Writes the line; never waits.
    pub fn end(&self, notes: &Notes, exchange: &Exchange, end: End) {
        self.sink.write(self.format.line(notes, exchange, end));
    }
}
