//! What is wrong with a configuration: every finding with file, line and path, in one report.

use std::{cell::RefCell, fmt, sync::Arc};

/// A place in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The file, as it was named on the command line; empty for the built-in configuration.
    pub file: Arc<str>,
    /// The line, from 1; 0 where none applies.
    pub line: u32,
    /// The path, such as `servers[0].listeners[1].address`; empty for the whole file.
    pub path: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        Ok(())
    }
}

/// One thing that is wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// What was found, and what is accepted. Holds no value that may be a secret.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Everything found in one configuration, each list in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What makes the configuration unusable.
    pub errors: Vec<Finding>,
    /// Keys that nothing reads: a warning at the start, an error of a check.
    pub unknown: Vec<Finding>,
    /// What upstream knows and this build does not do yet: as for unknown keys.
    pub unsupported: Vec<Finding>,
    /// Advice; never fails a check.
    pub advice: Vec<Finding>,
}

impl Report {
    /// Whether a check has nothing to complain about.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.unknown.is_empty() && self.unsupported.is_empty()
    }

    /// Whether the configuration can be used.
    pub fn is_usable(&self) -> bool {
        self.errors.is_empty()
    }

    /// What the start warns of, each with what it is: everything but the errors.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.unknown.iter().chain(&self.unsupported).chain(&self.advice)
    }

    fn sort(&mut self) {
        let lists = [
            &mut self.errors,
            &mut self.unknown,
            &mut self.unsupported,
            &mut self.advice,
        ];
        for list in lists {
            list.sort_by_key(|finding| finding.place.line);
        }
    }
}

/// One finding a line: the errors, then what would fail a check, then the advice.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labelled = [
            ("error", &self.errors),
            ("unknown key", &self.unknown),
            ("not supported yet", &self.unsupported),
            ("advice", &self.advice),
        ];
        for (label, list) in labelled {
            for finding in list {
                writeln!(f, "{label}: {finding}")?;
            }
        }
        Ok(())
    }
}

/// Collects findings while a file is read.
#[derive(Debug, Default)]
pub(super) struct Findings(RefCell<Report>);

impl Findings {
    pub(super) fn error(&self, place: Place, message: impl Into<String>) {
        let message = message.into();
        self.0.borrow_mut().errors.push(Finding { place, message });
    }

    pub(super) fn unknown(&self, place: Place, message: impl Into<String>) {
        let message = message.into();
        self.0.borrow_mut().unknown.push(Finding { place, message });
    }

    pub(super) fn unsupported(&self, place: Place, message: impl Into<String>) {
        let message = message.into();
        self.0.borrow_mut().unsupported.push(Finding { place, message });
    }

    pub(super) fn advise(&self, place: Place, message: impl Into<String>) {
        let message = message.into();
        self.0.borrow_mut().advice.push(Finding { place, message });
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.0.borrow().errors.is_empty()
    }

    pub(super) fn into_report(self) -> Report {
        let mut report = self.0.into_inner();
        report.sort();
        report
    }
}
