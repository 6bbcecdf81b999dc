//! The code fences of a markdown document.

/// A fenced block of code.
#[derive(Debug, PartialEq, Eq)]
pub struct Fence {
    /// The first word of the info string.
    pub language: String,
    /// The other words of the info string.
    pub words: Vec<String>,
    /// The text between the fences, each line ended by a line feed.
    pub body: String,
    /// The line of the opening fence, from 1.
    pub line: usize,
}

/// Every fence of the document; one that is never closed ends with the document.
pub fn parse(document: &str) -> Vec<Fence> {
    let mut fences = Vec::new();
    let mut open: Option<(Fence, &str, usize)> = None;
    for (at, line) in document.lines().enumerate() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        match open.take() {
            Some((fence, marker, _)) if closes(text, marker) => fences.push(fence),
            Some((mut fence, marker, width)) => {
                fence.body.push_str(without_indent(line, width));
                fence.body.push('\n');
                open = Some((fence, marker, width));
            }
            None => open = opening(text).map(|(marker, info)| (fence(info, at + 1), marker, indent)),
        }
    }
    fences.extend(open.map(|(fence, ..)| fence));
    fences
}

fn fence(info: &str, line: usize) -> Fence {
    let mut words = info.split_whitespace().map(str::to_owned);
    let language = words.next().unwrap_or_default();
    Fence {
        language,
        words: words.collect(),
        body: String::new(),
        line,
    }
}

/// The marker that a line opens a fence with, and its info string.
fn opening(text: &str) -> Option<(&str, &str)> {
    let first = text.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let info = text.trim_start_matches(first);
    let (marker, _) = text.split_at(text.len() - info.len());
    let is_fence = marker.len() >= 3 && !(first == '`' && info.contains('`'));
    is_fence.then_some((marker, info))
}

fn closes(text: &str, marker: &str) -> bool {
    let text = text.trim_end();
    text.len() >= marker.len() && text.starts_with(marker) && text.chars().all(|c| marker.starts_with(c))
}

/// `line` without its first `width` bytes of white space; a fence in a list is indented.
fn without_indent(line: &str, width: usize) -> &str {
    let available = line.len() - line.trim_start_matches(' ').len();
    line.split_at(available.min(width)).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_have_a_language_words_and_a_place() {
        let fences = parse("# x\n```sh run repo\na\n\nb\n```\ntext\n~~~\n```\n~~~\n");
        assert_eq!(fences.len(), 2);
        assert_eq!(fences[0].language, "sh");
        assert_eq!(fences[0].words, ["run", "repo"]);
        assert_eq!(fences[0].body, "a\n\nb\n");
        assert_eq!(fences[0].line, 2);
        assert_eq!(fences[1].body, "```\n");
    }

    #[test]
    fn inline_code_is_not_a_fence() {
        assert_eq!(parse("```x``` y\n"), []);
    }

    #[test]
    fn the_indent_of_a_fence_is_taken_off_its_lines() {
        let fences = parse("1. do\n   ```sh run\n   a\n     b\n   ```\n");
        assert_eq!(fences[0].body, "a\n  b\n");
    }

    #[test]
    fn a_longer_fence_holds_a_shorter_one() {
        let fences = parse("````text\n```sh run\nx\n```\n````\n");
        assert_eq!(fences.len(), 1);
        assert_eq!(fences[0].body, "```sh run\nx\n```\n");
    }
}
