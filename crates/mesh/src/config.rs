//! What is wrong with a configuration, for whoever reads the file.

use std::fmt;

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where: a path such as `virtual_hosts[0].routers[2].match.regex`, relative to what was built.
    pub path: String,
    /// What was found, and what is accepted.
    pub message: String,
}

/// A key of upstream's schema that no field takes.
#[derive(Debug, Clone, Copy)]
pub struct OtherKey {
    /// Its path under the struct that it belongs to, with `[]` for elements: `hosts[].metadata`.
    pub path: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// Why, for the reference page: a few words.
    pub why: &'static str,
}

impl OtherKey {
    /// Whether this is the key at `path`, such as `hosts[3].metadata`.
    pub fn is(&self, path: &str) -> bool {
        self.is_under("", path)
    }

    /// The same where the struct stands at `parent`, such as `clusters[]`.
    pub fn is_under(&self, parent: &str, path: &str) -> bool {
        let path = pattern(path);
        if parent.is_empty() {
            return path.eq_ignore_ascii_case(self.path);
        }
        path.eq_ignore_ascii_case(&format!("{parent}.{}", self.path))
    }
}

/// `hosts[3].address` as `hosts[].address`.
fn pattern(path: &str) -> String {
    let mut inside = false;
    let outside = path.chars().filter(|character| {
        inside = match character {
            '[' => true,
            ']' => false,
            _ => inside,
        };
        !inside || *character == '['
    });
    outside.collect()
}

/// What becomes of a key that no field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It means nothing here; nobody needs to hear of it.
    Ignored,
    /// It asks for something that is not built: `start` warns, `check` fails.
    Later,
}

impl ConfigError {
    /// An error at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }

    /// The same error, seen from one level above.
    #[must_use]
    pub fn under(mut self, parent: &str) -> Self {
        self.path = match self.path.as_str() {
            "" => parent.to_owned(),
            path if parent.is_empty() => path.to_owned(),
            path if path.starts_with('[') => format!("{parent}{path}"),
            path => format!("{parent}.{path}"),
        };
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

impl std::error::Error for ConfigError {}
