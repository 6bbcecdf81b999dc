//! Errors of the operating system in the words of the Go runtime, which clients may match.

use std::io;

/// The text of `error`: lower case, without a number.
pub(crate) fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn texts_are_those_of_go() {
        for (errno, expected) in [
            (Errno::CONNREFUSED, "connection refused"),
            (Errno::CONNRESET, "connection reset by peer"),
            (Errno::NOENT, "no such file or directory"),
            (Errno::HOSTUNREACH, "no route to host"),
        ] {
            assert_eq!(os_text(&io::Error::from(errno)), expected);
        }
    }
}
