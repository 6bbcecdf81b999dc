//! `access_logs[]` of a listener.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::format::DEFAULT_FORMAT;
use crate::config::OtherKey;

/// An access log of a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// The file, made with mode 0640; `stdout` and `stderr` are the process's own. Default
    /// `{listener}_access.log` in the folder of the logs.
    pub log_path: String,
    /// A line: text with variables between percent signs, such as `%start_time% %response_code%`;
    /// `%%` is a percent sign. A variable without a value is `-`. Default: time, trace id,
    /// connections, durations, bytes, protocol, status, flags and addresses.
    pub log_format: String,
}

/// Keys of upstream's that are not taken: none.
pub const OTHER_KEYS: &[OtherKey] = &[];

impl Config {
    pub(super) fn format(&self) -> &str {
        match self.log_format.as_str() {
            "" => DEFAULT_FORMAT,
            format => format,
        }
    }

    pub(super) fn path(&self, listener: &str, folder: &Path) -> PathBuf {
        match self.log_path.as_str() {
            // A listener without a name is called like its address, which may be a path.
            "" => folder.join(format!("{}_access.log", listener.replace('/', "_"))),
            path => path.into(),
        }
    }
}
