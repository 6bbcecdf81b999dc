//! Paths as routes see them: percent-decoded once, with dot segments resolved and slashes merged,
//! so that no way of writing a path gets around the route that is meant for it.
//!
//! A request leaves with its path as the client wrote it, except where that has dot segments or the
//! route rewrites it: then what was matched is what is sent. `%2F` is `/` to routes, since servers
//! read it so; a server that does not still gets it as it was sent. Nothing is decoded twice.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What cannot stand in a path, or means something else there.
const UNSAFE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A path as routes see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path<'a> {
    raw: &'a str,
    text: Cow<'a, str>,
    /// Whether `text` is `raw` but for percent-encoding.
    faithful: bool,
    /// Whether dot segments were resolved.
    had_dots: bool,
}

impl<'a> Path<'a> {
    /// The path that a request has as `raw`.
    pub(super) fn of(raw: &'a str) -> Self {
        if !raw.contains('%') && !raw.contains("//") && !raw.contains("/.") {
            return Self {
                raw,
                text: Cow::Borrowed(raw),
                faithful: true,
                had_dots: false,
            };
        }
        let bytes = Cow::from(percent_decode_str(raw));
        let decoded = String::from_utf8_lossy(&bytes);
        let text = normal(&decoded);
        Self {
            raw,
            faithful: matches!(decoded, Cow::Borrowed(_)) && decoded == text.as_str(),
            had_dots: decoded.split('/').any(is_dots),
            text: Cow::Owned(text),
        }
    }

    /// A path that is decoded already.
    pub(super) fn of_decoded(text: &'a str) -> Self {
        let rooted = match text.starts_with('/') {
            true => normal(text),
            false => normal(&format!("/{text}")),
        };
        Self {
            raw: text,
            text: Cow::Owned(rooted),
            faithful: false,
            had_dots: text.split('/').any(is_dots),
        }
    }

    /// The path.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether dot segments were resolved.
    pub(super) fn had_dots(&self) -> bool {
        self.had_dots
    }

    /// What follows the first `len` bytes of the text, encoded: as the client did where possible.
    pub(super) fn rest(&self, len: usize) -> Cow<'_, str> {
        let rest = self.text.get(len..).unwrap_or_default();
        match self.faithful {
            true => self.raw_rest(len).map_or_else(|| encode(rest), Cow::Borrowed),
            false => encode(rest),
        }
    }

    /// `raw` after so much of it as decodes to `len` bytes.
    fn raw_rest(&self, len: usize) -> Option<&str> {
        let mut rest = self.raw.as_bytes();
        for _ in 0..len {
            rest = match rest {
                [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
                [_, tail @ ..] => tail,
                [] => return None,
            };
        }
        std::str::from_utf8(rest).ok()
    }
}

/// `path`, percent-encoded where it has to be.
pub(super) fn encode(path: &str) -> Cow<'_, str> {
    utf8_percent_encode(path, UNSAFE).into()
}

fn is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

/// Resolves dot segments and merges slashes. What does not begin with a slash is no path (`*`).
fn normal(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let is_folder = path
        .rsplit('/')
        .next()
        .is_some_and(|last| last.is_empty() || is_dots(last));
    let end = if is_folder && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_way_to_write_a_path_is_the_same_path() {
        for (raw, text) in [
            ("/a/b", "/a/b"),
            ("/%61/b", "/a/b"),
            ("//a///b", "/a/b"),
            ("/x/../a/./b", "/a/b"),
            ("/x/%2e%2E/a/b", "/a/b"),
            ("/x%2f..%2Fa/b", "/a/b"),
            ("/../../a", "/a"),
            ("/a/", "/a/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/", "/"),
            ("//", "/"),
            ("*", "*"),
            ("", ""),
            ("/.hidden/...", "/.hidden/..."),
        ] {
            assert_eq!(Path::of(raw).text(), text, "{raw}");
        }
    }

    #[test]
    fn nothing_is_decoded_twice() {
        assert_eq!(Path::of("/a%252e%252e/b").text(), "/a%2e%2e/b");
        assert_eq!(Path::of("/100%/%zz").text(), "/100%/%zz");
    }

    #[test]
    fn what_follows_a_prefix_stays_as_the_client_wrote_it() {
        assert_eq!(Path::of("/api/a%2Fb%20c").rest(4), "/a%2Fb%20c");
        assert_eq!(Path::of("/%61pi/a%2Fb").rest(4), "/a%2Fb");
        assert_eq!(Path::of("/api/x%2f..%2fy%20").rest(4), "/y%20");
        assert_eq!(Path::of("/api").rest(4), "");
    }

    proptest! {
        #[test]
        fn no_path_has_dot_segments_or_double_slashes(raw in "/([a.%/]|%2e|%2F|%){0,12}") {
            let path = Path::of(&raw);
            prop_assert!(!path.text().contains("//"), "{}", path.text());
            prop_assert!(!path.text().split('/').any(is_dots), "{}", path.text());
        }

        #[test]
        fn an_encoded_path_is_read_back(text in "/[a-z]?\\PC{0,8}") {
            let text = normal(&text);
            let encoded = encode(&text);
            let path = Path::of(&encoded);
            prop_assert_eq!(path.text(), text.as_str());
        }
    }
}
