//! Follows where the requests of an HTTP/1 connection begin and end (RFC 9112), and refuses what
//! others might see elsewhere. Stricter than the parser behind it in everything, so what passes
//! means the same to both.

#[cfg(fuzzing)]
pub mod fuzzing;

use std::mem;

/// The longest line that is not part of a head: the size of a chunk and its extensions.
const MAX_CHUNK_LINE: usize = 4096;

/// The longest length that is taken, in digits: decimal ones of `Content-Length`, hexadecimal ones of a
/// chunk's size. Both fit into 63 bits.
const MAX_DECIMAL: usize = 18;
const MAX_HEX: usize = 15;

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between requests.
    Between,
    /// Inside a head, with its number.
    Head(u64),
    /// Inside a body.
    Body,
}

/// Why bytes are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where in the bytes the refused line begins.
    pub(super) at: usize,
    pub(super) reason: &'static str,
}

/// Follows one connection.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
    /// Whether the line is longer than is kept; the parser refuses its head.
    too_long: bool,
    head: Head,
    heads: u64,
    max_head: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    RequestLine,
    Field,
    Data(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
}

/// What a head says of the body behind it.
#[derive(Debug, Default)]
struct Head {
    modern: bool,
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    pub(super) fn new(max_head: usize) -> Self {
        Self {
            state: State::RequestLine,
            line: Vec::new(),
            too_long: false,
            head: Head::default(),
            heads: 0,
            max_head,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::RequestLine if self.line.is_empty() && !self.too_long => Phase::Between,
            State::RequestLine | State::Field => Phase::Head(self.heads),
            _ => Phase::Body,
        }
    }

    /// Takes the next bytes of the connection. After a fault there is no sense in more.
    pub(super) fn check(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = bytes.len() - rest.len();
            rest = match self.state {
                State::Data(left) => self.skip(rest, left, State::Data, State::RequestLine),
                State::ChunkData(left) => self.skip(rest, left, State::ChunkData, State::ChunkEnd),
                _ => self.take_line(rest).map_err(|reason| Fault { at, reason })?,
            };
        }
        Ok(())
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64, more: fn(u64) -> State, then: State) -> &'a [u8] {
        let length = bytes.len().min(left.try_into().unwrap_or(usize::MAX));
        self.state = match left - length as u64 {
            0 => then,
            left => more(left),
        };
        bytes.split_at(length).1
    }

    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], &'static str> {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.keep(bytes)?;
            return Ok(&[]);
        };
        let (line, rest) = bytes.split_at(end + 1);
        if self.line.is_empty() && !self.too_long {
            self.end_line(line)?;
        } else {
            self.keep(line)?;
            let line = mem::take(&mut self.line);
            // Of a line that is too long the end is not known, and the parser refuses its head.
            if !mem::take(&mut self.too_long) {
                self.end_line(&line)?;
            }
        }
        Ok(rest)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        let in_head = matches!(self.state, State::RequestLine | State::Field);
        let max = match self.state {
            State::ChunkEnd => 2,
            _ if in_head => self.max_head,
            _ => MAX_CHUNK_LINE,
        };
        if self.line.len() + bytes.len() <= max {
            self.line.extend_from_slice(bytes);
        } else if in_head {
            self.line = Vec::new();
            self.too_long = true;
        } else {
            return Err("a line in a chunked body is too long");
        }
        Ok(())
    }

    fn end_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = line
            .strip_suffix(b"\r\n")
            .ok_or("a line ends without a carriage return")?;
        self.state = match self.state {
            // Empty lines before a request are ignored (section 2.2).
            State::RequestLine if line.is_empty() => State::RequestLine,
            State::RequestLine => {
                self.head = Head::begin(line);
                State::Field
            }
            State::Field if line.is_empty() => {
                self.heads += 1;
                mem::take(&mut self.head).body()?
            }
            State::Field => {
                self.head.field(line)?;
                State::Field
            }
            State::ChunkSize => match chunk_size(line)? {
                0 => State::Trailer,
                size => State::ChunkData(size),
            },
            State::ChunkEnd if line.is_empty() => State::ChunkSize,
            State::ChunkEnd => return Err("a chunk is longer than its size"),
            State::Trailer if line.is_empty() => State::RequestLine,
            State::Trailer => {
                trailer(line)?;
                State::Trailer
            }
            state @ (State::Data(_) | State::ChunkData(_)) => state,
        };
        Ok(())
    }
}

impl Head {
    fn begin(line: &[u8]) -> Self {
        Self {
            modern: line.ends_with(b"HTTP/1.1"),
            ..Self::default()
        }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.replace(length(value)?).is_some() {
                return Err("there are two content-length fields");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if mem::replace(&mut self.chunked, true) || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("transfer-encoding is other than chunked");
            }
        } else if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
            if !value.iter().all(|byte| is_of_host(*byte)) {
                return Err("host is no host");
            }
        }
        Ok(())
    }

    /// Section 6.3, with nothing left to be guessed.
    fn body(self) -> Result<State, &'static str> {
        if self.hosts > 1 || self.modern && self.hosts == 0 {
            return Err("there is not one host field");
        }
        match (self.chunked, self.length) {
            (true, Some(_)) => Err("there are transfer-encoding and content-length"),
            (true, None) if !self.modern => Err("transfer-encoding does not belong into HTTP/1.0"),
            (true, None) => Ok(State::ChunkSize),
            (false, None | Some(0)) => Ok(State::RequestLine),
            (false, Some(length)) => Ok(State::Data(length)),
        }
    }
}

fn field(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err("a field is folded");
    }
    let colon = memchr::memchr(b':', line).ok_or("a field has no colon")?;
    let (name, value) = line.split_at(colon);
    if name.is_empty() || name.iter().any(|byte| byte.is_ascii_whitespace()) {
        return Err("a field's name is empty or has white space");
    }
    let value = value.strip_prefix(b":").unwrap_or(value);
    Ok((name, trim(value)))
}

/// Without the white space that may stand around a value (section 5): not all that is white.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn trailer(line: &[u8]) -> Result<(), &'static str> {
    let (name, _) = field(line)?;
    let forbidden: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];
    match forbidden.iter().any(|it| name.eq_ignore_ascii_case(it)) {
        true => Err("a trailer is a field that only heads may have"),
        false => Ok(()),
    }
}

fn length(value: &[u8]) -> Result<u64, &'static str> {
    let digits = (1..=MAX_DECIMAL).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    number(value, 10)
        .filter(|_| digits)
        .ok_or("content-length is no length")
}

fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    let end = memchr::memchr(b';', line).unwrap_or(line.len());
    let (size, extensions) = line.split_at(end);
    if extensions.iter().any(|byte| matches!(byte, b'\r' | b'\0')) {
        return Err("an extension of a chunk has a control character");
    }
    let digits = (1..=MAX_HEX).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
    number(size, 16)
        .filter(|_| digits)
        .ok_or("the size of a chunk is no size")
}

fn number(digits: &[u8], base: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, base).ok()
}

/// What may be in a host and port (RFC 3986, section 3.2.2).
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:%[]!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests;
