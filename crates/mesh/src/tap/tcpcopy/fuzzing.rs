//! A door for fuzz targets; there only when they are built.

use super::{hpack::HiddenNames, redact};

/// What of a connection may be written down.
#[derive(Debug)]
pub struct Redactor(redact::Redactor);

impl Redactor {
    /// Hides the values of these headers.
    pub fn new(hidden: HiddenNames) -> Self {
        Self(redact::Redactor::new(hidden))
    }

    /// Follows bytes that are not written down.
    pub fn skip(&mut self, bytes: &[u8]) {
        self.0.skip(bytes);
    }

    /// What of `bytes` may be written down.
    pub fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.copy(bytes)
    }
}
