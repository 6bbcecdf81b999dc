//! Writes a line of an access log: whatever a client sends, it is one line of bounded length.
//!
//! The first line of an input is the format, also read as the rule of when files are put aside; the
//! second the request's target; the rest are headers of both the request and the reply.

#![no_main]

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Request, Response};
use layotto_mesh::{
    access_log::{Format, Roller, fuzzing},
    exchange::Exchange,
    variable::End,
};
use libfuzzer_sys::fuzz_target;

/// What values may add to the format's own text.
const MAX_VALUES: usize = 16 << 10;
/// The most that is written for a value once the line is full, or for one of the exchange.
const MAX_OF_VALUE: usize = 64;
const END: End = End {
    status: 200,
    took: Duration::from_millis(12),
};

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|byte| *byte == b'\n');
    let text = String::from_utf8_lossy(lines.next().unwrap_or_default());
    if let Ok(roller) = Roller::parse(&text) {
        assert!(
            roller.max_bytes != Some(0) && roller.every_hours.is_none_or(|hours| (1..=24).contains(&hours))
        );
        assert!(roller.keep != Some(0) && roller.age != Some(Duration::ZERO));
    }
    let target = lines.next().unwrap_or_default();
    let (mut request, _) = Request::new(()).into_parts();
    if let Ok(target) = target.try_into() {
        request.uri = target;
    }
    let (mut response, _) = Response::new(()).into_parts();
    for line in lines.take(32) {
        if let Some((name, value)) = field(line) {
            request.headers.append(name.clone(), value.clone());
            response.headers.append(name, value);
        }
    }
    let format = Format::parse(&text);
    assert!(format.unknown().iter().all(|name| !name.contains('%')));
    let exchange = Exchange::begin(Arc::from("web"), None);
    let line = fuzzing::line(&format, &request, &response, &exchange, END);

    let variables = text.matches('%').count() / 2;
    assert!(line.len() <= text.len() + MAX_VALUES + variables * MAX_OF_VALUE + 1);
    let (line, end) = line.split_at(line.len() - 1);
    assert_eq!(end, "\n");
    let own = |char: &char| text.contains(*char);
    assert!(
        line.chars().filter(|char| !own(char)).all(is_harmless),
        "{line:?}"
    );
});

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let mut parts = line.splitn(2, |byte| *byte == b':');
    let name = HeaderName::from_bytes(parts.next()?).ok()?;
    Some((name, HeaderValue::from_bytes(parts.next()?).ok()?))
}

/// What can neither end a line, nor forge one, nor move a terminal.
fn is_harmless(char: char) -> bool {
    let turns = matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !char.is_control() && !matches!(char, '\u{2028}' | '\u{2029}') && !turns
}
