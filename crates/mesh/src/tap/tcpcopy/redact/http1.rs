//! HTTP/1: blanks the values of hidden headers wherever a line begins with one, be it in a head,
//! a trailer or a body. Without knowing where a body ends it cannot hide too little.

use crate::tap::tcpcopy::hpack::HiddenNames;

/// What stands for each byte of a value.
const BLANK: u8 = b'*';

/// What only HTTP/2 begins with.
const HTTP2: &[u8] = b"PRI";

/// Follows the lines of a connection.
#[derive(Debug)]
pub(super) struct Lines {
    hidden: HiddenNames,
    place: Place,
    /// What the line may be named, in `Place::Name`.
    name: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Bytes were missed.
    Unknown,
    /// Where a line's name may be; with a space behind it or not.
    Name { spaced: bool },
    /// In the rest of a line that may be shown.
    Shown,
    /// In the value of a hidden header.
    Hidden,
    /// Behind the end of such a value's line: it goes on if the next one begins with a space.
    HiddenEnd,
}

const LINE_START: Place = Place::Name { spaced: false };

impl Lines {
    pub(super) fn new(hidden: HiddenNames) -> Self {
        Self {
            hidden,
            place: LINE_START,
            name: Vec::new(),
        }
    }

    /// Says that bytes are missed.
    pub(super) fn skip(&mut self) {
        self.place = Place::Unknown;
    }

    /// Appends `bytes` to `copy`, without the hidden values. After a gap nothing is shown until a
    /// read begins with a request.
    pub(super) fn copy(&mut self, bytes: &[u8], copy: &mut Vec<u8>) {
        if self.place == Place::Unknown {
            if !begins_request(bytes) {
                return;
            }
            self.start_line();
        }
        let mut rest = bytes;
        while let Some((byte, behind)) = rest.split_first() {
            if self.place == Place::Shown {
                rest = self.show(rest, copy);
                continue;
            }
            copy.push(self.next(*byte));
            if self.place == Place::Unknown {
                return;
            }
            rest = behind;
        }
    }

    /// Shows the rest of a line; returns what is behind it.
    fn show<'a>(&mut self, bytes: &'a [u8], copy: &mut Vec<u8>) -> &'a [u8] {
        let end = memchr::memchr(b'\n', bytes).map(|end| end + 1);
        let (shown, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        copy.extend_from_slice(shown);
        if end.is_some() {
            self.start_line();
        }
        rest
    }

    fn start_line(&mut self) {
        self.place = LINE_START;
        self.name.clear();
    }

    fn next(&mut self, byte: u8) -> u8 {
        if self.place == Place::HiddenEnd {
            match byte {
                b' ' | b'\t' => self.place = Place::Hidden,
                _ => self.start_line(),
            }
        }
        match (self.place, byte) {
            (Place::Hidden, b'\n') => self.place = Place::HiddenEnd,
            (Place::Hidden, b'\r' | b' ' | b'\t') => {}
            (Place::Hidden, _) => return BLANK,
            (_, b'\n') => self.start_line(),
            (Place::Name { spaced }, _) => self.place = self.name_byte(byte, spaced),
            (Place::Shown | Place::HiddenEnd | Place::Unknown, _) => {}
        }
        byte
    }

    fn name_byte(&mut self, byte: u8, spaced: bool) -> Place {
        match byte {
            b':' if self.hidden.contains(&self.name) => Place::Hidden,
            // Some servers accept a space before the colon.
            b' ' | b'\t' if self.name == HTTP2 => Place::Unknown,
            b' ' | b'\t' if !self.name.is_empty() => Place::Name { spaced: true },
            b':' | b' ' | b'\t' => Place::Shown,
            _ if spaced || self.name.len() >= self.hidden.longest().max(HTTP2.len()) => Place::Shown,
            _ => {
                self.name.push(byte);
                Place::Name { spaced: false }
            }
        }
    }
}

/// Whether `bytes` begin with the first line of a request.
fn begins_request(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let line = lines.next().unwrap_or_default().trim_ascii_end();
    bytes.first().is_some_and(u8::is_ascii_uppercase)
        && (line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0"))
}
