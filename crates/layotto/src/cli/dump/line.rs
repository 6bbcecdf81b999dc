//! The lines of dump files: what a logger wrote, `[window][port]` or the like, and the data.

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) time: &'a str,
    pub(super) window: &'a str,
    pub(super) port: Option<u16>,
    pub(super) what: What<'a>,
}

/// What it tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What<'a> {
    /// Bytes of a connection.
    Traffic(Vec<u8>),
    /// Part of the runtime, and JSON.
    Portrait(&'a str, &'a str),
    /// The configuration.
    Memory(&'a str),
}

impl<'a> Line<'a> {
    /// Reads a line; nothing where it is none of a dump.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?.trim_end_matches(['\r', '\n']);
        let (time, rest) = line.split_once(" [")?;
        if !is_time(time) {
            return None;
        }
        let (_level, rest) = rest.split_once("] ")?;
        let (window, rest) = bracketed(rest)?;
        let (port, what) = match bracketed(rest) {
            None => (None, What::Memory(rest)),
            Some((first, rest)) => match (first.parse().ok(), bracketed(rest)) {
                (Some(port), _) => (Some(port), What::Traffic(unhex(rest)?)),
                (None, Some((port, json))) if is_word(first) => {
                    (Some(port.parse().ok()?), What::Portrait(first, json))
                }
                (None, _) => return None,
            },
        };
        let line = Self {
            time,
            window,
            port,
            what,
        };
        Some(line).filter(|line| is_word(line.window))
    }
}

fn bracketed(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('[')?.split_once(']')
}

fn is_time(text: &str) -> bool {
    text.len() == 23
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b"-:, ".contains(&byte))
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Bytes of two digits each, with spaces between.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some((digit(*high)? << 4 | digit(*low)?) as u8),
        _ => None,
    };
    match text.trim() {
        "" => Some(Vec::new()),
        text => text.as_bytes().split(|byte| *byte == b' ').map(byte).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, What};

    fn parse(line: &str) -> Option<Line<'_>> {
        Line::parse(line.as_bytes())
    }

    #[test]
    fn reads_the_lines_of_the_three_files() {
        let line = parse("2026-11-26 10:00:00,123 [INFO] [a-b][34904]50 52 49 ff\n").unwrap();
        assert_eq!(
            (line.time, line.window, line.port),
            ("2026-11-26 10:00:00,123", "a-b", Some(34904))
        );
        assert_eq!(line.what, What::Traffic(vec![0x50, 0x52, 0x49, 0xff]));
        let line = parse("2026-11-26 10:00:00,123 [INFO] [a-b][STATE][34904]{\"a\":[1]}").unwrap();
        assert_eq!(
            (line.port, line.what),
            (Some(34904), What::Portrait("STATE", "{\"a\":[1]}"))
        );
        let line = parse("2026-11-26 10:00:00,123 [INFO] [a-b]no_change").unwrap();
        assert_eq!((line.port, line.what), (None, What::Memory("no_change")));
    }

    #[test]
    fn refuses_what_is_no_line_of_a_dump() {
        for line in [
            "",
            "[a-b][1]00",
            "2026-11-26 10:00:00,123 [INFO] text",
            "2026-11-26 10:00:00,123 [INFO] [a-b][1]0g",
            "2026-11-26 10:00:00,123 [INFO] [a-b][1]000",
            "2026-11-26 10:00:00,123 [INFO] [a-b][1]00 0",
            "2026-11-26 10:00:00,123 [INFO] [a-b][STATE][x]{}",
            "2026-11-26 10:00:00,123 [INFO] [a\u{1b}][1]00",
            "2026-11-26 10:00:00,123 [INFO] [a-b][STATE\u{1b}][1]{}",
            "yesterday at 10 o'clock [INFO] [a-b][1]00",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
        assert_eq!(Line::parse(b"\xff\xfe"), None);
    }
}
