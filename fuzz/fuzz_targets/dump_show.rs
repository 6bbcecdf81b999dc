//! Shows a dump: whatever the file, what is printed does nothing to a terminal and stays in
//! proportion to the file.
//!
//! The first byte says how payloads are printed; the rest is the file.

#![no_main]

use layotto::cli::fuzzing::shown;
use libfuzzer_sys::fuzz_target;

/// What a line may add beside its bytes: its heading, those of its frames, and fields that are
/// spelled out from few bytes.
const MAX_OF_LINE: usize = 2 << 20;
/// What a byte of the file becomes at most.
const MAX_OF_BYTE: usize = 512;

fuzz_target!(|input: &[u8]| {
    let Some((style, file)) = input.split_first() else {
        return;
    };
    let Some(out) = shown(file, *style == b't', *style == b'h') else {
        return;
    };
    let lines = file.split(|byte| *byte == b'\n').count();
    assert!(out.len() <= lines * MAX_OF_LINE + file.len() * MAX_OF_BYTE);
    let text = String::from_utf8(out).expect("text");
    assert!(!text.chars().any(disturbs), "{text:?}");
    assert!(text.starts_with("window "));
});

fn disturbs(char: char) -> bool {
    let turns = matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || char.is_control() && !matches!(char, '\n' | '\t')
}
