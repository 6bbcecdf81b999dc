//! Values of a line: what a client sends cannot end the line, forge another, or move a terminal.

/// The longest value, in bytes; the rest is cut.
const MAX_VALUE: usize = 4096;

/// The longest line, in bytes, beyond its own text.
const MAX_LINE: usize = 16 << 10;

/// Adds `value` to a line; control characters, quotes and backslashes as escapes.
pub(super) fn push(line: &mut String, value: &str) {
    if value.is_empty() {
        return line.push('-');
    }
    let end = (line.len() + MAX_VALUE).min(MAX_LINE);
    for character in value.chars() {
        if line.len() >= end {
            return line.push('…');
        }
        match character {
            '"' | '\\' => line.extend(['\\', character]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            _ if is_harmless(character) => line.push(character),
            _ => line.extend(character.escape_unicode()),
        }
    }
}

/// Whether it neither controls, nor separates lines, nor reorders text.
fn is_harmless(character: char) -> bool {
    let reorders =
        matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !character.is_control() && !matches!(character, '\u{2028}' | '\u{2029}') && !reorders
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(value: &str) -> String {
        let mut line = String::new();
        push(&mut line, value);
        line
    }

    #[test]
    fn what_could_forge_a_line_is_escaped() {
        for (value, expected) in [
            ("", "-"),
            ("plain über", "plain über"),
            ("a\r\nb", "a\\r\\nb"),
            ("\u{1b}[31m", "\\u{1b}[31m"),
            ("\"\\", "\\\"\\\\"),
            ("a\u{85}b\u{2028}c", "a\\u{85}b\\u{2028}c"),
            ("\u{202e}gpj", "\\u{202e}gpj"),
            ("\0\u{7f}", "\\u{0}\\u{7f}"),
        ] {
            assert_eq!(escaped(value), expected);
        }
    }

    #[test]
    fn long_values_and_lines_are_cut() {
        let long = "é".repeat(10_000);
        assert!(escaped(&long).len() <= MAX_VALUE + 4);
        let mut line = String::new();
        for _ in 0..10 {
            push(&mut line, &long);
        }
        assert!(line.len() <= MAX_LINE + 10 * 4);
    }

    proptest! {
        #[test]
        fn no_value_holds_a_line_end_or_control_once_written(value in any::<String>()) {
            let escaped = escaped(&value);
            prop_assert!(!escaped.is_empty());
            prop_assert!(!escaped.chars().any(char::is_control));
            let separates = escaped.contains(['\u{2028}', '\u{2029}', '\u{202e}']);
            prop_assert!(!separates);
        }

        #[test]
        fn two_values_are_never_written_alike(a in "[\\x00-\\x7f]{1,9}", b in "[\\x00-\\x7f]{1,9}") {
            prop_assert_eq!(a == b, escaped(&a) == escaped(&b));
        }
    }
}
