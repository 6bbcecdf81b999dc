//! Bytes of a connection, for people to read. What is printed never holds a control character.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use layotto_mesh::tap::tcpcopy::{
    hpack::{Decoder, Field, HiddenNames},
    http2::{END_STREAM, HEAD, Head, Kind, PREFACE},
};

/// The longest frame that is believed to be one.
const MAX_FRAME: usize = 1024 * 1024;

/// The longest list of fields that is printed of one block, in bytes: a few bytes may stand for very
/// many.
const MAX_FIELDS: usize = 256 * 1024;

const BYTES_OF_LINE: usize = 16;

/// How payloads are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// As text where they are text, else as bytes.
    Auto,
    Text,
    Hex,
}

/// Prints what was read at once, each line behind `indent`.
pub(super) fn view(bytes: &[u8], style: Style, indent: &str, out: &mut impl Write) -> io::Result<()> {
    let rest = match bytes.strip_prefix(PREFACE) {
        Some(rest) => {
            writeln!(out, "{indent}HTTP/2 preface")?;
            rest
        }
        None => bytes,
    };
    if are_frames(rest) {
        return frames(rest, style, indent, out);
    }
    match rest.windows(4).position(|window| window == b"\r\n\r\n") {
        Some(end) if is_text(&rest[..end]) && style != Style::Hex => {
            text(&rest[..end], indent, out)?;
            writeln!(out)?;
            payload(&rest[end + 4..], style, indent, out)
        }
        _ => payload(rest, style, indent, out),
    }
}

/// Whether the bytes are frames of HTTP/2, the last one perhaps cut.
fn are_frames(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(head) = Head::first(rest) {
        let fits = match head.kind {
            Kind::Settings | Kind::Ping | Kind::GoAway => head.stream == 0,
            Kind::WindowUpdate | Kind::Other(_) => true,
            _ => head.stream > 0,
        };
        if !fits
            || head.length > MAX_FRAME
            || (rest.len() == bytes.len() && matches!(head.kind, Kind::Other(_)))
        {
            return false;
        }
        rest = rest.get(HEAD + head.length..).unwrap_or_default();
    }
    bytes.len() >= HEAD && rest.len() < HEAD
}

fn frames(mut bytes: &[u8], style: Style, indent: &str, out: &mut impl Write) -> io::Result<()> {
    let inner = format!("{indent}  ");
    while let Some(head) = Head::first(bytes) {
        let rest = &bytes[HEAD..];
        let (content, behind) = rest.split_at(rest.len().min(head.length));
        let cut = if content.len() < head.length { ", cut" } else { "" };
        let last = match head.kind {
            Kind::Data | Kind::Headers if head.has(END_STREAM) => ", end of stream",
            _ => "",
        };
        let (name, stream, length) = (head.kind.name(), head.stream, head.length);
        writeln!(out, "{indent}{name} stream {stream}, {length} bytes{last}{cut}")?;
        match head.kind {
            Kind::Headers => headers(head, content, &inner, out)?,
            Kind::Data => data(head, content, style, &inner, out)?,
            Kind::Settings | Kind::WindowUpdate | Kind::Ping if style != Style::Hex => {}
            _ => hexdump(content, &inner, out)?,
        }
        bytes = behind;
    }
    if !bytes.is_empty() {
        writeln!(out, "{indent}{} bytes of a frame's head", bytes.len())?;
    }
    Ok(())
}

/// Fields; those that refer to other records have a question mark, as only Layotto's own dumps
/// write them out.
fn headers(head: Head, payload: &[u8], indent: &str, out: &mut impl Write) -> io::Result<()> {
    let (mut lines, mut more) = (String::new(), 0_usize);
    let part = |part: Option<&[u8]>| part.map_or("?".into(), |part| escaped(&String::from_utf8_lossy(part)));
    let mut each = |Field { name, value }: Field<'_>| {
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        if lines.len() + length(name) + length(value) > MAX_FIELDS {
            more += 1;
            return;
        }
        // Writing to a string does not fail.
        writeln!(lines, "{indent}{}: {}", part(name), part(value)).ok();
    };
    let block = head.content(payload).unwrap_or_default();
    let decoded = Decoder::new(HiddenNames::default()).decode(block, &mut each);
    out.write_all(lines.as_bytes())?;
    if more > 0 {
        writeln!(out, "{indent}({more} more fields)")?;
    }
    match decoded {
        Ok(()) => Ok(()),
        Err(error) => writeln!(out, "{indent}({error})"),
    }
}

fn data(head: Head, payload: &[u8], style: Style, indent: &str, out: &mut impl Write) -> io::Result<()> {
    let content = head.content(payload).unwrap_or(payload);
    if let Some((prefix, message)) = content.split_first_chunk::<5>()
        && let [compressed @ (0 | 1), length @ ..] = *prefix
        && u32::from_be_bytes(length) as usize == message.len()
    {
        let how = if compressed == 1 { ", compressed" } else { "" };
        writeln!(out, "{indent}gRPC message, {} bytes{how}", message.len())?;
        // Protobuf's lengths are often line feeds: it would pass for text.
        let style = if style == Style::Auto { Style::Hex } else { style };
        return self::payload(message, style, indent, out);
    }
    self::payload(content, style, indent, out)
}

fn payload(bytes: &[u8], style: Style, indent: &str, out: &mut impl Write) -> io::Result<()> {
    match style {
        Style::Auto if is_text(bytes) => text(bytes, indent, out),
        Style::Text => text(bytes, indent, out),
        Style::Auto | Style::Hex => hexdump(bytes, indent, out),
    }
}

fn is_text(bytes: &[u8]) -> bool {
    let control = |char: char| char.is_control() && !matches!(char, '\r' | '\n' | '\t');
    std::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(control))
}

fn text(bytes: &[u8], indent: &str, out: &mut impl Write) -> io::Result<()> {
    for line in String::from_utf8_lossy(bytes).lines() {
        writeln!(out, "{indent}{}", escaped(line))?;
    }
    Ok(())
}

/// Text that does nothing to a terminal.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        // Marks that turn the direction of text are as misleading as control characters.
        match char.is_control() && char != '\t'
            || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            true => escaped.extend(char.escape_default()),
            false => escaped.push(char),
        }
    }
    escaped
}

fn hexdump(bytes: &[u8], indent: &str, out: &mut impl Write) -> io::Result<()> {
    for (number, line) in bytes.chunks(BYTES_OF_LINE).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = line.iter().map(|byte| printable(*byte)).collect();
        let (offset, hex) = (number * BYTES_OF_LINE, hex.join(" "));
        writeln!(out, "{indent}{offset:06x}  {hex:47}  {text}")?;
    }
    Ok(())
}

fn printable(byte: u8) -> char {
    match byte {
        b' '..=b'~' => char::from(byte),
        _ => '.',
    }
}
