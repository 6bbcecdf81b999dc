//! Names of nodes for keys.

/// Begins a byte that is written as two hexadecimal digits.
const ESCAPE: char = '\u{241B}';

/// The name of the node for `key`: the key itself where ZooKeeper takes it, as Go Layotto does. A
/// slash, which there would lead to a node under another, and what ZooKeeper refuses, are written
/// byte by byte behind a `␛`; so is the `␛` itself.
pub(crate) fn node(key: &str) -> String {
    let is_reserved = matches!(key, "." | ".." | "zookeeper");
    let mut name = String::with_capacity(key.len());
    for (at, character) in key.char_indices() {
        if is_legal(character) && !(is_reserved && at == 0) {
            name.push(character);
            continue;
        }
        let mut bytes = [0; 4];
        for byte in character.encode_utf8(&mut bytes).bytes() {
            name.push_str(&format!("{ESCAPE}{byte:02X}"));
        }
    }
    name
}

/// Whether the server takes `character`; beyond the first plane it sees surrogates, which it refuses.
fn is_legal(character: char) -> bool {
    !matches!(
        character,
        '/' | ESCAPE
            | '\u{0}'..='\u{1F}'
            | '\u{7F}'..='\u{9F}'
            | '\u{E000}'..='\u{F8FF}'
            | '\u{FFF0}'..
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_that_zookeeper_takes_are_names() {
        for key in ["k", "lock|||app1||r", "a b", "a%2Fb", "ключ", "...", "zookeeper2"] {
            assert_eq!(node(key), key);
        }
    }

    // deviation: D115
    #[test]
    fn all_others_have_names_of_their_own() {
        let keys = [
            "a/b",
            "a\u{241B}2Fb",
            "a\u{0}b",
            "/",
            ".",
            "..",
            "zookeeper",
            "a\u{1F600}",
            "\u{E000}",
            "\u{7F}",
        ];
        let names: HashSet<_> = keys.map(node).into();
        assert_eq!(names.len(), keys.len());
        assert!(
            names
                .iter()
                .all(|name| name.chars().all(|c| is_legal(c) || c == ESCAPE))
        );
        assert_eq!(node("a/b"), "a\u{241B}2Fb");
    }

    proptest! {
        #[test]
        fn no_two_keys_share_a_name(a in ".{0,6}", b in ".{0,6}") {
            prop_assert_eq!(node(&a) == node(&b), a == b);
        }
    }
}
