//! Compares what a command printed with what a document shows.

/// Stands for any text within a line; alone on a line, for any number of lines.
const ANYTHING: char = '…';

/// Whether `actual` is what `expected` shows. White space at line ends and around the whole does
/// not count.
pub fn matches(expected: &str, actual: &str) -> bool {
    let lines = |text: &str| {
        text.trim()
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
    };
    lines_match(&lines(expected), &lines(actual))
}

fn lines_match(expected: &[String], actual: &[String]) -> bool {
    match (expected.split_first(), actual.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first.trim() == ANYTHING.to_string() => {
            (0..=actual.len()).any(|skipped| lines_match(rest, actual.split_at(skipped).1))
        }
        (Some((first, rest)), Some((line, others))) => line_matches(first, line) && lines_match(rest, others),
        _ => false,
    }
}

fn line_matches(expected: &str, actual: &str) -> bool {
    let mut parts = expected.split(ANYTHING);
    let Some(mut rest) = parts.next().and_then(|first| actual.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_text_matches_whatever_ends_its_lines() {
        assert!(matches("a\nb\n", "a  \nb\n\n"));
        assert!(!matches("a\nb", "a"));
        assert!(!matches("a", "a\nb"));
    }

    #[test]
    fn an_ellipsis_stands_for_anything_within_a_line() {
        assert!(matches("{\"etag\":\"…\",\"n\":1}", "{\"etag\":\"77\",\"n\":1}"));
        assert!(matches("…ms", "12ms"));
        assert!(matches("a…b…c", "abc"));
        assert!(!matches("a…b", "a-c"));
        assert!(!matches("{…}", "{\n}"));
    }

    #[test]
    fn an_ellipsis_alone_stands_for_any_lines() {
        assert!(matches("a\n…\nd", "a\nb\nc\nd"));
        assert!(matches("a\n…\nd", "a\nd"));
        assert!(!matches("a\n…\nd", "a\nb"));
    }
}
